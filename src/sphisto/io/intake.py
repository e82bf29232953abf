"""From AnnData or SpatialData to a Slide: everything is looked at, and refused or repaired, before long work starts.

Both containers are first brought to one form, a :class:`Section`; a single path leads on from there.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._checks import check_counts, number_of, require_positive
from sphisto.core.alignment import check_alignment, explain
from sphisto.core.grid import Grid
from sphisto.core.interpolate import median_pitch
from sphisto.core.lattice import Calibration, calibrate
from sphisto.core.slide import Measured, Slide, Spot, SpotShape
from sphisto.io.claims import element_name
from sphisto.io.elements import levels_of, scale_to
from sphisto.io.images import open_image
from sphisto.io.pyramid import Pyramid, as_pyramid
from sphisto.io.working_picture import resized_mask, tissue_in, working_picture

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.core.mask import Mask

logger = logging.getLogger("sphisto")

_ON_MASK = 0.5  # a spot with less tissue than this under it was missed by the mask: it did measure RNA
_LEAST_PX = 4  # across a spot: with fewer, pixels are larger than cells
_WIDEST = 5.0  # pitches; spots lie side by side, and the areas of far larger ones fill the memory
_SAME_EXTENT = 0.02  # relative; sides of one image at two resolutions differ by rounding only


@dataclass(frozen=True, eq=False)
class Section:
    """A section as its container told it, before pixels are computed on.

    Parameters
    ----------
    library_id
        Name of the section.
    table
        AnnData, spots x genes.
    centers
        (n, 2) spot centres (y, x) in full-resolution px.
    image
        Picture in any form that :func:`sphisto.io.pyramid.as_pyramid` takes, perhaps lazy.
    image_scale
        Image px per full-resolution px.
    spot_px
        ``spot_diameter_fullres``, or the side of a bin, in full-resolution px.
    shape
        Shape of the spots.
    microns_per_px
        Stated um per full-resolution px.
    spot_um
        Stated diameter of a spot or side of a bin in um.
    """

    library_id: str
    table: AnnData
    centers: NDArray[np.float64]
    image: Any
    image_scale: float
    spot_px: float | None = None
    shape: SpotShape = "disc"
    microns_per_px: float | None = None
    spot_um: float | None = None


def read_section(
    data: AnnData | SpatialData,
    *,
    image: Any = None,
    image_scale: float | None = None,
    library_id: str | None = None,
) -> Section:
    """Find image, coordinates and scale in an AnnData (Visium layout) or a SpatialData.

    Parameters
    ----------
    data
        AnnData with ``obsm["spatial"]`` and ``uns["spatial"]``, or SpatialData with an image, circles or squares, and
        a table that annotates them.
    image
        Picture to use instead of the one in ``data``: path, array (y, x, 3), or the name of an image element.
    image_scale
        Pixels of ``image`` per full-resolution pixel; by default 1, or the scale factor of a picture in ``data`` that
        has the same size.
    library_id
        Which section to take where ``data`` holds several.
    """
    if hasattr(data, "obsm"):
        return _from_anndata(data, image, image_scale, library_id)
    if hasattr(data, "shapes"):
        return _from_spatialdata(data, image, image_scale, library_id)
    msg = f"Found {type(data).__name__}; expected an AnnData in the Visium layout or a SpatialData."
    raise TypeError(msg)


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
    values, is_counts = _values(section.table, layer)
    genes = _gene_names(section.table)
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


def _from_anndata(adata: AnnData, image: Any, image_scale: float | None, library_id: str | None) -> Section:
    if "spatial" not in adata.obsm:
        msg = (
            'Found no obsm["spatial"]; expected the spots\' (x, y) in full-resolution pixels. Read the section with '
            "`sphisto.io.read_visium`."
        )
        raise ValueError(msg)
    name, library = _choose_library(adata.uns.get("spatial", {}), library_id)
    factors = dict(library.get("scalefactors") or {})
    picture, scale = _find_image(library, factors, image, image_scale)
    um_per_px = factors.get("microns_per_pixel")
    return Section(
        element_name(name),
        adata,
        _centers(adata.obsm["spatial"]),
        picture,
        scale,
        spot_px=number_of(factors.get("spot_diameter_fullres")),
        microns_per_px=None if um_per_px is None else require_positive(um_per_px, "microns_per_pixel"),
    )


def _choose_library(libraries: Any, library_id: str | None) -> tuple[str, Mapping[str, Any]]:
    known = isinstance(libraries, Mapping) and all(isinstance(library, Mapping) for library in libraries.values())
    if not known:
        msg = (
            f"Found uns['spatial'] of another form ({type(libraries).__name__}); expected a dict of libraries, each a dict "
            "with images and scalefactors. Read the section with `sphisto.io.read_visium`."
        )
        raise ValueError(msg)
    if library_id is None and len(libraries) > 1:
        msg = f"Found several libraries in uns['spatial']: {', '.join(libraries)}. Choose one with `library_id`."
        raise ValueError(msg)
    if not libraries:
        return library_id or "library", {}
    name = library_id or next(iter(libraries))
    if name not in libraries:
        msg = f"Found no library {name!r} in uns['spatial']; it holds {', '.join(libraries)}."
        raise KeyError(msg)
    return name, libraries[name]


def _centers(xy: Any) -> NDArray[np.float64]:
    """Turn (n, 2) x, y into y, x: the only place where the order changes."""
    try:
        points = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"Found spot coordinates that are no numbers ({error}); expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg) from error
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"Found spot coordinates of shape {points.shape}; expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg)
    bad = int((~np.isfinite(points[:, :2])).any(axis=1).sum())
    if bad:
        msg = f"Found {bad} of {len(points)} spots without finite coordinates; remove them or correct the positions."
        raise ValueError(msg)
    if len(points) < 2:
        msg = f"Found {len(points)} spot(s); a projection needs at least two, and some tens to be worth anything."
        raise ValueError(msg)
    return points[:, 1::-1].copy()


def _find_image(
    library: Mapping[str, Any], factors: dict[str, Any], image: Any, image_scale: float | None
) -> tuple[Any, float]:
    """Return the picture and its pixels per full-resolution pixel."""
    stored = {
        key: picture
        for key, picture in dict(library.get("images") or {}).items()
        if f"tissue_{key}_scalef" in factors and picture is not None
    }
    if image is not None:
        picture = as_pyramid(open_image(image) if isinstance(image, str | Path) else image)
        same_size = (
            factors[f"tissue_{key}_scalef"] for key, known in stored.items() if np.shape(known)[:2] == picture.shape
        )
        return picture, _valid_scale(image_scale or next(same_size, 1.0), "image_scale")
    for key in ("hires", "lowres"):
        if key in stored:
            name = f"tissue_{key}_scalef"
            return stored[key], _valid_scale(image_scale or factors[name], name)
    source = (library.get("metadata") or {}).get("source_image_path")
    if isinstance(source, str) and Path(source).exists():
        return open_image(source), 1.0
    msg = (
        "Found no tissue image with its scale factor in uns['spatial']; expected images['hires'] or images['lowres'] "
        "and scalefactors['tissue_hires_scalef']. Pass the picture as `image=` (with `image_scale=` if it is not the "
        "full-resolution one) or read the section with `sphisto.io.read_visium`."
    )
    raise ValueError(msg)


def _valid_scale(scale: Any, name: str) -> float:
    value = number_of(scale)
    if not 0 < value <= 1 + 1e-6:
        msg = (
            f"{name} is {scale!r}; expected a number above 0 and at most 1: pixels of this image per full-resolution "
            "pixel. Correct the scale factor."
        )
        raise ValueError(msg)
    return value


def _from_spatialdata(sdata: SpatialData, image: Any, image_scale: float | None, library_id: str | None) -> Section:
    table, region = _choose_table(sdata, library_id)
    shapes = sdata.shapes[region]
    keys = table.uns["spatialdata_attrs"]
    rows = table.obs[keys["region_key"]].astype(str) == region
    adata = table[rows.to_numpy()].copy() if not rows.all() else table
    shapes = shapes.loc[adata.obs[keys["instance_key"]].to_numpy()]
    system, picture, scale = _choose_image(sdata, region, image, image_scale)
    to_system = scale_to(sdata.shapes[region], system, region)
    center = shapes.geometry.centroid
    xy = np.column_stack([center.x, center.y]) * to_system
    discs = "radius" in shapes
    size = 2 * shapes["radius"] if discs else np.sqrt(shapes.geometry.area)
    side = float(np.median(size)) * to_system
    named = re.search(r"(\d+)um", region)
    spot_um = None if discs or named is None else float(named.group(1))
    return Section(
        element_name(library_id or re.sub(r"_spots$", "", region)),
        adata,
        _centers(xy),
        picture,
        scale,
        spot_px=side,
        shape="disc" if discs else "square",
        microns_per_px=None if spot_um is None else spot_um / side,
        spot_um=spot_um,
    )


def _choose_table(sdata: SpatialData, library_id: str | None) -> tuple[AnnData, str]:
    """Return the table and the shapes element it annotates."""
    found = [
        (table, region)
        for table in sdata.tables.values()
        for region in np.atleast_1d(table.uns.get("spatialdata_attrs", {}).get("region", []))
        if region in sdata.shapes and (library_id is None or library_id in str(region))
    ]
    if len(found) == 1:
        return found[0][0], str(found[0][1])
    choice = f" for library_id={library_id!r}" if library_id else ""
    if not found:
        msg = f"Found no table{choice} that annotates circles or squares in the SpatialData; expected one."
        raise ValueError(msg)
    msg = (
        f"Found several annotated regions{choice}: {', '.join(str(region) for _, region in found)}. Choose one with "
        "`library_id=` (a part of its name that no other has)."
    )
    raise ValueError(msg)


def _choose_image(sdata: SpatialData, region: str, image: Any, image_scale: float | None) -> tuple[str, Any, float]:
    """Return the coordinate system shared with the spots, the picture as (y, x, c), and its px per system unit."""
    from spatialdata.transformations import get_transformation

    systems = list(get_transformation(sdata.shapes[region], get_all=True))
    if image is not None and not (isinstance(image, str) and image in sdata.images):
        system = "global" if "global" in systems else systems[0]
        picture = open_image(image) if isinstance(image, str | Path) else image
        return system, picture, _valid_scale(image_scale or 1.0, "image_scale")
    options = []
    for name in [image] if image is not None else list(sdata.images):
        shared = [s for s in get_transformation(sdata.images[name], get_all=True) if s in systems]
        for system in sorted(shared, key=lambda s: s != "global")[:1]:
            options.append((1 / scale_to(sdata.images[name], system, name), system, name))
    if not options:
        msg = (
            f"Found no image in a coordinate system of {region!r} ({', '.join(systems)}); the SpatialData holds "
            f"{', '.join(sdata.images) or 'no images'}. Add one or pass `image=`."
        )
        raise ValueError(msg)
    # like the Visium layout's default: the hires picture if there is one, else the finest
    scale, system, name = max(options, key=lambda option: ("hires" in option[2], option[0]))
    return system, Pyramid(levels_of(sdata.images[name], ("y", "x", "c"))), scale


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


def _values(table: AnnData, layer: str | None) -> tuple[sparse.csr_array, bool]:
    """Return the (n, G) values to fit and whether they are counts."""
    if layer is None and "counts" in table.layers:
        layer = "counts"
    if layer is not None and layer not in table.layers:
        msg = f"Found no layer {layer!r}; the table has {', '.join(table.layers) or 'no layers'}."
        raise KeyError(msg)
    if table.n_vars == 0 or table.n_obs == 0:
        msg = f"Found a table of {table.n_obs} spots x {table.n_vars} genes; nothing is left to fit. Filter less."
        raise ValueError(msg)
    where = "X" if layer is None else f"layers[{layer!r}]"
    raw = table.X if layer is None else table.layers[layer]
    raw = raw.to_memory() if hasattr(raw, "to_memory") else raw  # of a table that stays in its file
    if raw is None or getattr(raw, "dtype", np.dtype(object)).kind not in "buif":
        found = "no values" if raw is None else f"values of type {getattr(raw, 'dtype', type(raw).__name__)}"
        msg = f"Found {found} in {where}; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        values = sparse.csr_array(raw).astype(np.float32)
    _refuse(values, where)
    problem = check_counts(values)
    if problem:
        logger.warning("%s holds no raw counts (%s): the fit uses a Gaussian likelihood.", where, problem)
    return values, problem is None


def _refuse(values: sparse.csr_array, where: str) -> None:
    if not np.isfinite(values.data).all():
        bad = int((~np.isfinite(values.data)).sum())
        msg = f"Found {bad} NaN or infinite values in {where} as float32; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg)
    if (values.data < 0).any():
        msg = (
            f"Found negative values in {where} (lowest {values.data.min():.3g}): scaled or centred data cannot be "
            'summed over pixels. Choose the layer with raw counts, for instance `layer="counts"`.'
        )
        raise ValueError(msg)
    if not values.data.any():
        msg = f"Found only zeros in {where}; expected counts. Choose the `layer` that holds them."
        raise ValueError(msg)


def _gene_names(table: AnnData) -> tuple[str, ...]:
    """Return the names of the genes; refuse those that cannot be told apart or be written."""
    names = tuple(map(str, table.var_names))
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        msg = f"Found duplicated gene names ({', '.join(repeated[:5])}); run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    broken = [name for name in names if not _can_be_written(name)]
    if broken:
        msg = (
            f"Found gene names that are no text ({', '.join(map(ascii, broken[:5]))}): they hold surrogates or a null "
            "character. Read the table with the right encoding, or rename the genes."
        )
        raise ValueError(msg)
    return names


def _can_be_written(name: str) -> bool:
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


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
