"""Do the spots lie where the image shows tissue, or does the image belong to them turned or mirrored?

Everything is in (y, x) pixels of one raster: the tissue mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphisto.core.mask import Mask
from sphisto.slide.config import PlacementConfig

SCALE = "that the scale factor is the one of this image (hires and lowres have their own, the full-resolution image 1)"

AS_GIVEN = "as given"
SWAPPED = "transposed (x and y swapped)"


_SAME_FACTOR = 0.03  # the outline of the tissue tells a scale factor to 1 or 2 %


class _Turn(NamedTuple):
    """Another orientation of the image: what moves the spots onto it, and what corrects it, by numpy and by Pillow."""

    swap: bool
    flip_y: bool
    flip_x: bool
    mend: str
    transpose: str = ""


TURNS: dict[str, _Turn] = {
    AS_GIVEN: _Turn(False, False, False, "image"),
    "flipped left-right": _Turn(False, False, True, "image[:, ::-1]", "FLIP_LEFT_RIGHT"),
    "flipped up-down": _Turn(False, True, False, "image[::-1]", "FLIP_TOP_BOTTOM"),
    "rotated 180 degrees": _Turn(False, True, True, "image[::-1, ::-1]", "ROTATE_180"),
    SWAPPED: _Turn(True, False, False, "image.swapaxes(0, 1)", "TRANSPOSE"),
    "rotated 90 degrees clockwise": _Turn(True, False, True, "np.rot90(image)", "ROTATE_90"),
    "rotated 90 degrees counter-clockwise": _Turn(True, True, False, "np.rot90(image, -1)", "ROTATE_270"),
    "transposed and rotated 180 degrees": _Turn(True, True, True, "image[::-1, ::-1].swapaxes(0, 1)", "TRANSVERSE"),
}
"""The eight orientations, named by what has happened to the image."""


@dataclass(frozen=True)
class Alignment:
    """How well spots and tissue agree.

    Parameters
    ----------
    n_spots
        Number of spots.
    inside
        Share of spots with their centre in the image.
    on_tissue
        Share of spots with their centre on tissue.
    fit
        Intersection over union of the spots' cells and the tissue between them, 0 to 1.
    best
        The orientation with the best fit: ``"as given"``, or what seems to have happened to the image.
    best_fit
        The fit of that orientation.
    ties
        Other orientations as good as the best, within 0.02: the outline of the tissue cannot distinguish them.
    scale
        Factor on the spots' positions with which they would follow the outline of the tissue clearly better; 1 if there is
        none, or the tissue shows no outline.
    scale_fit
        The fit with that factor.
    shift
        Px (y, x) of the mask by which the spots would have to be moved to follow the outline of the tissue clearly better, as
        of an image that was cropped; 0 if there is none.
    shift_fit
        The fit there.
    """

    n_spots: int
    inside: float
    on_tissue: float
    fit: float
    best: str
    best_fit: float
    ties: tuple[str, ...] = ()
    scale: float = 1.0
    scale_fit: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    shift_fit: float = 0.0


def check_alignment(
    centers_yx: NDArray[np.floating],
    mask: Mask | NDArray[np.bool_],
    pitch_px: float,
    *,
    config: PlacementConfig = PlacementConfig(),
) -> Alignment:
    """Compare spots with a tissue mask, as given and in the seven other orientations.

    Parameters
    ----------
    centers_yx
        (n, 2) centres of the spots under tissue, (y, x) in pixels of the mask.
    mask
        (y, x) bool, True on tissue.
    pitch_px
        Distance of neighbouring spots in pixels of the mask.

    Returns
    -------
    The :class:`Alignment`. Tissue beyond the rectangle around the spots is not counted: it may lie beyond the array.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.slide.placement import check_alignment
    >>> mask = np.zeros((100, 100), bool)
    >>> mask[10:50, 20:40] = True
    >>> centers = np.argwhere(mask)[::7] + 0.5
    >>> check_alignment(centers, mask, pitch_px=3.0).best
    'as given'
    >>> check_alignment(centers, mask[:, ::-1], pitch_px=3.0).best
    'flipped left-right'
    """
    centers = np.asarray(centers_yx, dtype=np.float64)
    _check(centers, mask, pitch_px)
    step = max(1, int(pitch_px // config.steps_per_pitch))
    inside = _inside(centers, mask.shape)
    on_tissue = mask[tuple(np.floor(centers[inside]).astype(np.intp).T)]
    fits = {name: _fit(_turn(centers, turn, mask.shape), mask, pitch_px, config, step) for name, turn in TURNS.items()}
    best = max(fits, key=lambda name: fits[name])
    shift, shift_fit = _better_shift(centers, mask, pitch_px, fits[AS_GIVEN], fits[best], config)
    scale, scale_fit = _better_scale(centers, mask, pitch_px, fits[AS_GIVEN], fits[best], config)
    return Alignment(
        n_spots=len(centers),
        inside=float(inside.mean()),
        on_tissue=float(on_tissue.sum() / len(centers)),
        fit=fits[AS_GIVEN],
        best=best,
        best_fit=fits[best],
        ties=tuple(name for name, fit in fits.items() if name != best and fits[best] - fit < config.as_good),
        scale=scale,
        scale_fit=scale_fit,
        shift=shift,
        shift_fit=shift_fit,
    )


def explain(
    alignment: Alignment,
    centers_yx: NDArray[np.floating],
    shape: tuple[int, int],
    *,
    image_scale: float = 1.0,
    factors: Mapping[str, float] = MappingProxyType({}),
    fullres_per_px: tuple[float, float] = (1.0, 1.0),
    config: PlacementConfig = PlacementConfig(),
) -> str | None:
    """Return what is wrong with the spots or the image and what to do about it, None if nothing is.

    Parameters
    ----------
    alignment
        The result of :func:`check_alignment`.
    centers_yx
        (n, 2) centres of the spots, (y, x) in pixels of the image.
    shape
        (height, width) of the image in pixels.
    image_scale
        Scale factor by which the spots were laid on the image.
    factors
        Scale factors that are known, by name: one of them may be the right one.
    fullres_per_px
        Full-resolution px (y, x) of a pixel of the image.

    Returns
    -------
    Sentences for an error message, or None: spots beyond the image (more than 1 %), off the tissue (more than half),
    or another orientation or place that explains at least 0.10 more of the tissue.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.slide.placement import check_alignment, explain
    >>> mask = np.zeros((100, 100), bool)
    >>> mask[10:50, 20:40] = True
    >>> centers = np.argwhere(mask)[::7] + 0.5
    >>> explain(check_alignment(centers, mask, pitch_px=3.0), centers, mask.shape) is None
    True
    >>> "Mend the image with `image[:, ::-1]`" in explain(
    ...     check_alignment(centers, mask[:, ::-1], pitch_px=3.0), centers, mask.shape
    ... )
    True
    """
    turned = alignment.best_fit >= max(alignment.fit + config.clearly_better, config.plausible)
    by_shift = "" if explain_scale(alignment, image_scale, factors) else explain_shift(alignment, fullres_per_px)
    shifted = bool(by_shift) and alignment.shift_fit >= alignment.fit + config.shift_gain[1]
    if alignment.inside < 1 - config.max_outside:
        found = f"{_count(1 - alignment.inside, alignment)} spots lie outside the image: {_extent(centers_yx, shape)}"
    elif alignment.on_tissue < config.min_on_tissue:
        found = f"{_count(1 - alignment.on_tissue, alignment)} spots lie off the tissue: {_extent(centers_yx, shape)}"
    elif turned or shifted:
        found = f"The spots lie in the image, but do not follow the outline of the tissue: {_extent(centers_yx, shape)}"
    else:
        return None
    if shifted:
        return f"{found}. {by_shift}"
    if turned and alignment.scale == 1:
        return f"{found}. {_explain_turn(alignment, image_scale)} If the image is right as it is, check {SCALE}."
    outside = bool(np.any(np.asarray(centers_yx) >= shape))
    wanted = explain_scale(alignment, image_scale, factors) or (
        _factor_with_spots_inside(centers_yx, shape, image_scale, factors) if outside else ""
    )
    return (
        f"{found}. Expected spots on the tissue. {wanted}{' Else check' if wanted else 'Check'} that the image is the one of "
        f"this section and not cropped, and {SCALE}."
    )


def explain_shift(
    alignment: Alignment, fullres_per_px: tuple[float, float], *, config: PlacementConfig = PlacementConfig()
) -> str:
    """Return by how much the spots seem to be shifted against the image, as a sentence; empty if another scale explains more.

    Parameters as of :func:`explain`.
    """
    scaled = alignment.scale != 1 and alignment.scale_fit >= alignment.shift_fit + config.as_good
    if alignment.shift == (0.0, 0.0) or scaled:
        return ""
    y, x = (round(shift * px) for shift, px in zip(alignment.shift, fullres_per_px, strict=True))
    return (
        f"Spots and image seem to be shifted: with the spots {x:+d} full-resolution px along x and {y:+d} along y their overlap with the "
        f"tissue would be {alignment.shift_fit:.2f} instead of {alignment.fit:.2f}. Give the image as it was before it was cropped, "
        f'or move the spots, `adata.obsm["spatial"] += ({x}, {y})`.'
    )


def explain_scale(
    alignment: Alignment,
    image_scale: float,
    factors: Mapping[str, float],
    *,
    config: PlacementConfig = PlacementConfig(),
) -> str:
    """Return which scale factor would fit the outline of the tissue better, as a sentence; empty if a shift explains more.

    Parameters as of :func:`explain`.
    """
    shifted = alignment.shift != (0.0, 0.0) and alignment.shift_fit >= alignment.scale_fit + config.as_good
    if alignment.scale == 1 or shifted:
        return ""
    wanted = image_scale * alignment.scale
    gain = f"the overlap of spots and tissue would be {alignment.scale_fit:.2f} instead of {alignment.fit:.2f}"
    known = [
        (name, factor)
        for name, factor in factors.items()
        if abs(factor / wanted - 1) < _SAME_FACTOR < abs(factor / image_scale - 1)
    ]
    if known:
        name, factor = min(known, key=lambda item: abs(item[1] / wanted - 1))
        return f"The scale factor {name} = {factor:.4g} would fit ({_stated(factor)}): {gain}."
    if wanted < 1 + _SAME_FACTOR:
        wanted = 1.0 if wanted > 1 - _SAME_FACTOR else wanted
        which = ", that of the full-resolution image," if wanted == 1 else ""
        return f"A scale factor of about {wanted:.3g}{which} would fit instead of {image_scale:.4g} ({_stated(wanted, 3)}): {gain}."
    return (
        f"The positions seem to be pixels of a smaller image, not full-resolution ones: {alignment.scale:.3g} times as large, {gain}. "
        f'State that ({_stated(wanted, 3)}), multiply `adata.obsm["spatial"]`, or choose the image that they belong to.'
    )


def _factor_with_spots_inside(
    centers: NDArray[np.floating], shape: tuple[int, int], image_scale: float, factors: Mapping[str, float]
) -> str:
    """Return the known scale factor that brings all spots into the image, where no outline of tissue shows which is right."""
    for name, factor in factors.items():
        scale = factor / image_scale
        if np.all(centers * scale < shape) and abs(scale - 1) > _SAME_FACTOR:
            return f"The scale factor {name} = {factor:.4g} would fit ({_stated(factor)})."
    return ""


def _stated(factor: float, digits: int = 4) -> str:
    return f"`image_scale={factor:.{digits}g}`, in a shell `--image-scale {factor:.{digits}g}`"


def _explain_turn(alignment: Alignment, image_scale: float) -> str:
    """Return what seems to have happened to the image, and what corrects it, in Python and in a shell."""
    overlap = f"the overlap of spots and tissue would be {alignment.best_fit:.2f} instead of {alignment.fit:.2f}"
    if alignment.ties:
        either = ", or ".join(f"{name} (mended by `{TURNS[name].mend}`)" for name in (alignment.best, *alignment.ties))
        return (
            f"The image seems to be {either}: {overlap}. The outline of the tissue cannot decide which. "
            f"{_in_a_shell(alignment.best, image_scale)}"
        )
    mend = f"Mend the image with `{TURNS[alignment.best].mend}`"
    if alignment.best == SWAPPED:
        mend += ', or swap the columns of `adata.obsm["spatial"]`, which are (x, y)'
    return (
        f"The image seems to be {alignment.best}: {overlap} without that. {mend}. "
        f"{_in_a_shell(alignment.best, image_scale)}"
    )


def _in_a_shell(turn: str, image_scale: float) -> str:
    """Return the commands that write the corrected image to a file and take that."""
    scale = "" if abs(image_scale - 1) < _SAME_FACTOR else f" --image-scale {image_scale:.4g}"
    return (
        f"In a shell write it to a file, `python -c \"from PIL import Image; Image.open('IMAGE')"
        f".transpose(Image.Transpose.{TURNS[turn].transpose}).save('mended.png')\"` with its name for IMAGE, and add "
        f"`--image mended.png{scale}`."
    )


def _check(centers: NDArray[np.float64], mask: Mask | NDArray[np.bool_], pitch_px: float) -> None:
    """Raise if the arguments are not spots, a mask and a pitch."""
    if centers.ndim != 2 or centers.shape[1] != 2 or not len(centers) or not np.isfinite(centers).all():
        msg = f"The spots have shape {centers.shape}, expected (n, 2): finite (y, x) centres of at least one spot."
        raise ValueError(msg)
    if mask.ndim != 2 or mask.dtype != bool or 0 in mask.shape:
        msg = f"The tissue mask is an array of shape {mask.shape} and dtype {mask.dtype}, expected (y, x) bool."
        raise ValueError(msg)
    if not (np.isfinite(pitch_px) and pitch_px > 0):
        msg = (
            f"pitch_px is {pitch_px}, expected a positive number: the distance of neighbouring spots in px of the mask."
        )
        raise ValueError(msg)


def _inside(centers: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which centres (n, 2) lie in a raster."""
    within = (centers >= 0) & (centers < shape)
    return within[:, 0] & within[:, 1]


def _turn(centers: NDArray[np.float64], turn: _Turn, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the centres (n, 2) moved onto an image of another orientation; flips mirror at its middle."""
    y, x = centers.T[::-1] if turn.swap else centers.T
    return np.stack([shape[0] - y if turn.flip_y else y, shape[1] - x if turn.flip_x else x], axis=1)


def _fit(
    centers: NDArray[np.float64], mask: Mask | NDArray[np.bool_], pitch: float, config: PlacementConfig, step: int = 1
) -> float:
    """Return the intersection over union of the spots' cells and the mask, in the rectangle around the cells.

    Every ``step``-th px of the mask counts; of it no more is read than this rectangle.
    """
    centers, pitch, first = centers / step, pitch / step, step // 2
    height, width = (len(range(first, side, step)) for side in mask.shape)
    radius = config.cell_radius * pitch
    reach = np.arange(-int(radius) - 1, int(radius) + 2)
    dy, dx = (d.ravel() for d in np.meshgrid(reach, reach, indexing="ij"))
    near = dy**2 + dx**2 <= radius**2
    at = np.floor(centers).astype(np.intp)
    y, x = at[:, :1] + dy[near], at[:, 1:] + dx[near]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    if not inside.any():
        return 0.0
    (top, bottom), (left, right) = (
        (max(0, int(i.min())), min(side, int(i.max()) + 1)) for i, side in ((y, height), (x, width))
    )
    cells = np.zeros((bottom - top, right - left), bool)
    cells[y[inside] - top, x[inside] - left] = True
    rows, columns = (
        slice(first + a * step, first + (b - 1) * step + 1, step) for a, b in ((top, bottom), (left, right))
    )
    tissue = np.asarray(mask[rows, columns], dtype=bool)
    # Cells beyond the image explain nothing: they count in the union, in proportion to the part of all cells that lies inside.
    beyond = cells.sum() * (1 / inside.mean() - 1)
    return float((cells & tissue).sum() / ((cells | tissue).sum() + beyond))


def _better_scale(
    centers: NDArray[np.float64],
    mask: Mask | NDArray[np.bool_],
    pitch: float,
    fit: float,
    best_turn: float,
    config: PlacementConfig,
) -> tuple[float, float]:
    """Return the factor on the positions that explains clearly more of the tissue than they do, and its fit; else 1."""
    if fit + config.scale_gain >= 1:
        return 1.0, fit
    centers, pitch = _taken_together(centers, pitch, config.most_cells)

    def fit_at(scale: float) -> float:
        step = max(1, int(scale * pitch // config.steps_per_pitch))
        return _fit(centers * scale, mask, scale * pitch, config, step)

    least, n = config.scales
    scales = np.geomspace(least, 1 / least, n)
    coarse = max(scales[scales * pitch >= 1], key=fit_at)  # spots at least a px apart
    ratio = scales[1] / scales[0]
    best = float(max(coarse * np.geomspace(1 / ratio, ratio, config.fine_scales), key=fit_at))
    found = fit_at(best)
    away, less = config.peak
    is_peak = max(fit_at(best * away), fit_at(best / away)) <= found - less
    enough = max(fit_at(1.0) + config.scale_gain, config.scale_plausible, best_turn + config.as_good)
    return (best, found) if is_peak and found >= enough else (1.0, fit)


def _better_shift(
    centers: NDArray[np.float64],
    mask: Mask | NDArray[np.bool_],
    pitch: float,
    fit: float,
    best_turn: float,
    config: PlacementConfig,
) -> tuple[tuple[float, float], float]:
    """Return the px (y, x) of the mask by which the positions would explain clearly more of the tissue, and the fit there; else 0."""
    if fit + config.shift_gain[0] >= 1:
        return (0.0, 0.0), fit
    from scipy.signal import fftconvolve

    reach = config.farthest * pitch
    centers = centers[((centers >= -reach) & (centers < np.add(mask.shape, reach))).all(axis=1)]
    if not len(centers):
        return (0.0, 0.0), fit
    centers, pitch = _taken_together(centers, pitch, config.most_cells)
    step = max(1, int(pitch // config.steps_per_pitch))
    cells, low = _cells(centers / step, config.cell_radius * pitch / step)
    far = int(config.farthest * pitch / step)
    tissue = _padded(mask, step, low - far, low + cells.shape + far)
    both = fftconvolve(tissue, cells[::-1, ::-1], mode="valid")
    sums = np.pad(tissue, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    h, w = cells.shape
    around = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    fits = both / (cells.sum() + around - both)
    place = np.unravel_index(int(fits.argmax()), fits.shape)
    enough = max(fit + config.shift_gain[0], config.shift_plausible, best_turn + config.as_good)
    y, x = (float((at - far) * step) for at in place)
    # of cells of a few px, a px to and fro changes how they are drawn
    if fits[place] < enough or np.hypot(y, x) < max(config.least_shift * pitch, 3 * step):
        return (0.0, 0.0), fit
    return (y, x), float(fits[place])


def _cells(centers: NDArray[np.float64], radius: float) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Draw the cells of spots in the rectangle around them: 1 inside, and its first (y, x)."""
    reach = np.arange(-int(radius) - 1, int(radius) + 2)
    dy, dx = (d.ravel() for d in np.meshgrid(reach, reach, indexing="ij"))
    near = dy**2 + dx**2 <= radius**2
    at = np.floor(centers).astype(np.intp)
    y, x = at[:, :1] + dy[near], at[:, 1:] + dx[near]
    low = np.array([y.min(), x.min()])
    cells = np.zeros((int(y.max()) - low[0] + 1, int(x.max()) - low[1] + 1))
    cells[y - low[0], x - low[1]] = 1
    return cells, low


def _padded(
    mask: Mask | NDArray[np.bool_], step: int, low: NDArray[np.intp], high: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Every ``step``-th px of a mask between two (y, x), 0 beyond its border."""
    first = step // 2
    shape = np.array([len(range(first, side, step)) for side in mask.shape])
    begin, end = np.clip(low, 0, shape), np.clip(high, 0, shape)
    rows, columns = (slice(first + a * step, first + b * step, step) for a, b in zip(begin, end, strict=True))
    out = np.zeros(high - low)
    (top, left), (bottom, right) = begin - low, end - low
    out[top:bottom, left:right] = mask[rows, columns]
    return out


def _taken_together(centers: NDArray[np.float64], pitch: float, most: int) -> tuple[NDArray[np.float64], float]:
    """Return the squares that hold the spots, of a side such that they are some ``most``, and their side."""
    if len(centers) <= most:
        return centers, pitch
    side = pitch * float(np.ceil(np.sqrt(len(centers) / most)))
    return np.unique(np.floor(centers / side), axis=0) * side + side / 2, side


def _count(share: float, alignment: Alignment) -> str:
    """Return a share of the spots as words."""
    return f"{round(share * alignment.n_spots)} of {alignment.n_spots}"


def _extent(centers: NDArray[np.floating], shape: tuple[int, int]) -> str:
    """Return where the spots are and how large the image is, as words."""
    (y0, x0), (y1, x1) = np.min(centers, axis=0), np.max(centers, axis=0)
    spots = f"they span y {y0:.0f} to {y1:.0f} and x {x0:.0f} to {x1:.0f} px"
    return f"{spots}, the image has {shape[0]} x {shape[1]} px (y, x)"
