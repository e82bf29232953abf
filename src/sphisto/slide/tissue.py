"""Where the tissue is in an H&E (or grey) picture: glass, dust and printed marks out, pale fat in.

Glass is smooth and tissue is not. So the picture is first read at about 20 um per pixel, where scanner noise has gone
and texture remains: what is smooth there, and as bright as the largest bright smooth area, is glass. Blurred printed
marks, smears of dye and uneven light are smooth, too, so they fall to the glass. Then, at about 8 um per pixel, the
edge is drawn by colour: a pixel is stained if it absorbs more light than the glass next to it. Pieces that are small,
thin or grey among coloured ones are dropped, gaps narrower than a fat cell are closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from sphisto.core.mask import Mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float32]
    Value = TypeVar("Value", bound=np.generic)

EDGE_UM = 8.0
"""Pixel of the fine grid: a cell nucleus, the finest edge of tissue that matters."""
COARSEST_UM = 16.0
"""Pixel of the fine grid of large pictures: still a quarter of a Visium spot."""
MANY_PIXELS = 2_000_000
"""A picture is large if its fine grid would have more pixels: they take a second or two."""
TEXTURE_UM = 20.0
"""Pixel of the texture grid: scanner noise and dust average out, tissue structure does not."""
WINDOW_UM = 40.0
"""Width (standard deviation) of the window that texture is measured in: a few cells."""
GLASS_SMOOTHING_UM = 100.0
"""The light on the glass varies slowly: the glass colour is smoothed over this width."""
FAT_CELL_UM = 60.0
"""A gap in which no disc of this radius fits is inside tissue: lumina of fat cells are up to about 100 um wide."""
TRIM_UM = 40.0
"""How far the outside may creep back into the notches which closing filled: less than a fat cell."""
PASSAGE_UM = 15.0
"""Only through openings wider than twice this: cracks thinner than that are inside tissue."""
DOT_RADIUS_UM = 75.0
"""Printed marks are discs of 50 um radius and their blur: a piece of tissue is thicker than this somewhere."""
CORE_RADIUS_UM = 65.0
"""A stained piece in which a disc of this radius fits is no single printed mark, speck or hair."""
MIN_PIECE_MM2 = 0.03
"""Smaller stained pieces are dust (a disc of 100 um radius)."""
SURE_PIECE_MM2 = 0.1
"""Larger ones count however thin they are: lacy tissue is a net."""
MIN_HOLE_MM2 = 0.02
"""Smaller holes (a disc of 80 um radius) are vessels, ducts and fat: tissue."""
BUBBLE_MM2 = 0.5
"""Air bubbles in the mounting medium are not larger than this, 0.8 mm wide."""
FRAME_MM = 3.0
"""A printed frame is larger than this; a cluster of crumbs is smaller."""
FRAME_BAND_UM = 400.0
"""Width of the printed frame between the centres of its outer rows: three rows 150 um apart, and tilt."""
DOT_MM2 = (0.004, 0.02)
"""Area of a printed mark, 0.008 mm2, and room for sharp rims and blur."""
FRAME_DOTS = 24
"""Fewer separate dots make no frame."""

STRIP = 2**22
"""Pixels of the picture that are looked at together, a multiple of its width and of the factor it is shrunken by."""

TEXTURE_FLOOR = 0.009
"""Texture (optical density) which is never glass: measured 0.0003-0.008 on glass, 0.010 in the smoothest tissue."""
TEXTURE_NONE = 1e-5
"""Only padding has less texture than this (optical density): it tells nothing about the noise of the picture."""
TEXTURE_CEILING = 0.03
"""Texture which is always tissue, however noisy the glass."""
VOID = 3.8
"""Optical density in all colours (5 of 255 counts) of what is no picture, but black padding."""
BRIGHT = 0.12
"""Glass is no darker than the brightest 2 % of the picture by more than this (optical density)."""
SAME_GLASS = 0.1
"""Smooth areas darker than the main glass by more than this (optical density) are stained: smooth tissue."""
STAIN = (0.02, 0.1)
"""Least and most optical density above the glass that counts as stain: sixteen times the noise of the glass between."""
HALO = 0.1
"""Next to tissue, stain must be this share of the tissue's: dye runs out of it, and lenses blur it."""
COLOURED = 0.3
"""Colour, as a share of stain, of a picture that has any: H&E 0.5-0.9, printed marks and bubbles 0.1-0.3, grey 0."""
GREY = 0.5
"""Pieces with less than this share of the main piece's colour are none of its tissue."""


def find_tissue(rgb: Any, um_per_px: float) -> Mask:
    """Return True where the picture shows tissue.

    Several pieces are kept, holes above 0.02 mm2 stay holes. A picture without any smooth bright area is all tissue,
    one with nothing but smooth area is all glass. Pictures below about 0.5 mm are too small to tell glass in, so they
    are all tissue if they show anything.

    Parameters
    ----------
    rgb
        (y, x, 3) uint8, numpy or lazy; grey pictures have three equal channels.
    um_per_px
        Size of a pixel in um. Up to about 25; the edge is drawn at about 8 um where the picture allows.

    Returns
    -------
    (y, x) mask on the pixels of ``rgb``, in blocks of as many pixels as the edge was drawn at.

    Raises
    ------
    ValueError
        If the picture is not (y, x, 3) uint8 or the pixel size is not a positive number.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.slide.tissue import find_tissue
    >>> picture = np.full((100, 100, 3), 240, np.uint8)
    >>> picture[30:70, 30:70, 1] = np.random.default_rng(0).integers(80, 200, (40, 40))
    >>> mask = find_tissue(picture, um_per_px=20.0)
    >>> bool(mask[50, 50]), bool(mask[5, 5])
    (True, False)
    """
    _check(rgb, um_per_px)
    factor = edge_factor(rgb.shape, um_per_px)
    px = um_per_px * factor
    fine = _optical_density(_shrink_by_strips(rgb, factor))
    step = _factor(TEXTURE_UM / px, fine.shape)
    coarse = _shrink(fine, step)
    glass = _glass(coarse, px * step)
    if not glass.any():
        return Mask(~_void(fine), rgb.shape[:2], (factor, factor))
    local = _grown(_local_glass(coarse, glass, px * step), step, fine.shape[:2])
    stain = np.maximum(fine - local, 0)
    stain[_void(fine)] = 0
    stained = _stained(stain, _grown(glass, step, fine.shape[:2]), px)
    tissue = _in_window(lambda part, colours: _pieces(part, colours, px), stained, stain)
    tissue = _in_window(lambda part, _: _solid(part, px), tissue, stain)
    return Mask(tissue, rgb.shape[:2], (factor, factor))


def edge_factor(shape: tuple[int, ...], um_per_px: float) -> int:
    """Return how many pixels (y, x) of a picture of that shape are averaged before anything is looked at."""
    crowded = min(np.ceil(np.sqrt(shape[0] * shape[1] / MANY_PIXELS)), COARSEST_UM // um_per_px)
    return _factor(max(EDGE_UM / um_per_px, crowded), shape)


def _check(rgb: Any, um_per_px: float) -> None:
    """Raise if the arguments are not a picture and a pixel size."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        msg = f"The picture has shape {rgb.shape} and dtype {rgb.dtype}, expected (y, x, 3) uint8. Convert it first."
        raise ValueError(msg)
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        msg = f"um_per_px is {um_per_px}, expected a positive number: the size of a pixel of the picture in um."
        raise ValueError(msg)


def _factor(ratio: float, shape: tuple[int, ...]) -> int:
    """Return the whole number of pixels to average, at least one and no more than the picture has."""
    return max(1, min(round(ratio), *shape[:2]))


def _shrink(image: NDArray[np.generic], factor: int) -> Floats:
    """Return the means of blocks of ``factor`` x ``factor`` pixels; those that fill no block are left out."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    if factor == 1:
        return image.astype(np.float32)
    sums = image[: rows * factor].reshape(rows, factor, *image.shape[1:]).sum(1, dtype=np.float32)
    sums = sums[:, : columns * factor].reshape(rows, columns, factor, *image.shape[2:]).sum(2)
    return sums / np.float32(factor**2)


def _shrink_by_strips(rgb: Any, factor: int) -> Floats:
    """Return the means of blocks of a picture (y, x, c) that may be lazy, a strip of rows in memory at a time."""
    rows = factor * max(1, STRIP // (factor * rgb.shape[1]))
    whole = max(rgb.shape[0] // factor * factor, 1)
    return np.concatenate([_shrink(np.asarray(rgb[y : y + rows]), factor) for y in range(0, whole, rows)])


def _grown(image: NDArray[Value], factor: int, shape: tuple[int, ...]) -> NDArray[Value]:
    """Return the picture with every pixel repeated, its last row and column continued to ``shape``."""
    grown = image.repeat(factor, 0).repeat(factor, 1)
    rest = [(0, shape[0] - grown.shape[0]), (0, shape[1] - grown.shape[1])] + [(0, 0)] * (image.ndim - 2)
    return np.pad(grown, rest, mode="edge")


def _optical_density(rgb: Floats) -> Floats:
    """Return the natural optical density (y, x, 3): stains add in it."""
    return -np.log((rgb + 1) / 256)


def _norm(vectors: Floats) -> Floats:
    """Return the length of the colour vectors (..., 3)."""
    return np.sqrt((vectors**2).sum(-1))


def _blur(image: Floats, sigma: float) -> Floats:
    """Return the picture (y, x, c) blurred along y and x."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0)[: image.ndim], truncate=3.0)


def _glass(density: Floats, px: float) -> Bools:
    """Return the smooth areas (y, x) that are as bright as the main bright one, and too large for a lumen."""
    label, area = _measure(_smooth(density, px), px)
    colour = np.stack([ndimage.median(density[..., c], label, np.arange(area.size)) for c in range(3)], 1)
    candidate = (_norm(np.maximum(colour - _brightest(density), 0)) < BRIGHT) & (area > MIN_HOLE_MM2)
    if not candidate.any():
        return np.zeros(label.shape, bool)
    # Padding of pure white is a bright smooth area, too: the main one is the darkest of the large ones.
    large = candidate & (area >= 0.2 * area[candidate].max())
    main = colour[large][np.argmax(colour[large].sum(1))]
    return (candidate & (_norm(np.maximum(colour - main, 0)) < SAME_GLASS))[label]


def _smooth(density: Floats, px: float) -> Bools:
    """Return where the texture (y, x) is no more than four times that of the quiet part of the picture."""
    rough = np.sqrt(_blur(((density - _blur(density, WINDOW_UM / px)) ** 2).mean(2), WINDOW_UM / px))
    quiet = rough[(rough < TEXTURE_FLOOR) & (rough > TEXTURE_NONE)]
    if quiet.size < 0.1 * rough.size:
        return rough < TEXTURE_FLOOR
    return rough < np.clip(4 * np.median(quiet), TEXTURE_FLOOR, TEXTURE_CEILING)


def _brightest(density: Floats) -> Floats:
    """Return the density (3,) of the brightest 2 % of the picture, without padding of pure white or black."""
    real = (density > 0).any(2) & ~_void(density)
    return np.percentile(density[real] if real.any() else density.reshape(-1, 3), 2, axis=0)


def _void(density: Floats) -> Bools:
    """Return where the picture (y, x) is black: nothing was scanned there."""
    return density.min(2) > VOID


def _local_glass(density: Floats, glass: Bools, px: float) -> Floats:
    """Return the density (y, x, 3) which the glass next to every pixel has."""
    padding = glass & (density == 0).all(2)
    source = glass if padding.sum() == glass.sum() else glass & ~padding
    row, column = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return _blur(_blur(density, TEXTURE_UM / px)[row, column], GLASS_SMOOTHING_UM / px)


def _stained(stain: Floats, glass: Bools, px: float) -> Bools:
    """Return where the stain (y, x, 3) stands out from the glass, and from the halo of what is next to it."""
    strength = _norm(stain)
    noise = strength[glass & (strength > 0)]
    threshold = np.clip(16 * np.median(noise), *STAIN) if noise.size else STAIN[0]
    halo = ndimage.maximum_filter(strength, 2 * round(FAT_CELL_UM / px) + 1)
    return (strength > np.maximum(threshold, HALO * halo)) & ~glass


def _depth(mask: Bools) -> Floats:
    """Return the distance in pixels to the outside of the mask; beyond the picture its edge continues."""
    return ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]


def _fill(mask: Bools, max_mm2: float, px: float) -> Bools:
    """Return the mask with holes up to an area filled."""
    label, n = ndimage.label(~mask)
    area = np.bincount(label.ravel(), minlength=n + 1) * (px / 1000) ** 2
    return mask | (area < max_mm2)[label]


def _disc(radius: float) -> Bools:
    """Return a disc of a radius in pixels, at least 3 x 3."""
    r = max(1, round(radius))
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    return y**2 + x**2 <= (r + 0.5) ** 2


def _open(mask: Bools, radius: float) -> Bools:
    """Return the part of the mask that discs of a radius in pixels can reach; the outside continues its edge."""
    border = int(np.ceil(radius)) + 1
    wide = np.pad(mask, border, mode="edge")
    reached = ndimage.distance_transform_edt(~(ndimage.distance_transform_edt(wide) > radius)) <= radius
    return reached[border:-border, border:-border]


def _in_window(step: Callable[[Bools, Floats], Bools], mask: Bools, stain: Floats) -> Bools:
    """Return the mask after a step that is run only where the mask is: most of a slide is glass."""
    out = np.zeros(mask.shape, bool)
    if mask.any():
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        window = (slice(max(0, rows[0] - 1), rows[-1] + 2), slice(max(0, columns[0] - 1), columns[-1] + 2))
        out[window] = step(mask[window].copy(), stain[window])
    return out


def _pieces(stained: Bools, stain: Floats, px: float) -> Bools:
    """Return the stained pieces that are tissue, and the crumbs next to them."""
    solid = _fill(stained, MIN_HOLE_MM2 / 4, px)
    band = _frame_band(solid, px)
    if band.any():
        solid &= ~band | _open(solid, DOT_RADIUS_UM / px)
        stained &= solid
    # What a piece encloses belongs to it: the light inside an air bubble is as little tissue as its rim.
    label, area = _measure(_fill(stained, BUBBLE_MM2, px), px)
    label[~stained] = 0
    thick = np.zeros(area.size, bool)
    thick[label[_depth(solid) > CORE_RADIUS_UM / px]] = True
    coloured = _coloured(label, area, stain)
    keep = (area > MIN_PIECE_MM2) & (thick | (area > SURE_PIECE_MM2)) & coloured
    if not keep.any():
        return np.zeros(stained.shape, bool)
    near = ndimage.distance_transform_edt(~keep[label]) <= FAT_CELL_UM / px
    beside = np.zeros(area.size, bool)
    beside[label[near]] = True
    keep |= beside & coloured
    keep[0] = False
    return keep[label]


def _measure(mask: Bools, px: float) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the number of the piece at each pixel (y, x), 0 outside, and the areas in mm2, 0 for the outside."""
    label, n = ndimage.label(mask)
    area = np.bincount(label.ravel(), minlength=n + 1).astype(np.float64) * (px / 1000) ** 2
    area[0] = 0
    return label, area


def _coloured(label: NDArray[np.int32], area: NDArray[np.float64], stain: Floats) -> NDArray[np.bool_]:
    """Return which pieces have colour; all of them if the largest has none, as in a grey picture."""
    strongest = stain.max(2)
    weight = np.bincount(label.ravel(), strongest.ravel(), minlength=len(area))
    colour = np.bincount(label.ravel(), (strongest - stain.min(2)).ravel(), minlength=len(area))
    chroma = colour / np.maximum(weight, 1e-9)
    largest = chroma[np.argmax(area)]
    return (chroma > GREY * largest) | (largest < COLOURED)


def _frame_band(solid: Bools, px: float) -> Bools:
    """Return the band (y, x) that a printed frame of dots takes, nowhere if there is none."""
    band = np.zeros(solid.shape, bool)
    centres = _dots(solid, px)
    if len(centres) < FRAME_DOTS:
        return band
    low, high, width = *np.percentile(centres, [2, 98], axis=0), FRAME_BAND_UM / px
    in_band = ((centres < low + width) | (centres > high - width)).any(1)
    if in_band.mean() < 0.8 or (high - low).max() * px < 1000 * FRAME_MM:
        return band
    margin = DOT_RADIUS_UM / px
    outer = [slice(max(0, round(a - margin)), round(b + margin)) for a, b in zip(low, high, strict=True)]
    inner = [
        slice(round(a + width + margin), max(0, round(b - width - margin))) for a, b in zip(low, high, strict=True)
    ]
    band[tuple(outer)] = True
    band[tuple(inner)] = False
    return band


def _dots(solid: Bools, px: float) -> NDArray[np.float64]:
    """Return the centres (n, 2) of the pieces that have the size and roundness of printed marks."""
    label, area = _measure(solid, px)
    centres = []
    for i, box in enumerate(ndimage.find_objects(label), start=1):
        if not DOT_MM2[0] < area[i] < DOT_MM2[1]:
            continue
        sides = [(s.stop - s.start) * px / 1000 for s in box]
        if max(sides) < 1.5 * min(sides) and area[i] > 0.6 * sides[0] * sides[1]:
            centres.append([0.5 * (s.start + s.stop) for s in box])
    return np.array(centres).reshape(-1, 2)


def _solid(stained: Bools, px: float) -> Bools:
    """Return the stained pieces with gaps up to a fat cell closed, small holes filled and thin shreds left out."""
    air = _open(~stained, FAT_CELL_UM / px)
    passage = ndimage.binary_opening(~stained, _disc(PASSAGE_UM / px))
    air |= ndimage.binary_dilation(air, mask=passage, iterations=max(1, round(TRIM_UM / px)))
    tissue = _fill(~air, MIN_HOLE_MM2, px)
    label, n = ndimage.label(tissue)
    thick = np.zeros(n + 1, bool)
    thick[label[_depth(tissue) > DOT_RADIUS_UM / px]] = True
    thick[0] = False
    return thick[label]
