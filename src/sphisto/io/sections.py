"""Understand what the user gives, once: which rows, which image, what frame, units, spots and counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import require_positive
from sphisto._settings import logger
from sphisto.core.grid import Grid
from sphisto.core.spot import Spot, SpotShape, median_pitch
from sphisto.io.bins import said_of_empty
from sphisto.io.calibration import calibration_of, scale_of_stated
from sphisto.io.counts import gene_names, refuse_backed_view, values_of, warn_of_other_features
from sphisto.io.image.open import open_image
from sphisto.io.image.pyramid import Pyramid, as_pyramid
from sphisto.io.layout_anndata import layout_of_anndata
from sphisto.io.layout_spatialdata import layout_of_spatialdata
from sphisto.io.paths import user_path
from sphisto.io.refusals import name_of, refuse_other_files
from sphisto.io.spaceranger import read_run
from sphisto.io.spaceranger_folder import is_spaceranger_folder
from sphisto.io.store.names import element_name
from sphisto.io.understood import Section
from sphisto.io.window import as_bbox, part_of_section
from sphisto.slide.calibration import Calibration
from sphisto.slide.slide import Measured

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.io.layouts import Layout
    from sphisto.io.window import BBox


def section(
    data: AnnData | SpatialData | NDArray[Any] | str | Path,
    *,
    image: Any = None,
    image_scale: float | None = None,
    image_um_per_px: float | None = None,
    library_id: str | None = None,
    library_key: str | None = None,
    layer: str | None = None,
    spot_um: float | None = None,
    spot_shape: SpotShape | None = None,
    bin_um: float | None = None,
    bbox: BBox | None = None,
    tissue: NDArray[np.bool_] | None = None,
    check: bool = True,
) -> Section:
    """Understand a section: its rows, image, frame, units, spots and counts; nothing is computed or written.

    Print the result: it shows what was understood and from what. :func:`sphisto.tl.fit_projection` and all functions that
    take data take a section, too; call this one where something must be stated that the data do not state.

    Parameters
    ----------
    data
        AnnData in the Visium layout (``obsm["spatial"]``, ``uns["spatial"]``), also of Visium HD bins; SpatialData with an
        image, circles or squares, and a table that annotates them; folder of a Space Ranger run, also of Visium HD; or an
        image alone: path or array (y, x, 3).
    image
        Image to use instead of the one in ``data``: path (tif or OME-TIFF with or without resolutions, OME-Zarr, png,
        jpg; svs and other slides with the extra ``sphisto[slides]``), array (y, x, 3), image element, or the name of a
        image in ``data``. Default: the full-resolution one that the data name, else hires, else lowres.
    image_scale
        Pixels of the image per full-resolution pixel; needed only for an image of neither full, hires nor lowres size.
        Above 1 for an image that is finer than the coordinates of the spots: these stay the frame of all results.
    image_um_per_px
        Um per pixel of the image; required for an image alone. Of a section with spots it overrides the scale that
        follows from their array; with ``image`` and without ``image_scale`` it gives the scale of the image under the spots.
    library_id
        Which section to take, where ``data`` holds several, or the name of the only one.
    library_key
        Column of ``obs`` of an AnnData that names the section of each spot; by default one that does is looked for.
    layer
        Layer with the raw counts, or ``"raw"`` for ``adata.raw``; default ``"counts"`` if there is one, else ``X``.
        Non-integer values are fitted with a Gaussian likelihood.
    spot_um, spot_shape
        Diameter in um of the capture area, or side of a bin, and its shape (``"disc"``, ``"square"``); default: those of
        the array found (Visium: discs of 55 um). Set them for other platforms.
    bin_um
        Side in um of the bins of a Visium HD section to fit. Default: of a table its own; of a run or a SpatialData with
        bins of several sizes 8. If there are none of that size, the counts of smaller ones are summed up.
    bbox
        Work at a window only: (x_min, y_min, x_max, y_max) in full-resolution px, as in ``obsm["spatial"]`` and
        :func:`sphisto.get.raster`. Spots or bins with their centre in it are taken, and the tissue ends at its border;
        rasters keep the frame of the whole section. Genes are still put together into factors by a sample of all rows.
        Of a table that stays in its file (``anndata.read_h5ad(path, backed="r")``) only rows that are needed are read.
    tissue
        (y, x) bool mask of the tissue, of the image's size or a coarser one; default: :func:`sphisto.pp.tissue_mask`.
    check
        Whether to refuse spots that do not fit the image (outside it, off tissue, flipped).

    Returns
    -------
    :class:`Section`, frozen. Its ``adata`` is the very table of ``data``; a table of its own where bins were summed up or a
    window was cut, and of a folder.

    Raises
    ------
    ValueError, KeyError, TypeError, FileNotFoundError
        If the data cannot be right or are ambiguous; the message says what was found, what was expected and what to do.

    Examples
    --------
    >>> import sphisto as sp
    >>> section = sp.io.section(sp.datasets.toy(96, 96, pitch_um=24, spot_um=13))
    >>> section.spot
    Spot(um=55.0, shape='disc', turn=0.0)
    >>> print(section)  # doctest: +SKIP
    """
    library_id, others = name_of(library_id), None
    if library_key is not None and (not hasattr(data, "obsm") or library_id is None):
        found_instead = f"a {type(data).__name__}" if library_id is not None else "no library_id"
        msg = (
            f"Found library_key={library_key!r} with {found_instead}; expected an AnnData, whose obs has that column, and the name of "
            "one section: `library_id`."
        )
        raise ValueError(msg)
    window = None if bbox is None else as_bbox(bbox)
    of_run = data if isinstance(data, str | Path) and is_spaceranger_folder(data) else None
    if of_run is not None:
        adata, others = read_run(of_run, image=None, library_id=library_id, bin_um=bin_um, bbox=window)
        found = layout_of_anndata(adata, image=image, image_scale=image_scale)
    elif hasattr(data, "obsm"):
        if window is None and bin_um is None:
            refuse_backed_view(data)
        found = layout_of_anndata(
            data, image=image, image_scale=image_scale, library_id=library_id, library_key=library_key
        )
    elif hasattr(data, "shapes") and hasattr(data, "tables"):
        found = layout_of_spatialdata(data, image=image, image_scale=image_scale, library_id=library_id, bin_um=bin_um)
    else:
        refuse_other_files(data)
        if bin_um is not None or window is not None:
            msg = "Found `bin_um` or `bbox` with an image alone; expected them with a section that has spots or bins. Leave them out."
            raise ValueError(msg)
        return _image_alone(data, image_um_per_px, library_id, spot_um, spot_shape, tissue, check=check)
    if of_run is None:
        found, others = part_of_section(found, bin_um, window)
    _require_some(len(found.rows), window)
    um = None if image_um_per_px is None else require_positive(image_um_per_px, "image_um_per_px")
    scale = calibration_of(found, um, spot_um, spot_shape)
    pyramid = found.image
    assert pyramid is not None  # both layouts open it
    image_scale = found.image_scale or scale_of_stated(um, scale)
    grid = Grid(*pyramid.shape, scale.um_per_px / image_scale, (1 / image_scale,) * 2)
    own = found.adata if len(found.rows) == found.adata.n_obs else found.adata[found.rows]
    which = found.concluded["image"]
    if found.image_scale is None:
        which += f", {'taken for the full-resolution one' if image_scale == 1 else 'of the um per px that were stated'}"
    values, is_counts, where = values_of(own, layer)
    warn_of_other_features(own, values)
    if found.bin_um is not None and is_counts:
        found = replace(found, concluded={**found.concluded, "rows": found.concluded["rows"] + said_of_empty(values)})
    counts = f"{'counts' if is_counts else 'no counts'} in {where}, of {own.n_vars} genes"
    pitch = median_pitch(found.centers)
    return Section(
        library_id=element_name(found.library_id),
        image=pyramid,
        grid=grid,
        adata=found.adata,
        rows=found.rows,
        measured=Measured(
            found.centers,
            values,
            gene_names(own),
            is_counts,
            pitch,
            None if others is None else values_of(others, layer)[0],
        ),
        spot=Spot(scale.spot_um, scale.spot_shape, scale.turn),
        tissue=tissue,
        bbox=window,
        check=check,
        about=_about(found, scale, counts, _image_words(pyramid, grid, which), tissue),
        seen_shape=found.adata.shape,
        sdata=data if hasattr(data, "shapes") else None,
    )


def _require_some(n: int, bbox: BBox | None) -> None:
    """Refuse too few spots; where a window was asked for, it holds too few."""
    if n < 2:
        where = "" if bbox is None else f" or bin(s) in bbox={bbox}, (x_min, y_min, x_max, y_max) in full-resolution px"
        wider = "" if bbox is None else " Choose a larger window."
        msg = f"Found {n} spot(s){where}; a projection needs at least two, and some tens to be worth anything.{wider}"
        raise ValueError(msg)


def as_section(
    data: Any, *, image: Any = None, library_id: str | None = None, library_key: str | None = None
) -> Section:
    """Return data as a section: one as it is, anything else by :func:`section`."""
    if not isinstance(data, Section):
        return section(data, image=image, library_id=library_id, library_key=library_key)
    if image is not None or library_id is not None:
        msg = "Found a Section together with image= or library_id=; expected them in `sphisto.io.section(...)`, where they are decided."
        raise ValueError(msg)
    if data.adata is not None and data.adata.shape != data.seen_shape:
        msg = (
            f"The table of the section {data.library_id!r} has changed since `sphisto.io.section` was called: it had "
            f"{' x '.join(map(str, data.seen_shape))} spots x genes and has {' x '.join(map(str, data.adata.shape))}. Call "
            "`sphisto.io.section` again, after all filtering."
        )
        raise ValueError(msg)
    return data


def _image_alone(
    data: Any,
    um_per_px: float | None,
    library_id: str | None,
    spot_um: float | None,
    spot_shape: SpotShape | None,
    tissue: NDArray[np.bool_] | None,
    *,
    check: bool,
) -> Section:
    """Make a section without spots."""
    if um_per_px is None:
        known = isinstance(data, str | Path | Pyramid) or (hasattr(data, "shape") and hasattr(data, "dtype"))
        if not known and not hasattr(data, "dims"):
            msg = (
                f"Found {type(data).__name__}; expected an AnnData in the Visium layout, a SpatialData, the folder of a Space "
                "Ranger run, or an image (path or array)."
            )
            raise TypeError(msg)
        msg = (
            "An image alone has no known scale; give `sphisto.io.section(image, image_um_per_px=...)`, in um per pixel of "
            "the image."
        )
        raise ValueError(msg)
    um = require_positive(um_per_px, "image_um_per_px")
    is_path = isinstance(data, str | Path)
    pyramid = as_pyramid(open_image(user_path(data)) if is_path else data)
    name = element_name(library_id or (Path(data).stem if is_path else "image"))
    grid = Grid(*pyramid.shape, um)
    about = {
        "layout": "an image alone, no spots",
        "scale": f"{um:.4g} um per px, as stated",
        "image": _image_words(pyramid, grid, str(data) if is_path else "the array that was given"),
        "frame": "pixels of the image",
        "tissue": _tissue_words(tissue),
    }
    spot = None if spot_um is None else Spot(spot_um, spot_shape or "disc")
    return Section(name, pyramid, grid, spot=spot, tissue=tissue, check=check, about=about)


def _about(
    found: Layout, scale: Calibration, counts: str, image: str, tissue: NDArray[np.bool_] | None
) -> dict[str, str]:
    """Describe what was understood and from what, in the order in which a reader wants to know."""
    kind = "discs" if scale.spot_shape == "disc" else "squares"
    turned = f", turned by {scale.turn:.2g} degrees" if scale.turn else ""
    return {
        "layout": found.concluded["layout"],
        "rows": found.concluded["rows"],
        "values": counts,
        "array": scale.array,
        "spots": f"{len(found.rows)} {kind} of {scale.spot_um:.4g} um, {scale.pitch_um:.4g} um apart{turned}, from {scale.spot_source}",
        "scale": f"{scale.um_per_px:.4g} um per full-resolution px, from {scale.scale_source}",
        "frame": found.concluded["frame"],
        "image": image,
        "tissue": _tissue_words(tissue),
    }


def _image_words(pyramid: Pyramid, grid: Grid, which: str) -> str:
    """Describe which image it is, and what is converted of it; that is logged, too: not all functions log a section."""
    if pyramid.conversion.note:
        logger.info("%s: %s", which, pyramid.conversion.note)
    levels = f" in {len(pyramid.levels)} resolutions" if len(pyramid.levels) > 1 else ""
    note = f" {pyramid.conversion.note}" if pyramid.conversion.note else ""
    return f"{grid.height} x {grid.width} px (y, x){levels}, {grid.um_per_px:.4g} um per px: {which}.{note}"


def _tissue_words(tissue: NDArray[np.bool_] | None) -> str:
    return (
        "found in the image"
        if tissue is None
        else f"the mask of {' x '.join(map(str, np.shape(tissue)))} px that was given"
    )
