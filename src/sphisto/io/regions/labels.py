"""Regions that are labels: whole numbers by pixel, 0 where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.core.outline import Rings, rings
from sphisto.io.elements import finest
from sphisto.io.regions.placing import matrix_to, some


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels."""

    pixels: NDArray[Any]  # (y, x) whole numbers, 0 where there is none
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
                    "however small they are (`spatialdata.to_polygons`).", len(missed), len(missed) + len(ids), some(missed),
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


def labels_of(element: Any, name: str, system: str) -> Labels:
    """Return the labels of an element; refuses those that are turned, and what are no whole numbers."""
    level = next(iter(element["scale0"].data_vars.values())) if hasattr(element, "children") else element
    return Labels(_pixels_of(level, name), _upright(element, name, system))


def on_raster(values: NDArray[Any], name: str, grid: Grid) -> Labels:
    """Return the labels of an array (y, x) whose pixels are those of a grid; refuses what are no whole numbers."""
    y, x = grid.fullres_per_px
    return Labels(_whole_numbers(values, name), np.diag([x, y, 1.0]))


def labels_within(element: Any, name: str, system: str, *, most_side: int) -> Labels:
    """Return labels as :func:`labels_of` does, but at the finest level with no more than ``most_side`` px on a side.

    Where no level is so small, of the last one each n-th px is taken: others are not labels of the element.
    """
    matrix, levels = _upright(element, name, system), [element]
    if hasattr(element, "children"):
        levels = [next(iter(level.data_vars.values())) for level in element.children.values()]
    level = next((level for level in levels if max(level.shape) <= most_side), levels[-1])
    step = -(-max(level.shape) // most_side)
    chosen = level[{axis: slice(step // 2, None, step) for axis in level.dims}]
    y, x = (step * whole / part for whole, part in zip(levels[0].shape, level.shape, strict=True))
    return Labels(_pixels_of(chosen, name), matrix @ np.diag([x, y, 1.0]))


def _upright(element: Any, name: str, system: str) -> NDArray[np.float64]:
    """(3, 3) matrix of labels; refuses those that are turned."""
    matrix = matrix_to(system, element, name)
    if np.linalg.det(matrix[:2, :2]) == 0 or np.abs(matrix[[0, 1], [1, 0]]).max() > 1e-6 * np.abs(matrix[:2, :2]).max():
        msg = (
            f"The labels of {name} lie in {system!r} by more than scale and shift: {np.round(matrix, 4).tolist()}. "
            "Turn them upright first (`spatialdata.transform`), or into polygons (`spatialdata.to_polygons`)."
        )
        raise ValueError(msg)
    return matrix


def _pixels_of(level: Any, name: str) -> NDArray[Any]:
    if set(level.dims) != {"y", "x"}:
        msg = f"Found {name} with axes {tuple(level.dims)}; expected labels (y, x)."
        raise ValueError(msg)
    return _whole_numbers(np.asarray(finest(level, ("y", "x"))), name)


def _whole_numbers(labels: NDArray[Any], name: str) -> NDArray[Any]:
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
