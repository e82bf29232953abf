"""A section in a SpatialData: a table, the circles or squares it annotates, and the image that belongs to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._settings import logger
from sphisto.core.grid import SAME_PLACE_PX
from sphisto.io.counts import require_frames
from sphisto.io.elements import is_shifted, matrix_to, scale_and_shift
from sphisto.io.layouts import Layout, bin_um_of, centers_of, positive_or_none, stated_scale
from sphisto.io.libraries import libraries_of, part_of
from sphisto.io.spatialdata_images import choose_image
from sphisto.io.spatialdata_regions import BINS, choose_region, rows_of, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData
_REDUCED = re.compile(r"(downscaled|_hires|_lowres)")  # coordinate systems that are pixels of a reduced image
INTRINSIC = "the shapes' own coordinates"


def layout_of_spatialdata(
    sdata: SpatialData,
    *,
    image: Any = None,
    image_scale: float | None = None,
    library_id: str | None = None,
    bin_um: float | None = None,
) -> Layout:
    """Find rows, places, image and scales of one section in a SpatialData; of bins of several sizes those of ``bin_um``."""
    name, table, region = choose_region(sdata, library_id, bin_um)
    require_frames(table)
    shapes = sdata.shapes[region]
    rows, shapes, kept = rows_of(table, region, shapes)
    side, shape, turn = size_of(shapes, region)
    center = shapes.geometry.centroid
    xy = np.column_stack([center.x, center.y])
    to_fullres, frame = _full_resolution(table, rows, sdata.shapes[region], region, xy)
    pyramid, scale, which_image = choose_image(sdata, region, image, image_scale, to_fullres)
    about = _written_by_us(sdata, region)
    if scale is not None and scale > 1 and image_scale is None and about is None:
        # the image is finer than the coordinates: its pixels are the full resolution
        to_fullres, scale, frame = to_fullres * scale, 1.0, f"pixels of the image, the finest there are ({frame})"
    factors = _factors_of(table)
    named = BINS.search(region)
    return Layout(
        library_id=library_id or re.sub(r"_spots$", "", region),
        adata=table,
        rows=rows,
        centers=centers_of(xy * to_fullres),
        image=pyramid,
        image_scale=None if scale is None else stated_scale(scale, "the image's scale"),
        spot_px=side * to_fullres,
        spot_px_is_true=shape == "square" or about is not None,
        drawn=shape,
        turn=turn,
        bin_um=positive_or_none(factors.get("bin_size_um"))
        or (float(named.group(1)) if named else bin_um_of(table.obs_names[rows])),
        microns_per_px=about or positive_or_none(factors.get("microns_per_pixel")),
        concluded={
            "layout": f"SpatialData, table {name!r}, which annotates {'circles' if shape == 'disc' else 'squares'} {region!r}",
            "rows": kept,
            "image": which_image,
            "frame": frame,
        },
    )


def _full_resolution(
    table: AnnData, rows: NDArray[np.intp], element: GeoDataFrame, region: str, xy: NDArray[np.float64]
) -> tuple[float, str]:
    """Return full-resolution px per unit of the shapes' own coordinates, and from what that was concluded."""
    from spatialdata.transformations import get_transformation

    matrices = {"": np.eye(3)} | {
        str(system): matrix_to(element, str(system))
        for system in get_transformation(element, get_all=True)
        if not _REDUCED.search(str(system))
    }
    scales = {system: scale for system, matrix in matrices.items() if (scale := scale_and_shift(matrix)) is not None}
    named = sorted((s for s in scales if s), key=lambda s: (s != "global", -_alike(s, region)))
    note = ""
    if "spatial" in table.obsm:
        stated = np.asarray(table.obsm["spatial"])[rows]
        if stated.ndim == 2 and stated.shape[1] >= 2 and np.issubdtype(stated.dtype, np.number):
            for system in [*named, ""]:
                there = xy @ matrices[system][:2, :2].T + matrices[system][:2, 2]
                if any(
                    np.allclose(at, stated[:, :2], atol=SAME_PLACE_PX, rtol=0) for at in (there, xy * scales[system])
                ):
                    which = f"coordinate system {system!r}" if system else INTRINSIC
                    frame = f'{which}, where the shapes lie as obsm["spatial"] of the table states'
                    return scales[system], frame + _shift(matrices[system], system, region)
            note = '; obsm["spatial"] of the table agrees with none of them and is not used'
            logger.warning('%r: obsm["spatial"] of the table agrees with no full-resolution coordinate system of the shapes '
                           "and is not used. If rows of the table are not those of the shapes, correct their ids; else correct or "
                           'remove `obsm["spatial"]`.', region)  # fmt: skip
    if named:
        frame = f"coordinate system {named[0]!r}{note}"
        return scales[named[0]], frame + _shift(matrices[named[0]], named[0], region)
    return 1.0, f"no coordinate system but of reduced images: {INTRINSIC}{note}"


def _shift(matrix: NDArray[np.float64], system: str, region: str) -> str:
    """Return a note that shapes lie shifted in a coordinate system, which nothing that is written here repeats."""
    if not is_shifted(matrix):
        return ""
    by = " and ".join(f"{shift:.5g}" for shift in matrix[:2, 2])
    logger.warning(
        "%r lies shifted by %s (x and y) in %r of the SpatialData, perhaps beside other sections. `global` of a store begins "
        "where the section's image does: give other elements of the SpatialData to `sphisto.tl.aggregate` without that shift.",
        region, by, system,
    )  # fmt: skip
    return f", without its shift by {by} (x and y)"


def _alike(name: str, region: str) -> int:
    """Length of the beginning that two names share."""
    return next((i for i, (a, b) in enumerate(zip(name, region, strict=False)) if a != b), min(len(name), len(region)))


def _factors_of(table: AnnData) -> Mapping[str, Any]:
    """Scale factors that the table still has of the Visium layout, if they are of one library."""
    libraries, _ = libraries_of(table.uns.get("spatial", {}))
    return part_of(next(iter(libraries.values())), "scalefactors") if len(libraries) == 1 else {}


def _written_by_us(sdata: SpatialData, region: str) -> float | None:
    """Um per full-resolution px as the marks of a store of sphisto state it."""
    mark = sdata.attrs.get(_keys.MARK)
    grids = mark.get("grids", {}) if isinstance(mark, dict) else {}
    about = grids.get(_keys.image(re.sub(r"_spots$", "", region)))
    if about is None:
        return None
    y, x = about["fullres_per_px"]
    return float(about["um_per_px"] / np.sqrt(y * x))
