"""The arrays that spots are printed on, and which of them a section's spots are of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sphisto.core.spot import median_pitch
from sphisto.slide.config import ArrayConfig
from sphisto.slide.lattice import Floats, Lattice, are_bins, hexagonal_pitch, is_square, lie_on_lattice

Shape = Literal["disc", "square"]


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

    def ends_before(self, position: tuple[float, float]) -> bool:
        """Whether the array has no such row or no such column."""
        return any(found > most for found, most in zip(position, self.most, strict=True))


VISIUM = SpotArray("Visium", 100 * np.sqrt(3) / 2, 50.0, True, 55.0, 100.0)
VISIUM_6MM = replace(VISIUM, name="Visium, 6.5 mm", most=(77, 127))
VISIUM_11MM = replace(VISIUM, name="Visium, 11 mm", most=(127, 223))
SPATIAL_TRANSCRIPTOMICS = (
    SpotArray("Spatial Transcriptomics 2k", 100.0, 100.0, True, 55.0, 100.0 * np.sqrt(2), (80, 80)),
    SpotArray("Spatial Transcriptomics 1k", 200.0, 200.0, False, 100.0, 200.0, (40, 40)),
)
SPACERANGER_SPOT_UM = 65.0  # the theoretical spot of Space Ranger's spot_diameter_fullres
CELLS_HINT = (
    "Fit the bins themselves and sum the rasters over the cells (`sphisto.tl.aggregate`); if these are spots or bins of "
    "another size, give `spot_um` and `spot_shape`."
)


@dataclass(frozen=True)
class RecognisedArray:
    """An array that was recognised, with what follows from it (NaN where nothing does)."""

    name: str
    pitch_px: float
    um_per_px: float = np.nan
    scale_source: str = ""
    spot_um: float = np.nan
    spot_shape: Shape = "disc"
    spot_source: str = ""
    certain: bool = False  # by scale factors or unusual positions, so that another scale is a contradiction


def recognise_array(
    lattice: Lattice | None,
    centers: Floats,
    *,
    size_px: float,
    size_is_true: bool,
    bin_um: float | None,
    spot_um: float | None,
    config: ArrayConfig,
) -> RecognisedArray:
    """Return the array of the spots, concluded from their lattice, their arrangement or, at last, their diameter.

    Parameters
    ----------
    lattice
        The lattice of the spots' positions on the array, if they have any that fit.
    centers
        (n, 2) spot centres (y, x) in full-resolution px.
    size_px
        Diameter of the spots, or side of the bins, in full-resolution px; NaN if unknown.
    size_is_true
        Whether ``size_px`` is the size of shapes that were drawn, and not Space Ranger's theoretical one.
    bin_um
        Side of the bins of a Visium HD section in um, if its scale factors state it.
    spot_um
        Stated diameter or side in um.
    config
        How well they must agree.
    """
    if bin_um is not None:
        cells = None if size_is_true else _cells(lattice, centers, size_px, bin_um, spot_um, config)
        return cells or _bins(lattice, size_px, bin_um, config)
    return (
        _printed(lattice, size_px, spot_um, config)
        or _square(lattice, size_px, spot_um, config)
        or _hexagonal(centers, config)
        or _by_diameter(centers, size_px, size_is_true, spot_um, config)
    )


def _cells(
    lattice: Lattice | None, centers: Floats, size_px: float, bin_um: float, spot_um: float | None, config: ArrayConfig
) -> RecognisedArray | None:
    """Cells that were made of bins, and kept their scale factors: refused unless their size is stated."""
    if _on_bins(lattice, config) or not np.isfinite(size_px) or lie_on_lattice(centers, size_px, config=config):
        return None
    nearest_px = median_pitch(centers)
    if spot_um is not None:
        source = f"the {bin_um:g} um side of the bins beneath"
        return RecognisedArray("unknown", nearest_px, bin_um / size_px, source, spot_shape="disc")
    msg = (
        f"Found {len(centers)} centres about {nearest_px:.3g} px apart that lie on no lattice of bins, though the scale factors "
        f"(or names) are those of bins of {bin_um:g} um, {size_px:.3g} px wide; expected bins. They seem to be cells. {CELLS_HINT}"
    )
    raise ValueError(msg)


def _on_bins(lattice: Lattice | None, config: ArrayConfig) -> bool:
    return lattice is not None and lattice.has_proportions_of(1, 1, config.tolerance)


def _bins(lattice: Lattice | None, size_px: float, bin_um: float, config: ArrayConfig) -> RecognisedArray:
    """Bins of which the scale factors state the side."""
    fits = _on_bins(lattice, config)
    pitch_px = lattice.unit_px if lattice is not None and fits else size_px
    what = "pitch of the bins" if fits else "side of a bin, which spot_diameter_fullres gives in px"
    return RecognisedArray(
        f"Visium HD, {bin_um:g} um bins", pitch_px, bin_um / pitch_px, f"the {bin_um:g} um {what}",
        bin_um, "square", "bin_size_um of the scale factors", certain=True,
    )  # fmt: skip


def _printed(
    lattice: Lattice | None, size_px: float, spot_um: float | None, config: ArrayConfig
) -> RecognisedArray | None:
    """Spots at positions of an array of which pitch and spots are known.

    Square arrays are many: spots of another diameter are not those of Spatial Transcriptomics.
    """
    array = array_placed_as(lattice, config)
    if lattice is None or array is None or not _has_its_spots(array, lattice, size_px, spot_um, config):
        return None
    um_per_px = float(np.sqrt(array.row_um * array.col_um)) / lattice.unit_px
    name = _visium_name(lattice.most) if array is VISIUM else array.name
    return RecognisedArray(
        name, array.pitch_um / um_per_px, um_per_px, f"the {array.pitch_um:.0f} um pitch of the {array.name} array",
        array.spot_um, "disc", f"the spots of the {array.name} array", certain=array.checkerboard,
    )  # fmt: skip


def array_placed_as(lattice: Lattice | None, config: ArrayConfig) -> SpotArray | None:
    """Return the known array that has spots at these positions, whatever their size."""
    if lattice is None:
        return None
    fitting = (
        array
        for array in (VISIUM, *SPATIAL_TRANSCRIPTOMICS)
        if array.checkerboard == lattice.checkerboard
        and not array.ends_before(lattice.most)
        and lattice.has_proportions_of(array.row_um, array.col_um, config.tolerance)
    )
    return next(fitting, None)


def _has_its_spots(
    array: SpotArray, lattice: Lattice, size_px: float, spot_um: float | None, config: ArrayConfig
) -> bool:
    """Whether spots at an array's positions may be of its size; an unknown size may be."""
    if array.row_um != array.col_um:
        return True
    if size_px >= config.touching * lattice.unit_px:  # bins of a corner of a larger array
        return False
    if array.checkerboard:
        return True
    of_pitch = size_px / lattice.unit_px * array.pitch_um / array.spot_um
    other = spot_um is not None and abs(spot_um / array.spot_um - 1) > config.tolerance
    return not other and not abs(of_pitch - 1) > config.spot_size_tolerance


def _visium_name(highest: tuple[float, float]) -> str:
    """Distinguish 6.5 mm from 11 mm by the highest positions; spots in the middle of the array may be of either."""
    if VISIUM_11MM.ends_before(highest):
        return "hexagonal, taken for Visium"
    if VISIUM_6MM.ends_before(highest):
        return VISIUM_11MM.name
    row, col = VISIUM_6MM.most
    return VISIUM_6MM.name if highest[0] == row and highest[1] >= col - 1 else VISIUM.name


def _square(
    lattice: Lattice | None, size_px: float, spot_um: float | None, config: ArrayConfig
) -> RecognisedArray | None:
    """Spots or bins on a square lattice of unknown pitch; where they touch, a bin's side is the pitch."""
    if lattice is None or lattice.checkerboard or not lattice.has_proportions_of(1, 1, config.tolerance):
        return None
    apart = size_px < config.touching * lattice.unit_px
    side_px = size_px if apart else lattice.unit_px
    what = "diameter of the spots" if apart else "pitch of the square array, whose bins touch"
    return RecognisedArray(
        "unknown", lattice.unit_px, np.nan if spot_um is None else spot_um / side_px,
        f"the stated {spot_um or np.nan:g} um as {what}", spot_shape="disc" if apart else "square",
    )  # fmt: skip


def _hexagonal(centers: Floats, config: ArrayConfig) -> RecognisedArray | None:
    pitch_px = hexagonal_pitch(centers, config)
    if pitch_px is None:
        return None
    return RecognisedArray(
        "hexagonal, taken for Visium", pitch_px, VISIUM.pitch_um / pitch_px,
        "the 100 um pitch of a hexagonal arrangement of spots (taken for Visium)",
        VISIUM.spot_um, "disc", "the spots of the Visium array",
    )  # fmt: skip


def _by_diameter(
    centers: Floats, size_px: float, is_true: bool, spot_um: float | None, config: ArrayConfig
) -> RecognisedArray:
    """Spots of no known array: only their diameter may give a scale, Visium's 65 um if they lie as Visium's."""
    nearest_px = median_pitch(centers)
    if are_bins(centers, size_px, config):
        return RecognisedArray(
            "unknown", size_px, np.nan if spot_um is None else spot_um / size_px,
            f"the stated {spot_um or np.nan:g} um as side of the bins", spot_shape="square",
        )  # fmt: skip
    pitch_px = size_px * VISIUM.pitch_um / SPACERANGER_SPOT_UM
    near = abs(nearest_px / pitch_px - 1) < config.tolerance or lie_on_lattice(
        centers, pitch_px, hexagonal=True, config=config
    )
    as_visium = near and not is_square(centers, nearest_px, config)
    known = spot_um or (SPACERANGER_SPOT_UM if as_visium and not is_true else np.nan)
    assumed = spot_um is None and np.isfinite(known)
    return RecognisedArray(
        "unknown", nearest_px, known / size_px, f"the spot diameter, taken for {known:g} um",
        VISIUM.spot_um if assumed else np.nan, "disc", "the spots of the Visium array, for which they are taken",
    )  # fmt: skip
