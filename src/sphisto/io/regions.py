"""Regions as users have them (circles, polygons, labels), understood once: as footprints on a grid, or as outlines."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sphisto.core.footprint import Footprint
from sphisto.core.grid import SAME_SCALE
from sphisto.core.outline import Rings, rings
from sphisto.io.elements import finest, is_shifted
from sphisto.io.paths import located
from sphisto.io.store import read as stores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sphisto.core.grid import Grid

logger = logging.getLogger("sphisto")

_KINDS = (
    "an (n, 2) array of x, y with `radius=`, a GeoDataFrame of polygons (or of points with a radius), or a shapes or labels "
    "element, itself or its name in the store"
)
_SYSTEM = "global"
_CORNERS_OF_A_QUARTER = 16  # of a circle that is drawn as a polygon


class Regions(Protocol):
    """Regions that lie in ``global``, the full-resolution pixels of a section."""

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        """Footprints on a grid, and the names of the regions."""
        ...

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        """Polygons of the same areas (``None`` for a region without any), and the names of the regions."""
        ...


def footprint(store: stores.Store, regions: Any, grid: Grid, radius: Any) -> tuple[Footprint, NDArray[Any]]:
    """Footprints of regions on a grid, and their names. Elements lie where their transformation to ``global`` puts them.

    Raises
    ------
    KeyError
        If the store has no element of that name.
    ValueError
        If the regions are of no known kind, empty, in no ``global``, or none of them lies on the grid.
    """
    made, names = understood(store, regions, radius).on(grid)
    if len(made) == 0 or len(made.weight) == 0:
        far = grid.to_fullres(np.array([grid.shape]))[0]
        msg = (
            f"None of the {len(made)} regions lies on the raster; expected x from 0 to {far[1]:.0f} and y from 0 to "
            f"{far[0]:.0f} (full-resolution px)."
        )
        raise ValueError(msg)
    return made, names


def understood(store: stores.Store, regions: Any, radius: Any) -> Regions:
    """Find out what regions are, and where: whatever :func:`sphisto.tl.aggregate` takes.

    Raises
    ------
    KeyError
        If the store has no element of that name.
    ValueError
        If the regions are of no known kind, or in no ``global``.
    """
    element = _element(store, regions) if isinstance(regions, str) else regions
    return _understood(element, repr(regions) if isinstance(regions, str) else "regions", radius)


def _element(store: stores.Store, name: str) -> Any:
    """Element of a store, also one that somebody else added."""
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


def _understood(regions: Any, name: str, radius: Any) -> Regions:
    if hasattr(regions, "geometry"):
        return _from_geometry(regions, name, radius)
    if hasattr(regions, "dims") or hasattr(regions, "children"):
        _refuse_radius(radius, "labels")
        return _from_labels(regions, name)
    if hasattr(regions, "dask") and hasattr(regions, "columns"):
        msg = f"Found a points element as {name}; expected {_KINDS}. Points have no area."
        raise ValueError(msg)
    points = np.asarray(regions)
    if points.ndim == 2 and points.shape[1] == 2 and radius is not None:
        return _circles(points, radius, np.arange(len(points)))
    without = " without `radius=`" if radius is None else ""
    msg = f"Found regions of type {type(regions).__name__}, shape {points.shape}{without}; expected {_KINDS}."
    raise ValueError(msg)


# ---- where an element lies


def _to_global(element: Any, name: str) -> NDArray[np.float64]:
    """(3, 3) matrix from an element's own x, y to ``global``; a GeoDataFrame without systems lies in ``global``."""
    from spatialdata.transformations import get_transformation

    try:
        systems: Any = get_transformation(element, get_all=True)
    except (AssertionError, ValueError, KeyError, AttributeError, TypeError):  # it is no element of a SpatialData
        systems = None
    if systems is None and hasattr(element, "geometry"):
        systems = element.attrs.get("transform")  # of the shapes that these geometries are of
        if systems is None:
            return np.eye(3)
    if _SYSTEM not in (systems or {}):
        there = f"in {', '.join(map(repr, systems))}" if systems else "in no coordinate system"
        msg = (
            f"Found {name} {there}; expected a transformation to {_SYSTEM!r}, the full-resolution pixels of the "
            "section. Set it with `spatialdata.transformations.set_transformation`."
        )
        raise ValueError(msg)
    matrix = np.asarray(systems[_SYSTEM].to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
    if is_shifted(matrix):
        by = " and ".join(f"{shift:.5g}" for shift in matrix[:2, 2])
        logger.info("%s is shifted by %s px (x and y), by its transformation to %r.", name, by, _SYSTEM)
    return matrix


def _scale_of_circles(matrix: NDArray[np.float64], name: str) -> float:
    """How much circles grow; refuses what makes ellipses of them."""
    square = matrix[:2, :2].T @ matrix[:2, :2]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale == 0 or not np.allclose(square, scale**2 * np.eye(2), rtol=0, atol=2 * SAME_SCALE * scale**2):
        msg = (
            f"The circles of {name} lie in {_SYSTEM!r} by {np.round(matrix, 4).tolist()}, which makes ellipses of them. "
            "Turn them into polygons first (`spatialdata.to_polygons`)."
        )
        raise ValueError(msg)
    return scale


# ---- circles


@dataclass(frozen=True, eq=False)
class _Circles:
    xy: NDArray[np.float64]  # (n, 2) full-resolution px
    radii: NDArray[np.float64]  # (n,) full-resolution px
    names: NDArray[Any]

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        centers = grid.from_fullres(self.xy[:, ::-1])
        radii = self.radii / np.sqrt(np.prod(grid.fullres_per_px))
        return Footprint.from_discs(grid.shape, centers, radii), self.names

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        import shapely

        # corners a little outside the circle, so that the polygon has its area
        n_corners = 4 * _CORNERS_OF_A_QUARTER
        radii = self.radii * math.sqrt(2 * math.pi / n_corners / math.sin(2 * math.pi / n_corners))
        return list(shapely.buffer(shapely.points(self.xy), radii, quad_segs=_CORNERS_OF_A_QUARTER)), self.names


def _circles(xy: Any, radius: Any, names: Any) -> _Circles:
    xy = np.asarray(xy, dtype=np.float64)
    lost = ~np.isfinite(xy).all(axis=1)
    if lost.any():
        msg = f"Found centres that are empty or not finite: {_some(names[lost])}; remove these regions."
        raise ValueError(msg)
    return _Circles(xy, _radii(radius, names), names)


def _radii(radius: Any, names: Any) -> NDArray[np.float64]:
    """(n,) radii of circles: all alike, or one for each."""
    try:
        radii = np.asarray(radius, dtype=np.float64)
    except (TypeError, ValueError):
        radii = np.asarray(np.nan)
    if radii.ndim and radii.shape != (len(names),):
        msg = f"Found `radius` of shape {radii.shape} for {len(names)} circles; expected one number, or one for each."
        raise ValueError(msg)
    radii = np.broadcast_to(radii, len(names))
    wrong = ~((radii > 0) & np.isfinite(radii))
    if wrong.any():
        msg = f"Found a radius of {radii[wrong][0]:g}, of {_some(names[wrong])}; expected finite numbers above 0."
        raise ValueError(msg)
    return radii


def _refuse_radius(radius: Any, kind: str) -> None:
    if radius is not None:
        msg = f"Found `radius` with regions that are {kind}; expected it with points only, which have no area."
        raise ValueError(msg)


# ---- geometries


@dataclass(frozen=True, eq=False)
class _Polygons:
    shapes: list[Any]  # valid ones in full-resolution px, None for a region without an area
    names: NDArray[Any]

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        return _from_polygons(self.shapes, self.names, grid), self.names

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        return self.shapes, self.names


def _from_geometry(frame: Any, name: str, radius: Any) -> Regions:
    import shapely

    matrix = _to_global(frame, name)
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
        return _circles(xy, _radius_of_points(frame, radius, _scale_of_circles(matrix, name)), names)
    if not kinds <= {"Polygon", "MultiPolygon", "GeometryCollection"}:
        msg = f"Found geometries of type {', '.join(sorted(kinds))}; expected {_KINDS}."
        raise ValueError(msg)
    _refuse_radius(radius, "polygons")
    lost = np.array([not np.isfinite(shapely.get_coordinates(shape)).all() for shape in shapes], dtype=bool)
    if lost.any():
        msg = f"Found corners that are not finite: {_some(names[lost])}; correct or remove these regions."
        raise ValueError(msg)
    return _Polygons(_areas_alone(shapes, names), names)


def _radius_of_points(frame: Any, radius: Any, scale: float) -> Any:
    """Radius in ``global``: the given one, else a column, which is in the unit of the points."""
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
        msg = f"Found collections of geometries without a polygon: {_some(names[bare])}; expected {_KINDS}."
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
            logger.warning(text, _some(names[which]))
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


def _from_polygons(shapes: Sequence[Any], names: NDArray[Any], grid: Grid) -> Footprint:
    """Rasterise valid polygons in ``global``; what lies beside the raster counts for their areas alone."""
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


# ---- labels


@dataclass(frozen=True, eq=False)
class _Labels:
    pixels: NDArray[Any]  # (y, x), 0 where there is none
    matrix: NDArray[np.float64]  # (3, 3) from their x, y to full-resolution px: scale and shift

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        """Read labels of any resolution at the middles of the grid's pixels."""
        labels, matrix = self.pixels, self.matrix
        y, seen_y = _places(labels.shape[0], matrix[1, 1], matrix[1, 2], grid.height, grid.fullres_per_px[0])
        x, seen_x = _places(labels.shape[1], matrix[0, 0], matrix[0, 2], grid.width, grid.fullres_per_px[1])
        found = np.where(seen_y[:, None] & seen_x, labels[np.ix_(y, x)], 0)
        ids = np.unique(found)
        ids = ids[ids != 0]
        if abs(np.linalg.det(matrix[:2, :2])) < np.prod(grid.fullres_per_px):
            here = labels[y.min() : y.max() + 1, x.min() : x.max() + 1] if seen_y.any() and seen_x.any() else labels[:0]
            missed = np.setdiff1d(np.unique(here), [*ids, 0])
            if len(missed):
                logger.warning(
                    "%d of %d labels hold the middle of no pixel of the raster and are left out: %s. Polygons are summed "
                    "however small they are (`spatialdata.to_polygons`).", len(missed), len(missed) + len(ids), _some(missed),
                )  # fmt: skip
        return Footprint.from_labels(found, ids), ids

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        """Outlines along the edges of the labels' own pixels, of however many parts."""
        import shapely

        found = rings(self.pixels)
        if not len(found.labels):
            return [], found.labels
        lines = shapely.linearrings(found.corners.astype(np.float64), indices=found.ring)
        parts, holes = np.flatnonzero(~found.is_hole), np.flatnonzero(found.is_hole)
        whole = shapely.polygons(lines[parts])
        if len(holes):
            around, of = self._holders(found, parts, holes, whole)
            order = np.argsort(around, kind="stable")
            kept = np.unique(around)
            inner = np.split(lines[holes[of]][order], np.searchsorted(around[order], kept[1:]))
            whole[kept] = [shapely.polygons(lines[parts[i]], own) for i, own in zip(kept, inner, strict=True)]
        broken = ~shapely.is_valid(whole)
        whole[broken] = shapely.make_valid(whole[broken])  # a line that meets itself at a corner
        scale, shift = self.matrix[[0, 1], [0, 1]], self.matrix[:2, 2]
        whole = shapely.transform(whole, lambda xy: xy * scale + shift)
        labels = found.labels[parts]
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(labels[order], return_index=True)
        return [_as_one(own) for own in np.split(whole[order], starts[1:])], names

    @staticmethod
    def _holders(
        found: Rings, parts: NDArray[np.int64], holes: NDArray[np.int64], whole: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which part each hole is in, of its label the smallest around it: (index of the part, of the hole)."""
        import shapely

        hole, part = shapely.STRtree(whole).query(shapely.points(found.inside[holes]), predicate="within")
        own = found.labels[holes[hole]] == found.labels[parts[part]]
        hole, part = hole[own], part[own]
        order = np.lexsort([shapely.area(whole[part]), hole])
        of, first = np.unique(hole[order], return_index=True)
        return part[order][first], of


def _as_one(parts: NDArray[Any]) -> Any:
    """Make one geometry of the parts of a region."""
    import shapely

    return parts[0] if len(parts) == 1 else shapely.multipolygons(shapely.get_parts(parts))


def _from_labels(element: Any, name: str) -> _Labels:
    matrix = _to_global(element, name)
    if np.linalg.det(matrix[:2, :2]) == 0 or np.abs(matrix[[0, 1], [1, 0]]).max() > 1e-6 * np.abs(matrix[:2, :2]).max():
        msg = (
            f"The labels of {name} lie in {_SYSTEM!r} by more than scale and shift: {np.round(matrix, 4).tolist()}. "
            "Turn them upright first (`spatialdata.transform`), or into polygons (`spatialdata.to_polygons`)."
        )
        raise ValueError(msg)
    return _Labels(_labels_of(element, name), matrix)


def _labels_of(element: Any, name: str) -> NDArray[Any]:
    level = next(iter(element["scale0"].data_vars.values())) if hasattr(element, "children") else element
    if set(level.dims) != {"y", "x"}:
        msg = f"Found {name} with axes {tuple(level.dims)}; expected labels (y, x)."
        raise ValueError(msg)
    labels = np.asarray(finest(element, ("y", "x")))
    if labels.dtype.kind not in "bui":
        msg = f"Found {name} with values of {labels.dtype}; expected labels: whole numbers, 0 where there is none."
        raise ValueError(msg)
    return labels.astype(np.uint8) if labels.dtype.kind == "b" else labels


def _places(
    n: int, scale: float, shift: float, n_grid: int, fullres_per_px: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixels of labels along one axis that hold the middles of the grid's pixels, and whether they are there."""
    # a middle that falls on a border between labels' pixels must not depend on the last digit
    at = np.floor(((np.arange(n_grid) + 0.5) * fullres_per_px - shift) / scale + 1e-9).astype(np.int64)
    return np.clip(at, 0, n - 1), (at >= 0) & (at < n)


def _some(names: Any, most: int = 5) -> str:
    """Name the first of some regions."""
    shown = ", ".join(repr(name) for name in np.asarray(names).tolist()[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
