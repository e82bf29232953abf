"""Where the tissue is in an H&E (or grey) image: glass, dust and printed marks out, pale fat in.

Glass is smooth and tissue is not. So the image is first read at about 20 um per pixel, where scanner noise averages out
and texture remains: what is smooth there, and as bright as the largest bright smooth area, is glass. Blurred printed
marks, smears of dye and uneven light are smooth, too, so they fall to the glass. Then, at about 8 um per pixel, the
edge is drawn by colour: a pixel is stained if it absorbs more light than the glass next to it. Pieces that are small,
thin or grey among coloured ones are dropped, gaps narrower than a fat cell are closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.mask import Mask
from sphisto.slide.config import TissueConfig

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)


def find_tissue(rgb: Any, um_per_px: float, *, config: TissueConfig = TissueConfig()) -> Mask:
    """Return True where the image shows tissue.

    Several pieces are kept, holes above 0.02 mm2 stay holes. An image without any smooth bright area is all tissue,
    one with nothing but smooth area is all glass. Images below about 0.5 mm are too small to recognise glass, so they
    are all tissue if they show anything.

    Parameters
    ----------
    rgb
        (y, x, 3) uint8, numpy or lazy; grey images have three equal channels.
    um_per_px
        Size of a pixel in um. Up to about 25; the edge is drawn at about 8 um where the image allows.

    Returns
    -------
    (y, x) mask on the pixels of ``rgb``, in blocks of as many pixels as the edge was drawn at.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.slide.tissue import find_tissue
    >>> image = np.full((100, 100, 3), 240, np.uint8)
    >>> image[30:70, 30:70, 1] = np.random.default_rng(0).integers(80, 200, (40, 40))
    >>> mask = find_tissue(image, um_per_px=20.0)
    >>> bool(mask[50, 50]), bool(mask[5, 5])
    (True, False)
    """
    _check(rgb, um_per_px)
    factor = edge_factor(rgb.shape, um_per_px, config=config)
    px = um_per_px * factor
    fine = -np.log((_shrink_by_strips(rgb, factor, config) + 1) / 256)  # natural optical density: stains add in it
    step = _factor(config.texture_um / px, fine.shape)
    coarse = _shrink(fine, step)
    glass = _glass(coarse, px * step, config)
    if not glass.any():
        return Mask(~_void(fine, config), rgb.shape[:2], (factor, factor))
    local = _grown(_local_glass(coarse, glass, px * step, config), step, fine.shape[:2])
    stain = np.maximum(fine - local, 0)
    stain[_void(fine, config)] = 0
    stained = _stained(stain, _grown(glass, step, fine.shape[:2]), px, config)
    tissue = _in_window(lambda part, colours: _pieces(part, colours, px, config), stained, stain)
    tissue = _in_window(lambda part, _: _solid(part, px, config), tissue, stain)
    return Mask(tissue, rgb.shape[:2], (factor, factor))


def edge_factor(shape: tuple[int, ...], um_per_px: float, *, config: TissueConfig = TissueConfig()) -> int:
    """Return how many pixels (y, x) of an image of that shape are averaged before tissue is searched for."""
    crowded = min(np.ceil(np.sqrt(shape[0] * shape[1] / config.many_pixels)), config.coarsest_um // um_per_px)
    return _factor(max(config.edge_um / um_per_px, crowded), shape)


def _check(rgb: Any, um_per_px: float) -> None:
    """Raise if the arguments are not an image and a pixel size."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        msg = f"The image has shape {rgb.shape} and dtype {rgb.dtype}, expected (y, x, 3) uint8. Convert it first."
        raise ValueError(msg)
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        msg = f"um_per_px is {um_per_px}, expected a positive number: the size of a pixel of the image in um."
        raise ValueError(msg)


def _factor(ratio: float, shape: tuple[int, ...]) -> int:
    """Return the whole number of pixels to average, at least one and no more than the image has."""
    return max(1, min(round(ratio), *shape[:2]))


def _shrink(image: NDArray[np.generic], factor: int) -> Floats:
    """Return the means of blocks of ``factor`` x ``factor`` pixels; those that fill no block are left out."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    if factor == 1:
        return image.astype(np.float32)
    sums = image[: rows * factor].reshape(rows, factor, *image.shape[1:]).sum(1, dtype=np.float32)
    sums = sums[:, : columns * factor].reshape(rows, columns, factor, *image.shape[2:]).sum(2)
    return sums / np.float32(factor**2)


def _shrink_by_strips(rgb: Any, factor: int, config: TissueConfig) -> Floats:
    """Return the means of blocks of an image (y, x, c) that may be lazy, a strip of rows in memory at a time."""
    rows = factor * max(1, config.strip // (factor * rgb.shape[1]))
    whole = max(rgb.shape[0] // factor * factor, 1)
    return np.concatenate([_shrink(np.asarray(rgb[y : y + rows]), factor) for y in range(0, whole, rows)])


def _grown(image: NDArray[Value], factor: int, shape: tuple[int, ...]) -> NDArray[Value]:
    """Return the image with every pixel repeated, its last row and column continued to ``shape``."""
    grown = image.repeat(factor, 0).repeat(factor, 1)
    rest = [(0, shape[0] - grown.shape[0]), (0, shape[1] - grown.shape[1])] + [(0, 0)] * (image.ndim - 2)
    return np.pad(grown, rest, mode="edge")


def _norm(vectors: Floats) -> Floats:
    """Return the length of the colour vectors (..., 3)."""
    return np.sqrt((vectors**2).sum(-1))


def _blur(image: Floats, sigma: float) -> Floats:
    """Return the image (y, x, c) blurred along y and x."""
    return ndimage.gaussian_filter(image, (sigma, sigma, 0)[: image.ndim], truncate=3.0)


def _glass(density: Floats, px: float, config: TissueConfig) -> Bools:
    """Return the smooth areas (y, x) that are as bright as the main bright one, and too large for a lumen."""
    label, area = _measure(_smooth(density, px, config), px)
    colour = np.stack([ndimage.median(density[..., c], label, np.arange(area.size)) for c in range(3)], 1)
    candidate = (_norm(np.maximum(colour - _brightest(density, config), 0)) < config.bright) & (
        area > config.min_hole_mm2
    )
    if not candidate.any():
        return np.zeros(label.shape, bool)
    # Padding of pure white is a bright smooth area, too: the main one is the darkest of the large ones.
    large = candidate & (area >= 0.2 * area[candidate].max())
    main = colour[large][np.argmax(colour[large].sum(1))]
    return (candidate & (_norm(np.maximum(colour - main, 0)) < config.same_glass))[label]


def _smooth(density: Floats, px: float, config: TissueConfig) -> Bools:
    """Return where the texture (y, x) is no more than four times that of the quiet part of the image."""
    rough = np.sqrt(_blur(((density - _blur(density, config.window_um / px)) ** 2).mean(2), config.window_um / px))
    quiet = rough[(rough < config.texture_floor) & (rough > config.texture_none)]
    if quiet.size < 0.1 * rough.size:
        return rough < config.texture_floor
    return rough < np.clip(4 * np.median(quiet), config.texture_floor, config.texture_ceiling)


def _brightest(density: Floats, config: TissueConfig) -> Floats:
    """Return the density (3,) of the brightest 2 % of the image, without padding of pure white or black."""
    real = (density > 0).any(2) & ~_void(density, config)
    return np.percentile(density[real] if real.any() else density.reshape(-1, 3), 2, axis=0)


def _void(density: Floats, config: TissueConfig) -> Bools:
    """Return where the image (y, x) is black: nothing was scanned there."""
    return density.min(2) > config.void


def _local_glass(density: Floats, glass: Bools, px: float, config: TissueConfig) -> Floats:
    """Return the density (y, x, 3) which the glass next to every pixel has."""
    padding = glass & (density == 0).all(2)
    source = glass if padding.sum() == glass.sum() else glass & ~padding
    row, column = ndimage.distance_transform_edt(~source, return_distances=False, return_indices=True)
    return _blur(_blur(density, config.texture_um / px)[row, column], config.glass_smoothing_um / px)


def _stained(stain: Floats, glass: Bools, px: float, config: TissueConfig) -> Bools:
    """Return where the stain (y, x, 3) stands out from the glass, and from the halo of what is next to it."""
    strength = _norm(stain)
    noise = strength[glass & (strength > 0)]
    threshold = np.clip(16 * np.median(noise), *config.stain) if noise.size else config.stain[0]
    halo = ndimage.maximum_filter(strength, 2 * round(config.fat_cell_um / px) + 1)
    return (strength > np.maximum(threshold, config.halo * halo)) & ~glass


def _depth(mask: Bools) -> Floats:
    """Return the distance in pixels to the outside of the mask; beyond the image its edge continues."""
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


def _pieces(stained: Bools, stain: Floats, px: float, config: TissueConfig) -> Bools:
    """Return the stained pieces that are tissue, and the crumbs next to them."""
    solid = _fill(stained, config.min_hole_mm2 / 4, px)
    band = _frame_band(solid, px, config)
    if band.any():
        solid &= ~band | _open(solid, config.dot_radius_um / px)
        stained &= solid
    # What a piece encloses belongs to it: the light inside an air bubble is as little tissue as its rim.
    label, area = _measure(_fill(stained, config.bubble_mm2, px), px)
    label[~stained] = 0
    thick = np.zeros(area.size, bool)
    thick[label[_depth(solid) > config.core_radius_um / px]] = True
    coloured = _coloured(label, area, stain, config)
    keep = (area > config.min_piece_mm2) & (thick | (area > config.sure_piece_mm2)) & coloured
    if not keep.any():
        return np.zeros(stained.shape, bool)
    near = ndimage.distance_transform_edt(~keep[label]) <= config.fat_cell_um / px
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


def _coloured(
    label: NDArray[np.int32], area: NDArray[np.float64], stain: Floats, config: TissueConfig
) -> NDArray[np.bool_]:
    """Return which pieces have colour; all of them if the largest has none, as in a grey image."""
    strongest = stain.max(2)
    weight = np.bincount(label.ravel(), strongest.ravel(), minlength=len(area))
    colour = np.bincount(label.ravel(), (strongest - stain.min(2)).ravel(), minlength=len(area))
    chroma = colour / np.maximum(weight, 1e-9)
    largest = chroma[np.argmax(area)]
    return (chroma > config.grey * largest) | (largest < config.coloured)


def _frame_band(solid: Bools, px: float, config: TissueConfig) -> Bools:
    """Return the band (y, x) that a printed frame of dots takes, nowhere if there is none."""
    band = np.zeros(solid.shape, bool)
    centres = _dots(solid, px, config)
    if len(centres) < config.frame_dots:
        return band
    low, high, width = *np.percentile(centres, [2, 98], axis=0), config.frame_band_um / px
    in_band = ((centres < low + width) | (centres > high - width)).any(1)
    if in_band.mean() < 0.8 or (high - low).max() * px < 1000 * config.frame_mm:
        return band
    margin = config.dot_radius_um / px
    outer = [slice(max(0, round(a - margin)), round(b + margin)) for a, b in zip(low, high, strict=True)]
    inner = [
        slice(round(a + width + margin), max(0, round(b - width - margin))) for a, b in zip(low, high, strict=True)
    ]
    band[tuple(outer)] = True
    band[tuple(inner)] = False
    return band


def _dots(solid: Bools, px: float, config: TissueConfig) -> NDArray[np.float64]:
    """Return the centres (n, 2) of the pieces that have the size and roundness of printed marks."""
    label, area = _measure(solid, px)
    centres = []
    for i, box in enumerate(ndimage.find_objects(label), start=1):
        if not config.dot_mm2[0] < area[i] < config.dot_mm2[1]:
            continue
        sides = [(s.stop - s.start) * px / 1000 for s in box]
        if max(sides) < 1.5 * min(sides) and area[i] > 0.6 * sides[0] * sides[1]:
            centres.append([0.5 * (s.start + s.stop) for s in box])
    return np.array(centres).reshape(-1, 2)


def _solid(stained: Bools, px: float, config: TissueConfig) -> Bools:
    """Return the stained pieces with gaps up to a fat cell closed, small holes filled and thin shreds left out."""
    air = _open(~stained, config.fat_cell_um / px)
    passage = ndimage.binary_opening(~stained, _disc(config.passage_um / px))
    air |= ndimage.binary_dilation(air, mask=passage, iterations=max(1, round(config.trim_um / px)))
    tissue = _fill(~air, config.min_hole_mm2, px)
    label, n = ndimage.label(tissue)
    thick = np.zeros(n + 1, bool)
    thick[label[_depth(tissue) > config.dot_radius_um / px]] = True
    thick[0] = False
    return thick[label]
