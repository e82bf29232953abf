"""Outlines of what a store has beside its rasters: labels and shapes, as closed lines."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import Grid
from sphisto.core.outline import rings
from sphisto.io.regions.labels import labels_within
from sphisto.io.regions.shapes import shapes_of
from sphisto.io.regions.understand import element_of
from sphisto.io.store import read as stores

Lines: TypeAlias = list[NDArray[np.float64]]  # (n, 2) x, y in full-resolution px, the first again at the end

MOST_CORNERS = 300_000  # of an element: more are slow to draw, and large


def mask_outline(mask: NDArray[np.bool_], grid: Grid) -> Lines:
    """Outline of a (y, x) mask on a grid, along the edges of its pixels but for steps of single ones."""
    import shapely

    if not mask.any():
        return []
    found = rings(mask.astype(np.uint8))
    xy = found.corners * np.array(grid.fullres_per_px[::-1])
    return _simplified(shapely.linearrings(xy, indices=found.ring), max(grid.fullres_per_px))


def element_outlines(store: stores.Store, name: str, system: str, *, px: float, most_side: int) -> Lines:
    """Outlines of a labels or shapes element, as fine as pixels of that size can show.

    ``px`` is the size of these pixels in full-resolution px, of which ``system`` is the coordinate system; labels are
    read at the finest level that has no more than ``most_side`` px on a side.
    """
    import shapely

    element = element_of(store, name)
    if hasattr(element, "geometry"):
        found = shapes_of(element, repr(name), None, system).outlines()[0]
    else:
        labels = labels_within(element, repr(name), system, most_side=most_side)
        found = labels.outlines()[0]
        px = max(px, float(np.sqrt(abs(np.linalg.det(labels.matrix[:2, :2])))))
    parts = shapely.get_parts(np.array([shape for shape in found if shape is not None], dtype=object))
    lines = _simplified(shapely.get_rings(parts), px)
    n = sum(map(len, lines))
    if n > MOST_CORNERS:
        msg = f"{n:,} corners, more than the {MOST_CORNERS:,} that a page can draw"
        raise ValueError(msg)
    return lines


def _simplified(lines: Any, px: float) -> Lines:
    """Lines without corners that pixels of that size do not show."""
    import shapely

    kept = np.atleast_1d(shapely.simplify(lines, 0.75 * px, preserve_topology=True))
    return [shapely.get_coordinates(line) for line in kept]


def as_path(lines: Lines) -> str:
    """Lines as the text of a path of SVG, rounded to a tenth of a full-resolution px."""
    return "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line[:-1]) + "Z" for line in lines)
