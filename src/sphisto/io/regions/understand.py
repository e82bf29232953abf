"""Regions as users have them (circles, polygons, labels), understood once: as footprints on a grid, or as outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.io.paths import located
from sphisto.io.regions.circles import circles_of
from sphisto.io.regions.labels import labels_of
from sphisto.io.regions.placing import KINDS, refuse_radius
from sphisto.io.regions.shapes import shapes_of
from sphisto.io.store import read as stores


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
    made, names = understood(store, regions, radius, system).on(grid)
    if len(made) == 0 or len(made.weight) == 0:
        far = grid.to_fullres(np.array([grid.shape]))[0]
        msg = (
            f"None of the {len(made)} regions lies on the raster; expected x from 0 to {far[1]:.0f} and y from 0 to "
            f"{far[0]:.0f} (full-resolution px)."
        )
        raise ValueError(msg)
    return made, names


def understood(store: stores.Store, regions: Any, radius: Any, system: str) -> Regions:
    """Find out what regions are, and where: whatever :func:`sphisto.tl.aggregate` takes.

    Elements lie where their transformation to ``system`` puts them, which is that of the section.
    """
    name = "regions"
    if isinstance(regions, str):
        name, regions = repr(regions), element_of(store, regions)
    if hasattr(regions, "geometry"):
        return shapes_of(regions, name, radius, system)
    if hasattr(regions, "dims") or hasattr(regions, "children"):
        refuse_radius(radius, "labels")
        return labels_of(regions, name, system)
    if hasattr(regions, "dask") and hasattr(regions, "columns"):
        msg = f"Found a points element as {name}; expected {KINDS}. Points have no area."
        raise ValueError(msg)
    points = np.asarray(regions)
    if points.ndim == 2 and points.shape[1] == 2 and radius is not None:
        return circles_of(points, radius, np.arange(len(points)))
    without = " without `radius=`" if radius is None else ""
    msg = f"Found regions of type {type(regions).__name__}, shape {points.shape}{without}; expected {KINDS}."
    raise ValueError(msg)


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
