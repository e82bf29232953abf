"""From a section or a picture to a Slide: everything is looked at, and refused or repaired, before long work starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import require_positive
from sphisto.core.alignment import check_alignment, explain
from sphisto.core.grid import Grid
from sphisto.core.interpolate import median_pitch
from sphisto.core.lattice import Calibration, calibrate
from sphisto.core.slide import Measured, Slide, Spot, SpotShape
from sphisto.io.claims import element_name
from sphisto.io.counts import gene_names, values_of
from sphisto.io.images import open_image
from sphisto.io.pyramid import Pyramid, as_pyramid
from sphisto.io.working_picture import resized_mask, tissue_in, working_picture

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.mask import Mask
    from sphisto.io.section import Section

logger = logging.getLogger("sphisto")

_ON_MASK = 0.5  # a spot with less tissue than this under it was missed by the mask: it did measure RNA
_LEAST_PX = 4  # across a spot: with fewer, pixels are larger than cells
_WIDEST = 5.0  # pitches; spots lie side by side, and the areas of far larger ones fill the memory
_SAME_EXTENT = 0.02  # relative; sides of one image at two resolutions differ by rounding only


def make_slide(
    section: Section,
    *,
    layer: str | None = None,
    um_per_px: float | None = None,
    spot_um: float | None = None,
    spot_shape: SpotShape | None = None,
    tissue: NDArray[np.bool_] | None = None,
    check: bool = True,
    repair: bool = True,
) -> Slide:
    """Turn a section into arrays on one grid.

    Parameters
    ----------
    section
        What :func:`read_section` found.
    layer
        Layer of the table with the raw counts; by default ``"counts"`` if there is one, else ``X``.
    um_per_px
        Wanted um per grid pixel; the image is averaged over whole blocks of pixels, so that the nearest whole multiple
        of its own resolution is used. Default: the image's own.
    spot_um, spot_shape
        Diameter (or side) of the capture area in um and its shape; by default what the array is known to have.
    tissue
        (y, x) bool mask of the tissue, of the image's size or the grid's; by default found in the picture.
    check
        Whether misfits of spots and image are refused.
    repair
        Whether the area of spots that measured RNA off the tissue is added to it, and a section of which no spot tells
        of the image is refused.

    Raises
    ------
    ValueError
        If the input cannot be right; the message says what was found and what to do.
    """
    values, is_counts = values_of(section.table, layer)
    genes = gene_names(section.table)
    pyramid, native, scale = _calibrated(section, spot_um)
    spot = Spot(scale.spot_um, spot_shape or section.shape)
    _refuse_wide(spot, scale)
    picture, grid, block = working_picture(pyramid, native, um_per_px)
    logger.info(
        "%s: %.3g um per image pixel, from %s; working at %.3g um per px on %d x %d px.",
        section.library_id, native.um_per_px, scale.source, grid.um_per_px, *grid.shape,
    )  # fmt: skip
    if spot.um < _LEAST_PX * grid.um_per_px:
        logger.warning(
            "%s: at %.3g um per px a spot of %.3g um is %.2g px wide, so the picture shows no cells: the rasters will "
            "hardly be finer than the spots. Give a picture of higher resolution, or a smaller um_per_px.",
            section.library_id, grid.um_per_px, spot.um, spot.um / grid.um_per_px,
        )  # fmt: skip
    centers = grid.from_fullres(section.centers)
    mask = tissue_in(pyramid, picture, grid, block) if tissue is None else resized_mask(tissue, grid, block)
    measured = Measured(centers, values, genes, is_counts, median_pitch(centers))
    slide = Slide(section.library_id, picture, grid, mask, spot, measured)
    problem = misfit(section, slide) if check else None
    if problem:
        msg = f"{problem} If spots and image are right as they are, pass `check=False`."
        raise ValueError(msg)
    if not repair:
        return slide
    _refuse_nothing_measured(slide, _other_scale(section, grid))
    return replace(slide, tissue=_with_missed_spots(slide, mask))


def um_per_px_for(section: Section, longest_side: int, *, spot_um: float | None = None) -> float:
    """Um per px at which the picture is at most so many px long."""
    _, native, _ = _calibrated(section, spot_um)
    return native.um_per_px * max(1, -(-max(native.shape) // longest_side))


def _calibrated(section: Section, spot_um: float | None) -> tuple[Pyramid, Grid, Calibration]:
    """Return the picture, its own grid, and the scale of the section."""
    if spot_um is not None:
        spot_um = require_positive(spot_um, "spot_um")
    pyramid = as_pyramid(section.image)
    if pyramid.conversion.note:
        logger.info("%s: %s", section.library_id, pyramid.conversion.note)
    scale = calibrate(
        section.centers,
        array_row=_column(section.table, "array_row"),
        array_col=_column(section.table, "array_col"),
        spot_diameter_px=section.spot_px,
        microns_per_px=section.microns_per_px,
        spot_um=spot_um or section.spot_um,
    )
    fullres_per_px = (1 / section.image_scale,) * 2
    return pyramid, Grid(*pyramid.shape, scale.um_per_px / section.image_scale, fullres_per_px), scale


def misfit(section: Section, slide: Slide) -> str | None:
    """Return what cannot be right about spots and picture, and what mends it; ``None`` if nothing is wrong."""
    centers = slide.spots.centers
    problem = explain(check_alignment(centers, slide.tissue, slide.spots.pitch), centers, slide.grid.shape)
    if problem is None:
        return None
    outside = np.any(centers >= slide.grid.shape)
    return f"{section.library_id}: {problem}{_other_scale(section, slide.grid) if outside else ''}"


def make_image_slide(
    image: Any,
    *,
    image_um_per_px: float,
    um_per_px: float,
    spot: Spot,
    name: str = "image",
    tissue: NDArray[np.bool_] | None = None,
) -> Slide:
    """Turn a picture alone, of known scale, into a slide without spots."""
    pyramid = as_pyramid(open_image(image) if isinstance(image, str | Path) else image)
    if pyramid.conversion.note:
        logger.info("%s: %s", name, pyramid.conversion.note)
    native = Grid(*pyramid.shape, require_positive(image_um_per_px, "image_um_per_px"))
    picture, grid, block = working_picture(pyramid, native, um_per_px)
    mask = tissue_in(pyramid, picture, grid, block) if tissue is None else resized_mask(tissue, grid, block)
    return Slide(element_name(name), picture, grid, mask, spot)


def _other_scale(section: Section, grid: Grid) -> str:
    """Name the scale factor that would fit, if the image seems to be taken with another one's."""
    for library in section.table.uns.get("spatial", {}).values():
        for name, factor in library.get("scalefactors", {}).items():
            fits = "scalef" in name and np.all(section.centers * factor < np.multiply(grid.shape, grid.fullres_per_px)
                                               * section.image_scale)  # fmt: skip
            if fits and abs(factor / section.image_scale - 1) > _SAME_EXTENT:
                return f" The scale factor {name} = {factor:.4g} would fit (`image_scale={factor:.4g}`)."
    return ""


def _with_missed_spots(slide: Slide, mask: Mask) -> Mask:
    """Add the area of spots that measured RNA where the mask sees no tissue, in whole blocks of the mask."""
    spots = slide.footprint()
    missed = spots.select(spots.mean(mask)[:, 0] < _ON_MASK)
    if len(missed) == 0:
        return mask
    logger.warning(
        "%s: %d of %d spots lie off the tissue found in the picture; their area is added to it.",
        slide.name, len(missed), len(spots),
    )  # fmt: skip
    return mask.with_spots(missed)


def _refuse_wide(spot: Spot, scale: Calibration) -> None:
    """Raise for spots so large that they lie on top of each other."""
    if spot.um > _WIDEST * scale.pitch_um:
        msg = (
            f"Found spots of {spot.um:.3g} um that lie {scale.pitch_um:.3g} um apart (the scale is taken from "
            f"{scale.source}); expected spots side by side. Give `spot_um` in um (not in pixels), correct the scale, or take "
            "one section of several that were joined."
        )
        raise ValueError(msg)


def _refuse_nothing_measured(slide: Slide, hint: str) -> None:
    """Raise if no spot tells anything of the image."""
    spots, on_image = slide.spots, slide.on_image
    if not on_image.any():
        low, high = spots.centers.min(axis=0), spots.centers.max(axis=0)
        msg = (
            f"None of the {len(on_image)} spots lies on the image, which measures {slide.grid.height} x {slide.grid.width} "
            f"px (y, x): they reach from {_place(low)} to {_place(high)} (y, x).{hint} Correct the positions or the scale "
            "factor, or choose another image."
        )
        raise ValueError(msg)
    if not spots.values[on_image].sum() > 0:
        msg = (
            f"The {on_image.sum()} of {len(on_image)} spots that lie on the image hold no counts; expected some there. "
            "Correct the positions, or choose the image and the table of one section."
        )
        raise ValueError(msg)


def _place(point: NDArray[np.float64]) -> str:
    return f"({point[0]:.4g}, {point[1]:.4g})"


def _column(table: AnnData, name: str) -> NDArray[np.float64] | None:
    """Column of ``obs`` as numbers, NaN for what is none; ``None`` where there is no such column."""
    if name not in table.obs:
        return None
    import pandas as pd

    return np.asarray(pd.to_numeric(table.obs[name].astype(object), errors="coerce"), dtype=np.float64)
