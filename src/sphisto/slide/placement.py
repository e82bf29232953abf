"""Do the spots lie where the image shows tissue, or does the image belong to them turned or mirrored?

Everything is in (y, x) pixels of one raster: the tissue mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphisto.core.mask import Mask
from sphisto.slide.config import PlacementConfig

AS_GIVEN = "as given"
SWAPPED = "transposed (x and y swapped)"


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
    y, x = _cells(centers, config.cell_radius * pitch)
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
    y, x = _cells(centers / step, config.cell_radius * pitch / step)
    low = np.array([y.min(), x.min()])
    cells = np.zeros((y.max() - low[0] + 1, x.max() - low[1] + 1))
    cells[y - low[0], x - low[1]] = 1
    far = int(config.farthest * pitch / step)
    tissue = _padded(mask, step, low - far, low + cells.shape + far)
    both = fftconvolve(tissue, cells[::-1, ::-1], mode="valid")
    sums = np.pad(tissue, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    h, w = cells.shape
    around = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    fits = both / (cells.sum() + around - both)
    place = np.unravel_index(int(fits.argmax()), fits.shape)
    enough = max(fit + config.shift_gain[0], config.shift_plausible, best_turn + config.as_good)
    down, right = (float((at - far) * step) for at in place)
    # of cells of a few px, a px to and fro changes how they are drawn
    if fits[place] < enough or np.hypot(down, right) < max(config.least_shift * pitch, 3 * step):
        return (0.0, 0.0), fit
    return (down, right), float(fits[place])


def _cells(centers: NDArray[np.float64], radius: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(n, k) y and x of the px of each spot's cell, those within a ``radius`` of the one that holds its centre."""
    reach = np.arange(-int(radius) - 1, int(radius) + 2)
    dy, dx = (d.ravel() for d in np.meshgrid(reach, reach, indexing="ij"))
    near = dy**2 + dx**2 <= radius**2
    at = np.floor(centers).astype(np.intp)
    return at[:, :1] + dy[near], at[:, 1:] + dx[near]


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
