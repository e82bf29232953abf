"""Which array the spots are of: um per pixel, size and shape of the spots, each with what it was concluded from.

Space Ranger's ``spot_diameter_fullres`` is the diameter of a theoretical 65 um spot, not of the 55 um that capture
RNA; the distance between spots is a safer ruler, because the arrays are printed with a known pitch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphisto._checks import number_of, require_positive
from sphisto.core.spot import median_pitch

Floats = NDArray[np.float64]
Shape = Literal["disc", "square"]

logger = logging.getLogger("sphisto")


@dataclass(frozen=True)
class SpotArray:
    """A printed array: its lattice vectors per unit of array_row and array_col, and its spots, in um."""

    name: str
    row_um: float
    col_um: float
    checkerboard: bool
    spot_um: float
    pitch_um: float
    most: tuple[float, float] = (np.inf, np.inf)  # highest array_row, array_col that its products have


VISIUM = SpotArray("Visium", 100 * np.sqrt(3) / 2, 50.0, True, 55.0, 100.0)
SPATIAL_TRANSCRIPTOMICS = (
    SpotArray("Spatial Transcriptomics 2k", 100.0, 100.0, True, 55.0, 100.0 * np.sqrt(2), (80, 80)),
    SpotArray("Spatial Transcriptomics 1k", 200.0, 200.0, False, 100.0, 200.0, (40, 40)),
)
SPACERANGER_SPOT_UM = 65.0  # the spot that Space Ranger's spot_diameter_fullres speaks of
_VISIUM_6MM = (77, 127)  # highest array_row and array_col of the 6.5 mm array
_VISIUM_11MM = (127, 223)
_TOLERANCE = 0.15  # relative; the arrays' row : column ratios lie 0.7 apart
_SCATTER = 0.2  # of a lattice unit; larger residuals mean that array_row/array_col do not belong to the coordinates
_ROUNDING = 0.45  # px; the scatter of coordinates in whole pixels is 0.41
_TOUCHING = 0.8  # of the lattice unit; bins fill it, printed spots reach 0.65
_SIZE = 0.4  # relative; readers write 65 to 130 um for the spots of Spatial Transcriptomics
_NOMINAL = 0.1  # relative; a diameter so near to 65 um is the theoretical one, and to the pitch a bin's side
_DIFFERS = 0.05  # relative; registration and rounding make less between a stated scale and the lattice's
_CONTRADICTS = 1.5  # fold; the next bin size, or a scale of another picture, is twice as large or more
_RING = 1.4  # pitches; the second ring of a hexagonal array lies at 1.73
_ORDER = 0.75  # least mean of exp(6i angle); coordinates in whole pixels turn neighbours by some degrees
_TRIMMINGS, _MAJORITY = 5, 0.75  # passes, and share of the spots, to find where most belong
_LEAST_APART = 0.5  # px
_LEAST_SPOTS = 7  # a spot and its neighbours
_WHOLE = 0.1  # mean distance of positions on an array from whole numbers; that of the means of cells' bins is 0.2
_ASTRAY = 0.2  # of a lattice's side, mean distance of steps from it; that of any steps is 0.38
_MOST_ASTRAY = 0.3  # also for coordinates in whole pixels
_ANGLES = np.linspace(0, np.pi / 2, 180, endpoint=False)
_LOOKED_AT = 2000  # steps
_TOUCH = 0.05  # share of bins that have a neighbour, if but one in 80 is left
_SPARSE = 0.3  # of the pitch; printed spots reach half of it
_OVERLAP = 1.1  # of the pitch; spots do not overlap, but for rounding
_CELLS = (
    "Fit the bins themselves and sum the rasters over the cells (`sphisto.tl.aggregate`); if these are spots or bins of "
    "another size, give `spot_um` and `spot_shape`."
)


@dataclass(frozen=True)
class Calibration:
    """Scale of the full-resolution image, and the spots on it.

    Parameters
    ----------
    um_per_px
        Micrometres per full-resolution pixel.
    scale_source
        A phrase that says what ``um_per_px`` was taken from.
    spot_um
        Diameter of a spot, or side of a bin, in um.
    spot_shape
        ``"disc"`` or ``"square"``.
    spot_source
        A phrase that says what size and shape were taken from.
    pitch_um
        Distance of neighbouring spots in um (infinite for a single spot).
    array
        Name of the array that was recognised, such as ``"Visium, 11 mm"``; ``"unknown"`` if none was.
    """

    um_per_px: float
    scale_source: str
    spot_um: float
    spot_shape: Shape
    spot_source: str
    pitch_um: float
    array: str


@dataclass(frozen=True)
class _Lattice:
    """What array_row and array_col say, measured in px: length of their unit steps, and the highest position."""

    row_px: float
    col_px: float
    checkerboard: bool
    most: tuple[float, float]

    @property
    def unit_px(self) -> float:
        return float(np.sqrt(self.row_px * self.col_px))

    def has_proportions_of(self, row_um: float, col_um: float) -> bool:
        return bool(abs(self.row_px / self.col_px * col_um / row_um - 1) < _TOLERANCE)


@dataclass(frozen=True)
class _Found:
    """An array that was recognised, as far as it tells something (NaN where it does not)."""

    name: str
    pitch_px: float
    um_per_px: float = np.nan
    scale_source: str = ""
    spot_um: float = np.nan
    spot_shape: Shape = "disc"
    spot_source: str = ""
    certain: bool = False  # told by scale factors or unusual positions, so that another scale is a contradiction


def calibrate(
    centers: Floats,
    *,
    array_row: ArrayLike | None = None,
    array_col: ArrayLike | None = None,
    spot_px: float | None = None,
    spot_px_is_true: bool = False,
    drawn: Shape | None = None,
    microns_per_px: float | None = None,
    bin_um: float | None = None,
    spot_um: float | None = None,
    spot_shape: Shape | None = None,
) -> Calibration:
    """Tell which array the spots are of: um per pixel, size and shape of the spots.

    The scale is the stated ``microns_per_px``, else that of the array: bins of ``bin_um``; the lattice of ``array_row``
    and ``array_col``, if it is Visium's or Spatial Transcriptomics'; a square lattice of bins with ``spot_um``; a
    hexagonal arrangement of the centres (taken for Visium); last ``spot_px`` as ``spot_um``, or, where the centres lie as
    far apart as Visium's, as the 65 um that Space Ranger means. A stated scale that differs from the array's by more than 5 % is warned of and taken. By more than
    1.5-fold it is refused if ``spot_um`` is not stated too, for then the picture or the array is another one.

    Size and shape are the stated ones, else the array's, else ``spot_px`` at the scale found.

    Parameters
    ----------
    centers
        (n, 2) spot centres (y, x) in full-resolution px.
    array_row, array_col
        (n,) position of each spot on the array; NaN for those without.
    spot_px
        Diameter of the spots, or side of the bins, in full-resolution px: Space Ranger's ``spot_diameter_fullres``.
    spot_px_is_true
        Whether ``spot_px`` is the size of circles or squares that were drawn, and not Space Ranger's theoretical one.
    drawn
        Shape of the spots, if shapes were drawn.
    microns_per_px
        Stated um per full-resolution px.
    bin_um
        Side of the bins of a Visium HD section in um: the scale factors' ``bin_size_um``.
    spot_um, spot_shape
        Stated diameter (or side) in um and shape of what a spot captures; they win over everything else.

    Raises
    ------
    ValueError
        If nothing tells the scale or the size of the spots, if what tells them is contradictory (such as bins that lie
        on no lattice, which are cells), or if spots share their place, in px or on the array, with others.
    """
    centers = np.asarray(centers, dtype=np.float64)
    nearest_px = median_pitch(centers)
    if not nearest_px > 0:
        msg = (
            f"Found {len(centers)} spots at {len(np.unique(centers, axis=0))} different places; expected a place for "
            "each. Correct the spots' positions, or take one section of several that were joined."
        )
        raise ValueError(msg)
    if nearest_px < _LEAST_APART:
        msg = (
            f"Found spots {nearest_px:.3g} px apart; expected x, y in full-resolution pixels, of which spots are several apart. "
            "The coordinates seem to be in another unit, or thousands in them were marked by a point."
        )
        raise ValueError(msg)
    spot_um, bin_um, microns_per_px = (
        None if value is None else require_positive(value, name)
        for value, name in ((spot_um, "spot_um"), (bin_um, "bin_size_um"), (microns_per_px, "microns_per_pixel"))
    )
    size_px = number_of(spot_px) if number_of(spot_px) > 0 else np.nan
    steps = _steps(array_row, array_col)
    lattice = None if steps is None else _fit_lattice(centers, steps)
    if steps is not None and lattice is None:
        _refuse_exchanged(centers, steps)
    found = (
        (None if spot_px_is_true else _cells(lattice, centers, size_px, bin_um, spot_um))
        or _bins(lattice, size_px, bin_um)
        if bin_um is not None
        else _printed(lattice, size_px, spot_um)
        or _square(lattice, size_px, spot_um)
        or _hexagonal(centers)
        or _by_diameter(centers, size_px, spot_px_is_true, spot_um)
    )
    found, um_per_px, scale_source = _scaled(found, microns_per_px, spot_um, size_px, len(centers))
    pitch_um = bin_um if bin_um and found.spot_um == bin_um else float(found.pitch_px * um_per_px)
    size, shape, source = _sized(found, size_px * um_per_px, pitch_um, spot_px_is_true, drawn)
    if spot_um is not None or spot_shape is not None:
        stated = [name for name, value in (("spot_um", spot_um), ("spot_shape", spot_shape)) if value is not None]
        source = " and ".join(f"the stated {name}" for name in stated) + (
            "" if len(stated) == 2 else f"; else {source}"
        )
    size = spot_um or size
    if not np.isfinite(size):
        msg = (
            f"Cannot tell how large a spot is: found {len(centers)} spots {pitch_um:.3g} um apart in no known array, and "
            "no size of them. Give `spot_um` (um) and `spot_shape`."
        )
        raise ValueError(msg)
    return Calibration(um_per_px, scale_source, size, spot_shape or shape, source, pitch_um, found.name)


def _steps(array_row: ArrayLike | None, array_col: ArrayLike | None) -> Floats | None:
    """Positions (n, 2) on the array, if they tell spots apart; refused if several spots are at one."""
    if array_row is None or array_col is None:
        return None
    steps = np.stack([np.asarray(array_row, dtype=np.float64), np.asarray(array_col, dtype=np.float64)], axis=1)
    known = steps[np.isfinite(steps).all(axis=1)]
    if len(known) < 3 or np.ptp(known, axis=0).min() == 0:  # a filler, or a single line
        return None
    if np.abs(known - np.rint(known)).mean() > _WHOLE:  # coordinates, or means of the bins of cells
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


def _fit_lattice(centers: Floats, steps: Floats) -> _Lattice | None:
    """Measure the unit steps in px; ``None`` if positions on the array and in the picture do not belong together."""
    known = np.isfinite(steps).all(axis=1)
    steps, centers = steps[known], centers[known]
    middle = steps.mean(axis=0)
    design = np.column_stack([steps - middle, np.ones(len(steps))])
    fit, _, rank, _ = np.linalg.lstsq(design, centers, rcond=None)
    row_px, col_px = (float(length) for length in np.linalg.norm(fit[:2], axis=1))
    if rank < design.shape[1] or not min(row_px, col_px) > 0:
        return None
    scatter = np.sqrt(np.square(design @ fit - centers).sum(axis=1).mean())
    rounding = _ROUNDING if (centers == np.rint(centers)).all() else 0
    square = abs(fit[0] @ fit[1]) < _TOLERANCE * row_px * col_px
    if not square or scatter > np.hypot(_SCATTER * min(row_px, col_px), rounding):
        return None
    most = tuple(steps.max(axis=0))
    return _Lattice(row_px, col_px, len(np.unique(steps.sum(axis=1) % 2)) == 1, most)


def _refuse_exchanged(centers: Floats, steps: Floats) -> None:
    """Raise for spots that lie at places of a Visium array, but not at those that their positions say: rows are mixed up."""
    known = np.isfinite(steps).all(axis=1)
    steps, centers = steps[known], centers[known]
    of_array = (steps == np.rint(steps)).all() and len(np.unique(steps.sum(axis=1) % 2)) == 1
    if not of_array or len(steps) < _LEAST_SPOTS or _hexagonal_pitch(centers) is None:
        return
    design, pitch = np.column_stack([steps, np.ones(len(steps))]), median_pitch(centers)
    kept = np.ones(len(steps), dtype=bool)
    for _ in range(_TRIMMINGS):  # so that a few astray do not tell where the others belong
        fit = np.linalg.lstsq(design[kept], centers[kept], rcond=None)[0]
        away = np.hypot(*(design @ fit - centers).T)
        kept = away <= max(float(np.quantile(away, _MAJORITY)), _SCATTER * pitch)
    astray = away > pitch / 2
    if astray.mean() < 1 - _MAJORITY:
        low, high = centers[~astray].min(axis=0) - 2 * pitch, centers[~astray].max(axis=0) + 2 * pitch
        inside = ((centers >= low) & (centers <= high)).all(axis=1)
        if not (inside & astray).sum() > astray.sum() / 2:  # moved away, not exchanged
            return
    msg = (
        f"Found {int(astray.sum())} of {len(centers)} spots of a hexagonal array at the places of others by array_row and "
        "array_col; expected each at its own. Rows of the positions and of the table seem to be exchanged: join them by "
        "barcode. If array_row and array_col are those of another array, remove them."
    )
    raise ValueError(msg)


def _cells(
    lattice: _Lattice | None, centers: Floats, size_px: float, bin_um: float, spot_um: float | None
) -> _Found | None:
    """Cells that were made of bins, and kept their scale factors: refused unless their size is stated."""
    if _on_bins(lattice) or not np.isfinite(size_px) or _lie_on(centers, size_px):
        return None
    nearest_px = median_pitch(centers)
    if spot_um is not None:
        source = f"the {bin_um:g} um side of the bins beneath"
        return _Found("unknown", nearest_px, bin_um / size_px, source, spot_shape="disc")
    msg = (
        f"Found {len(centers)} centres about {nearest_px:.3g} px apart that lie on no lattice of bins, though the scale factors "
        f"(or names) speak of bins of {bin_um:g} um, {size_px:.3g} px wide; expected bins. They seem to be cells. {_CELLS}"
    )
    raise ValueError(msg)


def _on_bins(lattice: _Lattice | None) -> bool:
    return lattice is not None and lattice.has_proportions_of(1, 1)


def _bins(lattice: _Lattice | None, size_px: float, bin_um: float) -> _Found:
    """Bins of which the scale factors state the side."""
    fits = _on_bins(lattice)
    pitch_px = lattice.unit_px if lattice is not None and fits else size_px
    what = "pitch of the bins" if fits else "side of a bin, which spot_diameter_fullres gives in px"
    return _Found(
        f"Visium HD, {bin_um:g} um bins", pitch_px, bin_um / pitch_px, f"the {bin_um:g} um {what}",
        bin_um, "square", "bin_size_um of the scale factors", certain=True,
    )  # fmt: skip


def _printed(lattice: _Lattice | None, size_px: float, spot_um: float | None) -> _Found | None:
    """Spots at positions of an array of which pitch and spots are known.

    Square arrays are many: spots of another diameter are not those of Spatial Transcriptomics.
    """
    if lattice is None:
        return None
    for array in (VISIUM, *SPATIAL_TRANSCRIPTOMICS):
        is_square = array.row_um == array.col_um
        touching = is_square and size_px >= _TOUCHING * lattice.unit_px  # bins of a corner of a larger array
        beyond = any(found > most for found, most in zip(lattice.most, array.most, strict=True))
        if touching or beyond or array.checkerboard != lattice.checkerboard:
            continue
        if is_square and not array.checkerboard:
            of_pitch = size_px / lattice.unit_px * array.pitch_um / array.spot_um
            other = spot_um is not None and abs(spot_um / array.spot_um - 1) > _TOLERANCE
            if other or abs(of_pitch - 1) > _SIZE:
                continue
        if lattice.has_proportions_of(array.row_um, array.col_um):
            um_per_px = float(np.sqrt(array.row_um * array.col_um)) / lattice.unit_px
            name = _visium_name(lattice.most) if array is VISIUM else array.name
            return _Found(
                name, array.pitch_um / um_per_px, um_per_px, f"the {array.pitch_um:.0f} um pitch of the {array.name} array",
                array.spot_um, "disc", f"the spots of the {array.name} array", certain=array.checkerboard,
            )  # fmt: skip
    return None


def _visium_name(most: tuple[float, float]) -> str:
    """Tell 6.5 mm from 11 mm by the highest positions; in the middle of the array nothing tells them apart."""
    if most[0] > _VISIUM_11MM[0] or most[1] > _VISIUM_11MM[1]:
        return "hexagonal, taken for Visium"
    if most[0] > _VISIUM_6MM[0] or most[1] > _VISIUM_6MM[1]:
        return "Visium, 11 mm"
    at_the_corner = most[0] == _VISIUM_6MM[0] and most[1] >= _VISIUM_6MM[1] - 1
    return "Visium, 6.5 mm" if at_the_corner else "Visium"


def _square(lattice: _Lattice | None, size_px: float, spot_um: float | None) -> _Found | None:
    """Spots or bins on a square lattice of unknown pitch; where they touch, a bin's side is the pitch."""
    if lattice is None or lattice.checkerboard or not lattice.has_proportions_of(1, 1):
        return None
    apart = size_px < _TOUCHING * lattice.unit_px
    side_px = size_px if apart else lattice.unit_px
    what = "diameter of the spots" if apart else "pitch of the square array, whose bins touch"
    return _Found(
        "unknown", lattice.unit_px, np.nan if spot_um is None else spot_um / side_px,
        f"the stated {spot_um or np.nan:g} um as {what}", spot_shape="disc" if apart else "square",
    )  # fmt: skip


def _hexagonal(centers: Floats) -> _Found | None:
    pitch_px = _hexagonal_pitch(centers)
    if pitch_px is None:
        return None
    return _Found(
        "hexagonal, taken for Visium", pitch_px, VISIUM.pitch_um / pitch_px,
        "the 100 um pitch of a hexagonal arrangement of spots (taken for Visium)",
        VISIUM.spot_um, "disc", "the spots of the Visium array",
    )  # fmt: skip


def _by_diameter(centers: Floats, size_px: float, is_true: bool, spot_um: float | None) -> _Found:
    """Spots of no known array: nothing but their diameter may tell a scale, Visium's 65 um if they lie as Visium's."""
    nearest_px = median_pitch(centers)
    if _are_bins(centers, size_px):
        return _Found(
            "unknown", size_px, np.nan if spot_um is None else spot_um / size_px,
            f"the stated {spot_um or np.nan:g} um as side of the bins", spot_shape="square",
        )  # fmt: skip
    pitch_px = size_px * VISIUM.pitch_um / SPACERANGER_SPOT_UM
    near = abs(nearest_px / pitch_px - 1) < _TOLERANCE or _lie_on(centers, pitch_px, hexagonal=True)
    as_visium = near and not _is_square(centers, nearest_px)
    known = spot_um or (SPACERANGER_SPOT_UM if as_visium and not is_true else np.nan)
    assumed = spot_um is None and np.isfinite(known)
    return _Found(
        "unknown", nearest_px, known / size_px, f"the spot diameter, taken for {known:g} um",
        VISIUM.spot_um if assumed else np.nan, "disc", "the spots of the Visium array, for which they are taken",
    )  # fmt: skip


def _scaled(
    found: _Found, stated: float | None, spot_um: float | None, size_px: float, n: int
) -> tuple[_Found, float, str]:
    """Weigh a stated scale against the array's; return what remains of the array, um per px and its source."""
    told = found.um_per_px
    if stated is None:
        if np.isfinite(told):
            return found, told, found.scale_source
        raise ValueError(_untold(found, size_px, n))
    fold = max(told / stated, stated / told)
    if found.name == "unknown" or (fold > _CONTRADICTS and not found.certain):
        # an arrangement or a diameter alone makes no array where a scale speaks against it
        return _Found("unknown", found.pitch_px, spot_shape=found.spot_shape), stated, "the stated scale"
    if not fold > 1 + _DIFFERS:
        return found, stated, "the stated scale"
    if fold > _CONTRADICTS and spot_um is None:
        msg = (
            f"Found a stated scale (microns_per_pixel, or image_um_per_px times image_scale) of {stated:.4g} um per full-resolution px, but {told:.4g} from "
            f"{found.scale_source}; expected them to agree. Correct or remove the stated scale (that of a smaller "
            "picture is larger), or, if the array is another one, give `spot_um` or remove array_row and array_col."
        )
        raise ValueError(msg)
    source = f"the stated scale ({found.scale_source} gives {told:.4g} um per px)"
    logger.warning("%.4g um per px is taken from %s. If it is wrong, remove microns_per_pixel.", stated, source)
    return found, stated, source


def _untold(found: _Found, size_px: float, n: int) -> str:
    head = f"Cannot tell how many um a pixel measures: found {n} spot centres in no known array"
    if found.spot_shape == "square":
        return (
            f"{head}: a square one, {found.pitch_px:.4g} px apart. Give the side of a bin as `spot_um` (with "
            '`spot_shape="square"`), or set `scalefactors["microns_per_pixel"]` (um per full-resolution px).'
        )
    size = f"spots of {size_px:.4g} px of unknown um" if size_px > 0 else "no spot_diameter_fullres"
    return (
        f"{head}, no array_row/array_col that fit them and {size}. Set "
        '`scalefactors["microns_per_pixel"]` (um per full-resolution px), '
        f"{'or give `spot_um` and `spot_shape`' if size_px > 0 else 'or give the positions on the array'}. If "
        "`image_um_per_px` was stated, it is that of the picture: with `image_scale` it tells the scale of the centres, too."
    )


def _sized(
    found: _Found, size_um: float, pitch_um: float, is_true: bool, drawn: Shape | None
) -> tuple[float, Shape, str]:
    """Size and shape of the spots: the array's, else those in px at the scale found, else a Visium spot if it fits."""
    if np.isfinite(found.spot_um):
        return found.spot_um, found.spot_shape, found.spot_source
    if found.spot_shape == "square":
        return pitch_um, "square", "the pitch of the square array, whose bins touch"
    if np.isfinite(size_um):
        if not is_true and abs(size_um / SPACERANGER_SPOT_UM - 1) < _NOMINAL:
            return VISIUM.spot_um, "disc", "spot_diameter_fullres, which is Space Ranger's for a Visium spot"
        source = "the size of the spots drawn" if is_true or drawn else "spot_diameter_fullres"
        if not is_true and not _SPARSE * pitch_um <= size_um <= _OVERLAP * pitch_um:
            logger.warning("Found spots of %.3g um (%s) that lie %.3g um apart in no known array. If they "
                           "are cells: %s", size_um, source, pitch_um, _CELLS)  # fmt: skip
        return size_um, drawn or "disc", source
    if pitch_um < VISIUM.spot_um:
        return np.nan, "disc", "nothing"
    logger.warning("Nothing tells how large a spot is: taken for a Visium spot of 55 um. Else give `spot_um`.")
    return VISIUM.spot_um, "disc", "nothing (taken for Visium spots)"


def _lie_on(centers: Floats, side: float, *, hexagonal: bool = False) -> bool:
    """Whether each centre and the one nearest to it are points of a lattice of known side, however it is turned.

    Most points of the lattice may be missing. Steps are short, so that it may be slightly warped or its side inexact.
    """
    from scipy.spatial import cKDTree

    if not np.isfinite(side) or len(centers) < 2:
        return False
    seen = np.linspace(0, len(centers) - 1, min(len(centers), _LOOKED_AT)).astype(np.intp)
    other = cKDTree(centers).query(centers[seen], k=2)[1][:, 1]
    step = (centers[other] - centers[seen]) / side
    turned = (step[:, 1] + 1j * step[:, 0]) * np.exp(-1j * _ANGLES)[:, None]
    up = np.exp(1j * np.pi / 3) if hexagonal else 1j
    rows = np.rint(turned.imag / up.imag)
    columns = np.rint(turned.real - rows * up.real)
    astray = np.where((rows == 0) & (columns == 0), 1, np.abs(turned - rows * up - columns))  # no two at one point
    rounding = _ROUNDING / side if (centers == np.rint(centers)).all() else 0
    return bool(astray.mean(axis=1).min() < min(_ASTRAY + rounding, _MOST_ASTRAY))


def _is_square(centers: Floats, side: float) -> bool:
    """Whether neighbours lie at right angles rather than 60 degrees apart."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(centers).query_pairs((1 + _TOLERANCE) * side, output_type="ndarray")
    if not len(pairs):
        return False
    step = centers[pairs[:, 1]] - centers[pairs[:, 0]]
    angle = np.arctan2(step[:, 0], step[:, 1])
    square, hexagonal = (abs(np.exp(1j * fold * angle).mean()) for fold in (4, 6))
    return bool(square > max(_ORDER, hexagonal))


def _are_bins(centers: Floats, side: float) -> bool:
    """Whether centres lie on a square lattice and some of them side by side, as bins do and printed spots do not."""
    from scipy.spatial import cKDTree

    if len(centers) < _LEAST_SPOTS or not _lie_on(centers, side):
        return False
    nearest = cKDTree(centers).query(centers, k=2)[0][:, 1]
    return bool((np.abs(nearest / side - 1) < _ASTRAY).mean() > _TOUCH)


def _hexagonal_pitch(centers: Floats) -> float | None:
    """Mean distance of neighbours if those of most spots lie one pitch away, 60 degrees apart; some may be missing.

    In whole pixels the *nearest* of six neighbours is nearer than the pitch: by 4 % where that is 17 px.
    """
    from scipy.spatial import cKDTree

    if len(centers) < _LEAST_SPOTS:
        return None
    pitch = median_pitch(centers)
    near = cKDTree(centers).sparse_distance_matrix(cKDTree(centers), _RING * pitch, output_type="coo_matrix")
    spot, other = near.row[near.data > 0], near.col[near.data > 0]
    step = centers[other] - centers[spot]
    # The mean of exp(6i angle) is 1 for any three or more neighbours of a hexagonal array, and at most 1/3 for those of
    # a square one.
    turned = np.exp(6j * np.arctan2(step[:, 0], step[:, 1]))
    number = np.bincount(spot, minlength=len(centers))
    order = np.bincount(spot, turned.real, len(centers)) + 1j * np.bincount(spot, turned.imag, len(centers))
    distance = np.hypot(*step.T)
    astray = np.bincount(spot, np.abs(distance / pitch - 1) > _TOLERANCE, len(centers))
    regular = (number >= 3) & (astray == 0) & (np.abs(order) > _ORDER * number)
    return float(distance[regular[spot]].mean()) if regular.mean() > 0.5 else None
