"""Which array the spots are of: um per pixel, size and shape of the spots, each with what it was concluded from.

Space Ranger's ``spot_diameter_fullres`` is the diameter of a theoretical 65 um spot, not of the 55 um that capture
RNA; the distance between spots is the more reliable scale, because the arrays are printed with a known pitch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sphisto._checks import number_of, require_positive
from sphisto._settings import logger
from sphisto.core.spot import median_pitch
from sphisto.slide.arrays import (
    CELLS_HINT,
    SPACERANGER_SPOT_UM,
    VISIUM,
    RecognisedArray,
    Shape,
    SpotArray,
    array_placed_as,
    recognise_array,
)
from sphisto.slide.config import ArrayConfig
from sphisto.slide.lattice import Floats, Lattice, fit_lattice, positions_on_array, refuse_exchanged_rows


@dataclass(frozen=True)
class Calibration:
    """Scale of the full-resolution image, and the spots on it."""

    um_per_px: float  # micrometres per full-resolution pixel
    scale_source: str  # a phrase: what um_per_px was taken from
    spot_um: float  # diameter of a spot, or side of a bin, in um
    spot_shape: Shape  # "disc" or "square"
    spot_source: str  # a phrase: what size and shape were taken from
    pitch_um: float  # distance of neighbouring spots in um (infinite for a single spot)
    array: str  # name of the array that was recognised, such as "Visium, 11 mm"; "unknown" if none was
    turn: float = 0.0  # degrees by which squares are turned, from x towards y


def calibrate(
    centers: Floats,
    *,
    array_row: ArrayLike | None = None,
    array_col: ArrayLike | None = None,
    spot_px: float | None = None,
    spot_px_is_true: bool = False,
    drawn: Shape | None = None,
    microns_per_px: float | None = None,
    image_scale: float | None = None,
    bin_um: float | None = None,
    spot_um: float | None = None,
    spot_shape: Shape | None = None,
    turn: float = 0.0,
    config: ArrayConfig = ArrayConfig(),
) -> Calibration:
    """Determine which array the spots are of: um per pixel, size and shape of the spots.

    The scale is the stated ``microns_per_px``, else that of the array: bins of ``bin_um``; the lattice of ``array_row``
    and ``array_col``, if it is Visium's or Spatial Transcriptomics'; a square lattice of bins with ``spot_um``; a
    hexagonal arrangement of the centres (taken for Visium); last ``spot_px`` as ``spot_um``, or, where the centres lie as
    far apart as Visium's, as Space Ranger's 65 um. A stated scale that differs from the array's by more than 5 % is warned of and taken. By more than
    1.5-fold it is refused if ``spot_um`` is not stated too, for then the image or the array is another one; where only
    the arrangement of the spots suggests the array, the stated scale is taken, and that is warned of.

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
    image_scale
        Px of the image per full-resolution px, if ``microns_per_px`` follows from a stated ``image_um_per_px``; messages then
        name that.
    bin_um
        Side of the bins of a Visium HD section in um: the scale factors' ``bin_size_um``.
    spot_um, spot_shape
        Stated diameter (or side) in um and shape of what a spot captures; they win over everything else.
    turn
        Degrees by which squares that were drawn are turned; positions on the array tell it of others.
    """
    centers = np.asarray(centers, dtype=np.float64)
    nearest_px = median_pitch(centers)
    if not nearest_px > 0:
        msg = (
            f"Found {len(centers)} spots at {len(np.unique(centers, axis=0))} different places; expected a place for "
            "each. Correct the spots' positions, or take one section of several that were joined."
        )
        raise ValueError(msg)
    if nearest_px < config.min_apart_px:
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
    steps = positions_on_array(array_row, array_col, config)
    lattice = None if steps is None else fit_lattice(centers, steps, config)
    if steps is not None and lattice is None:
        refuse_exchanged_rows(centers, steps, config)
    found = recognise_array(
        lattice, centers, size_px=size_px, size_is_true=spot_px_is_true, bin_um=bin_um, spot_um=spot_um, config=config
    )
    if microns_per_px is None and not np.isfinite(found.um_per_px):
        raise ValueError(_missing_scale(found, lattice, size_px, len(centers), config))
    found, um_per_px, scale_source = _scaled(found, microns_per_px, image_scale, spot_um, config)
    pitch_um = bin_um if bin_um and found.spot_um == bin_um else float(found.pitch_px * um_per_px)
    size, shape, source = _sized(found, size_px * um_per_px, pitch_um, spot_px_is_true, drawn, config)
    if spot_um is not None or spot_shape is not None:
        stated = [name for name, value in (("spot_um", spot_um), ("spot_shape", spot_shape)) if value is not None]
        source = " and ".join(f"the stated {name}" for name in stated) + (
            "" if len(stated) == 2 else f"; else {source}"
        )
    size = spot_um or size
    if not np.isfinite(size):
        msg = (
            f"Cannot determine how large a spot is: found {len(centers)} spots {pitch_um:.3g} um apart in no known array, and "
            "no size of them. Give `spot_um` (um) and `spot_shape`."
        )
        raise ValueError(msg)
    shape = spot_shape or shape
    turn = lattice.turn if lattice is not None and not lattice.checkerboard else turn
    turn = turn if shape == "square" and abs(turn) >= config.least_turn else 0.0
    return Calibration(um_per_px, scale_source, size, shape, source, pitch_um, found.name, turn)


def _scaled(
    found: RecognisedArray, stated: float | None, image_scale: float | None, spot_um: float | None, config: ArrayConfig
) -> tuple[RecognisedArray, float, str]:
    """Weigh a stated scale against the array's; return what remains of the array, um per px and its source."""
    of_array = found.um_per_px
    if stated is None:
        return found, of_array, found.scale_source
    fold = max(of_array / stated, stated / of_array)
    if found.name == "unknown" or (fold > config.scale_contradicts and not found.certain):
        # an arrangement or a diameter alone is no array if a stated scale contradicts it
        if found.name != "unknown" and spot_um is None:
            logger.warning("The spots are not taken for those of an array that they are placed as: %s. If they are spots "
                           "of another array, give `spot_um`.", _compared(found, stated, image_scale))  # fmt: skip
        return RecognisedArray("unknown", found.pitch_px, spot_shape=found.spot_shape), stated, "the stated scale"
    if not fold > 1 + config.scale_differs:
        return found, stated, "the stated scale"
    if fold > config.scale_contradicts and spot_um is None:
        msg = (
            f"Found a stated scale that contradicts the array: {_compared(found, stated, image_scale)}. Correct or remove the "
            "stated one (that of a smaller image is larger), or, if the array is another one, give `spot_um` or remove "
            "array_row and array_col."
        )
        raise ValueError(msg)
    source = f"the stated scale ({found.scale_source} gives {of_array:.4g} um per px)"
    logger.warning(
        "%.4g um per px is taken from the stated scale: %s. If it is wrong, correct it, remove microns_per_pixel from the scale "
        "factors, or leave `image_um_per_px` out.",
        stated,
        _compared(found, stated, image_scale),
    )
    return found, stated, source


def _compared(found: RecognisedArray, stated: float, image_scale: float | None) -> str:
    """Return how far apart spots lie by a stated scale and on their array, and the scale with which both agree."""
    name, per = ("microns_per_pixel", 1.0) if image_scale is None else ("image_um_per_px", image_scale)
    return (
        f"spots lie {found.pitch_px:.4g} px apart, that is {found.pitch_px * stated:.4g} um with {name}={stated / per:.4g}, "
        f"and {found.pitch_px * found.um_per_px:.4g} um are expected ({found.scale_source}): {name}={found.um_per_px / per:.4g} "
        "would fit"
    )


def _missing_scale(found: RecognisedArray, lattice: Lattice | None, size_px: float, n: int, config: ArrayConfig) -> str:
    array = array_placed_as(lattice, config)
    touching = found.spot_shape == "square" and not abs(size_px / found.pitch_px - 1) > config.bins_touch
    if array is not None and size_px > 0 and not touching:
        return _odd_diameter(found, array, size_px, n)
    head = f"Cannot determine how many um a pixel measures: found {n} spot centres in no known array"
    if found.spot_shape == "square":
        return (
            f"{head}: a square one, {found.pitch_px:.4g} px apart. Give the side of a bin as `spot_um` (with "
            '`spot_shape="square"`), or set `scalefactors["microns_per_pixel"]` (um per full-resolution px).'
            + ("" if array is None else f" {_printed_instead(found, array)}")
        )
    size = f"spots of {size_px:.4g} px of unknown um" if size_px > 0 else "no spot_diameter_fullres"
    return (
        f"{head}, no array_row/array_col that fit them and {size}. Set "
        '`scalefactors["microns_per_pixel"]` (um per full-resolution px), '
        f"{'or give `spot_um` and `spot_shape`' if size_px > 0 else 'or give the positions on the array'}. If "
        "`image_um_per_px` was stated, it is that of the image: with `image_scale` it gives the scale of the centres, too."
    )


def _odd_diameter(found: RecognisedArray, array: SpotArray, size_px: float, n: int) -> str:
    """Return the message for spots at the places of an array that are not of its size, the likeliest cause first."""
    expected = _expected_px(found, array)
    return (
        f"Cannot determine how many um a pixel measures: found {n} spots at the places of the {array.name} array, "
        f"{found.pitch_px:.4g} px apart, but spots of {size_px:.4g} px; expected about {expected:.4g} px, as its spots are "
        f"{array.spot_um:.0f} um wide and {array.pitch_um:.0f} um apart. Most likely the diameter is wrong "
        f"({size_px / expected:.2g} times the expected one): correct or remove spot_diameter_fullres in the scale factors. If the "
        'diameter is right, it is another array: give `spot_um` (and for bins `spot_shape="square"`), or set '
        '`scalefactors["microns_per_pixel"]` (um per full-resolution px). array_row and array_col fit the centres.'
    )


def _printed_instead(found: RecognisedArray, array: SpotArray) -> str:
    return (
        f"If they are printed spots, as those of the {array.name} array, spot_diameter_fullres is wrong: about "
        f"{_expected_px(found, array):.4g} px are expected; correct or remove it."
    )


def _expected_px(found: RecognisedArray, array: SpotArray) -> float:
    return found.pitch_px * array.spot_um / array.pitch_um


def _sized(
    found: RecognisedArray, size_um: float, pitch_um: float, is_true: bool, drawn: Shape | None, config: ArrayConfig
) -> tuple[float, Shape, str]:
    """Size and shape of the spots: the array's, else those in px at the scale found, else a Visium spot if it fits."""
    if np.isfinite(found.spot_um):
        return found.spot_um, found.spot_shape, found.spot_source
    if found.spot_shape == "square":
        return pitch_um, "square", "the pitch of the square array, whose bins touch"
    if np.isfinite(size_um):
        if not is_true and abs(size_um / SPACERANGER_SPOT_UM - 1) < config.nominal_tolerance:
            return VISIUM.spot_um, "disc", "spot_diameter_fullres, which is Space Ranger's for a Visium spot"
        source = "the size of the spots drawn" if is_true or drawn else "spot_diameter_fullres"
        if not is_true and not config.sparse * pitch_um <= size_um <= config.overlap * pitch_um:
            logger.warning("Found spots of %.3g um (%s) that lie %.3g um apart in no known array. If they "
                           "are cells: %s", size_um, source, pitch_um, CELLS_HINT)  # fmt: skip
        return size_um, drawn or "disc", source
    if pitch_um < VISIUM.spot_um:
        return np.nan, "disc", "nothing"
    logger.warning(
        "Nothing states how large a spot is: taken for a Visium spot of 55 um. Else give `spot_um` "
        "to `sphisto.io.section`."
    )
    return VISIUM.spot_um, "disc", "nothing (taken for Visium spots)"
