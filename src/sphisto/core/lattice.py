"""How large a pixel is, read off the array of spots.

Space Ranger's ``spot_diameter_fullres`` is the diameter of a theoretical 65 um spot, not of the 55 um that capture
RNA; the distance between spots is a safer ruler, because the arrays are printed with a known pitch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sphisto.core.interpolate import median_pitch

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpotArray:
    """A printed array: its lattice vectors per unit of array_row and array_col, and its spots, in um."""

    name: str
    row_um: float
    col_um: float
    checkerboard: bool
    spot_um: float
    pitch_um: float


VISIUM = SpotArray("Visium", 100 * np.sqrt(3) / 2, 50.0, True, 55.0, 100.0)
ARRAYS = (
    VISIUM,
    SpotArray("Spatial Transcriptomics 2k", 100.0, 100.0, True, 55.0, 100.0 * np.sqrt(2)),
    SpotArray("Spatial Transcriptomics 1k", 200.0, 200.0, False, 100.0, 200.0),
)
SPACERANGER_SPOT_UM = 65.0  # the spot that Space Ranger's spot_diameter_fullres speaks of
_TOLERANCE = 0.15  # relative; the arrays' row : column ratios lie 0.7 apart
_SCATTER = 0.2  # of a lattice unit; larger residuals mean that array_row/array_col do not belong to the coordinates
_RING = 1.4  # pitches; the second ring of a hexagonal array lies at 1.73
_ORDER = 0.75  # least mean of exp(6i angle); coordinates in whole pixels turn neighbours by some degrees
_LEAST_SPOTS = 7  # a spot and its neighbours
_MAX_SIDE = 200  # printed arrays have at most 128 x 78 positions; more are bins


@dataclass(frozen=True)
class Calibration:
    """Scale of the full-resolution image and size of the spots on it.

    Parameters
    ----------
    um_per_px
        Micrometres per full-resolution pixel.
    spot_um
        Diameter of a spot in um.
    pitch_um
        Distance of neighbouring spots in um (infinite for a single spot).
    source
        A phrase that says what the scale was taken from.
    """

    um_per_px: float
    spot_um: float
    pitch_um: float
    source: str


def calibrate(
    centers: Floats,
    *,
    array_row: ArrayLike | None = None,
    array_col: ArrayLike | None = None,
    spot_diameter_px: float | None = None,
    microns_per_px: float | None = None,
    spot_um: float | None = None,
) -> Calibration:
    """Find um per pixel and the spot diameter from what is known of a section.

    Taken in this order: a stated ``microns_per_px``; the lattice of ``array_row`` and ``array_col``; a hexagonal
    arrangement of the centres (Visium); ``spot_diameter_px`` as Space Ranger's 65 um spot, or as ``spot_um`` where
    that is stated.

    Parameters
    ----------
    centers
        (n, 2) spot centres (y, x) in full-resolution px.
    array_row, array_col
        (n,) position of each spot on the printed array.
    spot_diameter_px
        ``spot_diameter_fullres`` in full-resolution px.
    microns_per_px
        Stated scale in um per full-resolution px; taken as it is.
    spot_um
        Stated diameter of the capture spot in um; by default that of the array found, else 55.

    Raises
    ------
    ValueError
        If nothing tells the scale, or most spots share their place with another.
    """
    if not median_pitch(centers) > 0:
        msg = (
            f"Found {len(centers)} spots at {len(np.unique(centers, axis=0))} different places; expected a place for "
            "each. Correct the spots' positions, or take one section of several that were joined."
        )
        raise ValueError(msg)
    pitch_px, hexagonal_px = median_pitch(centers), _hexagonal_pitch(centers)
    found = None if array_row is None or array_col is None else _match_array(centers, array_row, array_col)
    if found is not None:
        array, um_per_px = found
        source = f"the {array.pitch_um:.0f} um pitch of the {array.name} array"
    elif hexagonal_px is not None:
        array, pitch_px, um_per_px = VISIUM, hexagonal_px, VISIUM.pitch_um / hexagonal_px
        source = "the 100 um pitch of a hexagonal arrangement of spots (taken for Visium)"
    else:
        array, um_per_px, source = VISIUM, float("nan"), ""
        if spot_diameter_px is not None and spot_diameter_px > 0:
            known = spot_um or SPACERANGER_SPOT_UM
            um_per_px, source = known / spot_diameter_px, f"the spot diameter, taken for {known:g} um"
    if microns_per_px is not None:
        um_per_px, source = float(microns_per_px), "the stated scale"
    if not (np.isfinite(um_per_px) and um_per_px > 0):
        msg = (
            f"Cannot tell how many um a pixel measures: found {len(centers)} spot centres in no known array, no "
            "array_row/array_col that fit them and no spot_diameter_fullres. Set "
            '`scalefactors["microns_per_pixel"]` (um per full-resolution px) or give the positions on the array.'
        )
        raise ValueError(msg)
    return Calibration(um_per_px, float(spot_um or array.spot_um), pitch_px * um_per_px, source)


def _match_array(centers: Floats, array_row: ArrayLike, array_col: ArrayLike) -> tuple[SpotArray, float] | None:
    """Fit the lattice to the centres and name the array whose proportions it has, with um per px."""
    steps = np.stack([np.asarray(array_row, dtype=np.float64), np.asarray(array_col, dtype=np.float64)], axis=1)
    if not np.isfinite(steps).all() or len(np.unique(steps, axis=0)) < len(steps) or steps.max() > _MAX_SIDE:
        return None
    design = np.column_stack([steps, np.ones(len(steps))])
    fit, _, rank, _ = np.linalg.lstsq(design, centers, rcond=None)
    if rank < design.shape[1]:
        return None
    row_px, col_px = np.linalg.norm(fit[0]), np.linalg.norm(fit[1])
    scatter = np.sqrt(np.square(design @ fit - centers).sum(axis=1).mean())
    checkerboard = len(np.unique(steps.sum(axis=1) % 2)) == 1
    for array in ARRAYS:
        proportion = (row_px / col_px) / (array.row_um / array.col_um)
        fits = abs(proportion - 1) < _TOLERANCE and scatter < _SCATTER * min(row_px, col_px)
        if fits and array.checkerboard == checkerboard:
            return array, float(np.sqrt((array.row_um / row_px) * (array.col_um / col_px)))
    return None


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
