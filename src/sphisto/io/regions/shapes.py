"""Regions that are shapes: polygons with holes and several parts, or points with a radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.io.regions.circles import Circles, circles_of
from sphisto.io.regions.placing import KINDS, matrix_to, refuse_radius, scale_of_circles, some


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons."""

    shapes: list[Any]  # valid ones in full-resolution px, None for a region without an area
    names: NDArray[Any]  # (n,) of the regions

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        """Footprints on a grid, and the names of the regions."""
        return _footprint(self.shapes, self.names, grid), self.names

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        """Return the polygons, and the names of the regions."""
        return self.shapes, self.names


def shapes_of(frame: Any, name: str, radius: Any, system: str) -> Polygons | Circles:
    """Return the polygons, or points with a radius, of a GeoDataFrame; refuses other shapes and what is not finite."""
    import shapely

    matrix = matrix_to(system, frame, name)
    names = frame.index.to_numpy()
    if frame.crs is not None:
        logger.info(
            "The reference system of the regions (%s) is passed over: their coordinates are taken for pixels.",
            frame.crs,
        )
    own = np.asarray(frame.geometry.array, dtype=object)
    shapes = shapely.transform(own, lambda xy: xy @ matrix[:2, :2].T + matrix[:2, 2])  # and without z
    kinds = {shape.geom_type for shape in shapes if shape is not None}
    if kinds == {"Point"}:
        xy = np.column_stack([shapely.get_x(shapes), shapely.get_y(shapes)])
        return circles_of(xy, _radius_of_points(frame, radius, scale_of_circles(matrix, name, system)), names)
    if not kinds <= {"Polygon", "MultiPolygon", "GeometryCollection"}:
        msg = f"Found geometries of type {', '.join(sorted(kinds))}; expected {KINDS}."
        raise ValueError(msg)
    refuse_radius(radius, "polygons")
    lost = np.array([not np.isfinite(shapely.get_coordinates(shape)).all() for shape in shapes], dtype=bool)
    if lost.any():
        msg = f"Found corners that are not finite: {some(names[lost])}; correct or remove these regions."
        raise ValueError(msg)
    return Polygons(_areas_alone(shapes, names), names)


def _radius_of_points(frame: Any, radius: Any, scale: float) -> Any:
    """Radius in full-resolution px: the given one, else a column, which is in the unit of the points."""
    own = frame["radius"].to_numpy(dtype=np.float64) if "radius" in getattr(frame, "columns", ()) else None
    if radius is not None:
        if own is not None:
            logger.info("`radius` is used instead of the column of that name.")
        return radius
    if own is None:
        msg = f"Found {len(frame)} points without a radius; give `radius=` or a column `radius`."
        raise ValueError(msg)
    return own * scale


def _areas_alone(shapes: NDArray[Any], names: NDArray[Any]) -> list[Any]:
    """Turn each geometry into the area that it covers, once: valid polygons, ``None`` where there is no area."""
    import shapely

    invalid = ~shapely.is_valid(shapes) & ~shapely.is_missing(shapes)
    collections = shapely.get_type_id(shapes) == shapely.GeometryType.GEOMETRYCOLLECTION
    whole = np.array([_area(shape) if odd else shape for shape, odd in zip(shapes, invalid | collections, strict=True)],
                     dtype=object)  # fmt: skip
    bare = collections & ~shapely.is_empty(shapes) & (shapely.is_missing(whole) | shapely.is_empty(whole))
    if bare.any():
        msg = f"Found collections of geometries without a polygon: {some(names[bare])}; expected {KINDS}."
        raise ValueError(msg)
    nothing = shapely.is_missing(whole) | (shapely.area(whole) == 0)
    for which, text in (
        (
            collections,
            "Of collections of geometries only the polygons are taken: %s. Take the others out of `regions`.",
        ),
        (
            invalid & ~collections,
            "Outlines that cross themselves or overlap count once where they cover tissue: %s. `shapely.make_valid` mends them.",
        ),
        (nothing, "Regions without an area get counts of 0: %s. Take them out of `regions`."),
    ):
        if which.any():
            logger.warning(text, some(names[which]))
    return [None if empty else shape for shape, empty in zip(whole, nothing, strict=True)]


def _area(shape: Any) -> Any:
    """Unite the polygons of a geometry, each made valid by itself: where parts overlap, the area counts once."""
    import shapely

    return shapely.union_all([shapely.make_valid(part) for part in _polygons(shape)])


def _polygons(shape: Any) -> list[Any]:
    """List the polygons of a geometry, also those in collections within it."""
    if shape.geom_type == "Polygon":
        return [shape]
    return [polygon for part in getattr(shape, "geoms", ()) for polygon in _polygons(part)]


def _footprint(shapes: Sequence[Any], names: NDArray[Any], grid: Grid) -> Footprint:
    """Rasterise valid polygons; what lies beside the raster counts for their areas alone."""
    import shapely

    height, width = grid.shape
    far_y, far_x = grid.to_fullres(np.array([[height, width]]))[0]
    raster = shapely.box(0, 0, far_x, far_y)
    px_area = float(np.prod(grid.fullres_per_px))
    rings: list[list[NDArray[np.float64]]] = []
    area = np.zeros(len(names))
    for i, shape in enumerate(shapes):
        if shape is None:
            rings.append([])
            continue
        area[i] = shape.area / px_area
        # a region in the wrong unit may be as large as a million rasters
        inside = shape if raster.covers(shapely.box(*shape.bounds)) else shape.intersection(raster)
        parts = [shapely.geometry.polygon.orient(part) for part in _polygons(inside)]
        rings.append(
            [
                grid.from_fullres(shapely.get_coordinates(ring)[:-1, ::-1])
                for part in parts
                for ring in (part.exterior, *part.interiors)
                if not ring.is_empty
            ]
        )
    return replace(Footprint.from_polygons(grid.shape, rings), area=area)
