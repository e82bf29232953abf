"""Regions as users have them (circles, polygons, labels) to footprints on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.core.footprint import Footprint
from sphisto.core.tiles import Window
from sphisto.io import store as stores
from sphisto.io.elements import finest, scale_to

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sphisto.core.grid import Grid

_KINDS = (
    "an (n, 2) array of x, y with `radius=`, a GeoDataFrame of polygons (or of points with a radius), the name of a "
    "labels element, or a labels element"
)


def footprint(store: stores.Store, regions: Any, grid: Grid, radius: float | None) -> tuple[Footprint, NDArray[Any]]:
    """Footprints of regions in ``global`` on a grid, and their names.

    Raises
    ------
    ValueError
        If the regions are of no known kind, empty, or none of them lies on the grid.
    """
    made, names = _footprint(store, regions, grid, radius)
    if len(made) == 0 or len(made.weight) == 0:
        far = grid.to_fullres(np.array([grid.shape]))[0]
        msg = (
            f"None of the {len(made)} regions lies on the raster; expected x from 0 to {far[1]:.0f} and y from 0 to "
            f"{far[0]:.0f} (full-resolution px)."
        )
        raise ValueError(msg)
    return made, names


def _footprint(store: stores.Store, regions: Any, grid: Grid, radius: float | None) -> tuple[Footprint, NDArray[Any]]:
    if isinstance(regions, str):
        stored = stores.raster(store, regions)
        whole = stored.read(0, Window(0, 0, *stored.grid.shape))
        return _from_labels(whole, stored.grid.fullres_per_px, grid)
    if hasattr(regions, "geometry"):
        return _from_geometry(regions, grid, radius)
    if hasattr(regions, "dims") or hasattr(regions, "children"):
        scale = scale_to(regions, "global", "the labels")
        return _from_labels(np.asarray(finest(regions, ("y", "x"))), (scale, scale), grid)
    points = np.asarray(regions)
    if points.ndim == 2 and points.shape[1] == 2 and radius is not None:
        return _discs(points, radius, grid), np.arange(len(points))
    without = " without `radius=`" if radius is None else ""
    msg = f"Found regions of type {type(regions).__name__}, shape {points.shape}{without}; expected {_KINDS}."
    raise ValueError(msg)


def _discs(xy: NDArray[Any], radius: Any, grid: Grid) -> Footprint:
    centers = grid.from_fullres(np.asarray(xy, dtype=np.float64)[:, ::-1])
    return Footprint.from_discs(grid.shape, centers, np.asarray(radius) / np.sqrt(np.prod(grid.fullres_per_px)))


def _from_geometry(frame: Any, grid: Grid, radius: float | None) -> tuple[Footprint, NDArray[Any]]:
    import shapely

    geometry = frame.geometry
    kinds = set(geometry.geom_type)
    names = frame.index.to_numpy()
    if kinds == {"Point"}:
        size = frame["radius"].to_numpy() if "radius" in frame else radius
        if size is None:
            msg = f"Found {len(frame)} points without a radius; give `radius=` or a column `radius`."
            raise ValueError(msg)
        return _discs(np.column_stack([geometry.x, geometry.y]), size, grid), names
    if not kinds <= {"Polygon", "MultiPolygon"}:
        msg = f"Found geometries of type {', '.join(sorted(kinds))}; expected {_KINDS}."
        raise ValueError(msg)
    polygons = []
    for shape in geometry:
        parts = [shapely.geometry.polygon.orient(part) for part in getattr(shape, "geoms", [shape])]
        rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
        polygons.append([grid.from_fullres(shapely.get_coordinates(ring)[:-1, ::-1]) for ring in rings])
    return Footprint.from_polygons(grid.shape, polygons), names


def _from_labels(
    labels: NDArray[Any], fullres_per_px: tuple[float, float], grid: Grid
) -> tuple[Footprint, NDArray[Any]]:
    """Labels of another resolution are read at the middles of the grid's pixels."""
    if labels.shape != grid.shape:
        y = ((np.arange(grid.height) + 0.5) * grid.fullres_per_px[0] / fullres_per_px[0]).astype(int)
        x = ((np.arange(grid.width) + 0.5) * grid.fullres_per_px[1] / fullres_per_px[1]).astype(int)
        inside = (y < labels.shape[0])[:, None] & (x < labels.shape[1])
        labels = np.where(inside, labels[np.minimum(y, labels.shape[0] - 1)][:, np.minimum(x, labels.shape[1] - 1)], 0)
    ids = np.unique(labels)
    ids = ids[ids != 0]
    return Footprint.from_labels(labels, ids), ids
