"""Geometry of spots: whether their centres lie on a lattice, and whether that is the one of their array positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphisto.core.spot import median_pitch
from sphisto.slide.config import ArrayConfig

Floats = NDArray[np.float64]

_ANGLES = np.linspace(0, np.pi / 2, 180, endpoint=False)


@dataclass(frozen=True)
class Lattice:
    """Lattice of array_row and array_col, measured in px: length of their unit steps, and the highest position.

    ``turn`` is the angle from the image's x axis towards its y axis by which it is turned, in degrees, -45 to 45: quarter
    turns and mirroring leave a square where it is.
    """

    row_px: float
    col_px: float
    checkerboard: bool
    most: tuple[float, float]
    turn: float = 0.0

    @property
    def unit_px(self) -> float:
        """Geometric mean of the two unit steps: the side of a square as large as the rectangle of a position."""
        return float(np.sqrt(self.row_px * self.col_px))

    def has_proportions_of(self, row_um: float, col_um: float, tolerance: float) -> bool:
        """Whether its unit steps are as long, one to the other, as those of an array."""
        return bool(abs(self.row_px / self.col_px * col_um / row_um - 1) < tolerance)


def positions_on_array(array_row: ArrayLike | None, array_col: ArrayLike | None, config: ArrayConfig) -> Floats | None:
    """Positions (n, 2) on the array, if they distinguish spots; refused if several spots are at one."""
    if array_row is None or array_col is None:
        return None
    steps = np.stack([np.asarray(array_row, dtype=np.float64), np.asarray(array_col, dtype=np.float64)], axis=1)
    known = steps[np.isfinite(steps).all(axis=1)]
    if len(known) < 3 or np.ptp(known, axis=0).min() == 0:  # a filler, or a single line
        return None
    if np.abs(known - np.rint(known)).mean() > config.whole:  # coordinates, or means of the bins of cells
        return None
    in_order = known[np.lexsort(known.T)]
    different = len(known) - int((np.diff(in_order, axis=0) == 0).all(axis=1).sum())
    if different < len(known):
        msg = (
            f"Found {len(known)} spots at {different} different positions (array_row, array_col); on one array each has "
            "its own. Several sections seem to be joined: take one of them. If these columns are no positions on an "
            "array, remove them."
        )
        raise ValueError(msg)
    return steps


def fit_lattice(centers: Floats, steps: Floats, config: ArrayConfig) -> Lattice | None:
    """Measure the unit steps in px; ``None`` if positions on the array and in the image do not belong together."""
    known = np.isfinite(steps).all(axis=1)
    steps, centers = steps[known], centers[known]
    middle = steps.mean(axis=0)
    design = np.column_stack([steps - middle, np.ones(len(steps))])
    fit, _, rank, _ = np.linalg.lstsq(design, centers, rcond=None)
    row_px, col_px = (float(length) for length in np.linalg.norm(fit[:2], axis=1))
    if rank < design.shape[1] or not min(row_px, col_px) > 0:
        return None
    scatter = np.sqrt(np.square(design @ fit - centers).sum(axis=1).mean())
    rounding = config.rounding_px if (centers == np.rint(centers)).all() else 0
    square = abs(fit[0] @ fit[1]) < config.tolerance * row_px * col_px
    if not square or scatter > np.hypot(config.scatter * min(row_px, col_px), rounding):
        return None
    most = tuple(steps.max(axis=0))
    return Lattice(row_px, col_px, len(np.unique(steps.sum(axis=1) % 2)) == 1, most, turn_of(fit[:2]))


def turn_of(steps: Floats) -> float:
    """Degrees, -45 to 45, by which (n, 2) steps (y, x) along the sides of squares are turned from x towards y."""
    angle = np.arctan2(steps[:, 0], steps[:, 1])
    return float(np.rad2deg(np.angle(np.exp(4j * angle).mean()) / 4))


def refuse_exchanged_rows(centers: Floats, steps: Floats, config: ArrayConfig) -> None:
    """Raise for spots that lie at places of a Visium array, but not at their own positions: rows are mixed up."""
    known = np.isfinite(steps).all(axis=1)
    steps, centers = steps[known], centers[known]
    of_array = (steps == np.rint(steps)).all() and len(np.unique(steps.sum(axis=1) % 2)) == 1
    if not of_array or len(steps) < config.min_spots or hexagonal_pitch(centers, config) is None:
        return
    design, pitch = np.column_stack([steps, np.ones(len(steps))]), median_pitch(centers)
    kept = np.ones(len(steps), dtype=bool)
    for _ in range(config.trimmings):  # so that a few outliers do not decide where the others belong
        fit = np.linalg.lstsq(design[kept], centers[kept], rcond=None)[0]
        away = np.hypot(*(design @ fit - centers).T)
        kept = away <= max(float(np.quantile(away, config.majority)), config.scatter * pitch)
    outliers = away > pitch / 2
    if outliers.mean() < 1 - config.majority:
        low, high = centers[~outliers].min(axis=0) - 2 * pitch, centers[~outliers].max(axis=0) + 2 * pitch
        inside = ((centers >= low) & (centers <= high)).all(axis=1)
        if not (inside & outliers).sum() > outliers.sum() / 2:  # moved away, not exchanged
            return
    msg = (
        f"Found {int(outliers.sum())} of {len(centers)} spots of a hexagonal array at the places of others by array_row and "
        "array_col; expected each at its own. Rows of the positions and of the table seem to be exchanged: join them by "
        "barcode. If array_row and array_col are those of another array, remove them."
    )
    raise ValueError(msg)


def lie_on_lattice(centers: Floats, side: float, *, hexagonal: bool = False, config: ArrayConfig) -> bool:
    """Whether each centre and the one nearest to it are points of a lattice of known side, however it is turned.

    Most points of the lattice may be missing. Steps are short, so that it may be slightly warped or its side inexact.
    """
    from scipy.spatial import cKDTree

    if not np.isfinite(side) or len(centers) < 2:
        return False
    sample = np.linspace(0, len(centers) - 1, min(len(centers), config.sampled)).astype(np.intp)
    other = cKDTree(centers).query(centers[sample], k=2)[1][:, 1]
    step = (centers[other] - centers[sample]) / side
    turned = (step[:, 1] + 1j * step[:, 0]) * np.exp(-1j * _ANGLES)[:, None]
    up = np.exp(1j * np.pi / 3) if hexagonal else 1j
    rows = np.rint(turned.imag / up.imag)
    columns = np.rint(turned.real - rows * up.real)
    distance = np.where((rows == 0) & (columns == 0), 1, np.abs(turned - rows * up - columns))  # no two at one point
    rounding = config.rounding_px / side if (centers == np.rint(centers)).all() else 0
    return bool(distance.mean(axis=1).min() < min(config.off_lattice + rounding, config.max_off_lattice))


def is_square(centers: Floats, side: float, config: ArrayConfig) -> bool:
    """Whether neighbours lie at right angles rather than 60 degrees apart."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(centers).query_pairs((1 + config.tolerance) * side, output_type="ndarray")
    if not len(pairs):
        return False
    step = centers[pairs[:, 1]] - centers[pairs[:, 0]]
    angle = np.arctan2(step[:, 0], step[:, 1])
    square, hexagonal = (abs(np.exp(1j * fold * angle).mean()) for fold in (4, 6))
    return bool(square > max(config.order, hexagonal))


def are_bins(centers: Floats, side: float, config: ArrayConfig) -> bool:
    """Whether centres lie on a square lattice and some of them side by side, as bins do and printed spots do not."""
    from scipy.spatial import cKDTree

    if len(centers) < config.min_spots or not lie_on_lattice(centers, side, config=config):
        return False
    nearest = cKDTree(centers).query(centers, k=2)[0][:, 1]
    return bool((np.abs(nearest / side - 1) < config.off_lattice).mean() > config.touching_share)


def hexagonal_pitch(centers: Floats, config: ArrayConfig) -> float | None:
    """Mean distance of neighbours if those of most spots lie one pitch away, 60 degrees apart; some may be missing.

    In whole pixels the *nearest* of six neighbours is nearer than the pitch: by 4 % where that is 17 px.
    """
    from scipy.spatial import cKDTree

    if len(centers) < config.min_spots:
        return None
    pitch = median_pitch(centers)
    near = cKDTree(centers).sparse_distance_matrix(cKDTree(centers), config.ring * pitch, output_type="coo_matrix")
    spot, other = near.row[near.data > 0], near.col[near.data > 0]
    step = centers[other] - centers[spot]
    # The mean of exp(6i angle) is 1 for any three or more neighbours of a hexagonal array, and at most 1/3 for those of
    # a square one.
    turned = np.exp(6j * np.arctan2(step[:, 0], step[:, 1]))
    number = np.bincount(spot, minlength=len(centers))
    order = np.bincount(spot, turned.real, len(centers)) + 1j * np.bincount(spot, turned.imag, len(centers))
    distance = np.hypot(*step.T)
    irregular = np.bincount(spot, np.abs(distance / pitch - 1) > config.tolerance, len(centers))
    regular = (number >= 3) & (irregular == 0) & (np.abs(order) > config.order * number)
    return float(distance[regular[spot]].mean()) if regular.mean() > 0.5 else None
