"""Regions as users have them (circles, polygons, labels), understood once: as footprints on a grid, or as outlines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.io.paths import located
from sphisto.io.regions.circles import circles_of
from sphisto.io.regions.files import is_region_file, read_regions
from sphisto.io.regions.labels import labels_of, on_raster
from sphisto.io.regions.placing import KINDS, refuse_radius
from sphisto.io.regions.shapes import shapes_of
from sphisto.io.store import read as stores
from sphisto.io.store.data import is_anndata


class Regions(Protocol):
    """Regions in the full-resolution pixels of a section."""

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        """Footprints on a grid, and the names of the regions."""
        ...

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        """Polygons of the same areas (``None`` for a region without any), and the names of the regions."""
        ...


def footprint(
    store: stores.Store, regions: Any, grid: Grid, radius: Any, system: str
) -> tuple[Footprint, NDArray[Any]]:
    """Footprints of regions on a grid, and their names."""
    made, names = understood(store, regions, radius, system, grid).on(grid)
    if len(made) == 0 or len(made.weight) == 0:
        far = grid.to_fullres(np.array([grid.shape]))[0]
        msg = (
            f"None of the {len(made)} regions lies on the raster; expected x from 0 to {far[1]:.0f} and y from 0 to "
            f"{far[0]:.0f} (full-resolution px)."
        )
        raise ValueError(msg)
    return made, names


def understood(store: stores.Store, regions: Any, radius: Any, system: str, grid: Grid | None = None) -> Regions:
    """Find out what regions are, and where: whatever :func:`sphisto.tl.aggregate` takes.

    Elements lie where their transformation to ``system`` puts them, which is that of the section; a plain mask of the shape
    of ``grid``, which is that of its rasters, on it.
    """
    name = "regions"
    if isinstance(regions, str | os.PathLike):
        name, regions = repr(os.fspath(regions)), _called(store, regions)
    if hasattr(regions, "geometry"):
        return shapes_of(regions, name, radius, system)
    if hasattr(regions, "dims") or hasattr(regions, "children"):
        refuse_radius(radius, "labels")
        return labels_of(regions, name, system)
    if hasattr(regions, "dask") and hasattr(regions, "columns"):
        msg = f"Found a points element as {name}; expected {KINDS}. Points have no area."
        raise ValueError(msg)
    if is_anndata(regions) or hasattr(regions, "tables"):
        raise TypeError(_of_many_parts(regions))
    points = np.asarray(regions)
    if points.ndim == 2 and points.shape[1] == 2 and radius is not None:
        return circles_of(points, radius, np.arange(len(points)))
    if points.ndim == 2 and grid is not None and points.shape == grid.shape:
        refuse_radius(radius, "labels")
        logger.info("The array of %d x %d px (y, x) is taken for labels on the pixels of the raster.", *points.shape)
        return on_raster(points, name, grid)
    without = " without `radius=`" if radius is None else ""
    msg = f"Found regions of type {type(regions).__name__}, shape {points.shape}{without}; expected {KINDS}.{_hint(points, system)}"
    raise ValueError(msg)


def _called(store: stores.Store, name: str | os.PathLike[str]) -> Any:
    """Return the element of a store that is called so, or what a file of that name holds."""
    if isinstance(name, str):
        try:
            return element_of(store, name)
        except KeyError:
            if not is_region_file(name):
                raise
    logger.info("Regions are read from the file %s.", name)
    return read_regions(name)


def _of_many_parts(regions: Any) -> str:
    """Return what to give instead of a whole AnnData or SpatialData."""
    kind = type(regions).__name__
    if is_anndata(regions):
        return f"Found {kind} as regions; expected {KINDS}. Of the spots of a table give `adata.obsm['spatial']` with `radius=`."
    return f"Found {kind} as regions; expected {KINDS}. Of a SpatialData give one element, such as `sdata['cells']`."


def _hint(values: NDArray[Any], system: str) -> str:
    """Return what makes regions of an array that is none of them, as far as can be guessed."""
    if values.ndim == 2 and values.shape[1] > 2 and values.dtype.kind in "bui":
        return (
            " For a mask of full-resolution pixels give `spatialdata.models.Labels2DModel.parse(mask, dims=('y', 'x'), "
            f"transformations={{{system!r}: spatialdata.transformations.Identity()}})`."
        )
    if values.dtype == object and values.size and all(hasattr(value, "geom_type") for value in values.flat):
        return " For a list of outlines give `geopandas.GeoDataFrame(geometry=regions)`."
    return ""


def element_of(store: stores.Store, name: str) -> Any:
    """Labels or shapes of a store by name, also those that somebody else added; labels are not read."""
    sdata = located(store)
    if isinstance(sdata, Path):
        from spatialdata import read_zarr

        stores.mark(sdata)  # a path that is no store is answered as everywhere
        sdata = read_zarr(sdata, selection=("images", "labels", "points", "shapes"))
    kinds = {"labels": sdata.labels, "shapes": sdata.shapes, "points": sdata.points, "images": sdata.images}
    kind = next((kind for kind, elements in kinds.items() if name in elements), None)
    if kind is None:
        there = [*sdata.labels, *sdata.shapes]
        msg = f"Found no element {name!r} in the store; it holds {', '.join(map(repr, sorted(there))) or 'none'}."
        raise KeyError(msg)
    if kind not in ("labels", "shapes"):
        msg = f"{name!r} is one of the {kind} of the store; expected labels or shapes, which have an area."
        raise ValueError(msg)
    return kinds[kind][name]
