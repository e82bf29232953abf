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
        If nothing tells the scale.
    """
    pitch_px = median_pitch(centers)
    found = None if array_row is None or array_col is None else _match_array(centers, array_row, array_col)
    if found is not None:
        array, um_per_px = found
        source = f"the {array.pitch_um:.0f} um pitch of the {array.name} array"
    elif _is_hexagonal(centers, pitch_px):
        array, um_per_px = VISIUM, VISIUM.pitch_um / pitch_px
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


def _is_hexagonal(centers: Floats, pitch: float) -> bool:
    """Whether most spots have their six nearest neighbours at one and the same distance."""
    from scipy.spatial import cKDTree

    neighbours = 6
    if len(centers) <= neighbours:
        return False
    distance = cKDTree(centers).query(centers, k=neighbours + 1)[0][:, 1:]
    return bool(np.mean(np.abs(distance / pitch - 1).max(axis=1) < _TOLERANCE) > 0.5)
