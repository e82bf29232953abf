"""Where regions lie, and what may be handed over as such."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.grid import SAME_SCALE
from sphisto.io.elements import is_shifted

KINDS = (
    "an (n, 2) array of x, y with `radius=`, a GeoDataFrame of polygons (or of points with a radius), a file of them, a shapes or "
    "labels element, itself or its name in the store, or labels (y, x) of the raster's shape"
)


def matrix_to(system: str, element: Any, name: str) -> NDArray[np.float64]:
    """(3, 3) matrix from an element's own x, y to a coordinate system; a GeoDataFrame without systems lies in it."""
    from spatialdata.transformations import get_transformation

    try:
        systems: Any = get_transformation(element, get_all=True)
    except (AssertionError, ValueError, KeyError, AttributeError, TypeError):  # it is no element of a SpatialData
        systems = None
    if systems is None and hasattr(element, "geometry"):
        systems = element.attrs.get("transform")  # of the shapes that these geometries are of
        if systems is None:
            return np.eye(3)
    if system not in (systems or {}):
        there = f"in {', '.join(map(repr, systems))}" if systems else "in no coordinate system"
        msg = (
            f"Found {name} {there}; expected a transformation to {system!r}, the full-resolution pixels of the "
            "section. Set it with `spatialdata.transformations.set_transformation`."
        )
        raise ValueError(msg)
    matrix = np.asarray(systems[system].to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
    if is_shifted(matrix):
        by = " and ".join(f"{shift:.5g}" for shift in matrix[:2, 2])
        logger.info("%s is shifted by %s px (x and y), by its transformation to %r.", name, by, system)
    return matrix


def scale_of_circles(matrix: NDArray[np.float64], name: str, system: str) -> float:
    """How much circles grow; refuses what makes ellipses of them."""
    square = matrix[:2, :2].T @ matrix[:2, :2]
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale == 0 or not np.allclose(square, scale**2 * np.eye(2), rtol=0, atol=2 * SAME_SCALE * scale**2):
        msg = (
            f"The circles of {name} lie in {system!r} by {np.round(matrix, 4).tolist()}, which makes ellipses of them. "
            "Turn them into polygons first (`spatialdata.to_polygons`)."
        )
        raise ValueError(msg)
    return scale


def refuse_radius(radius: Any, kind: str) -> None:
    """Refuse a radius for regions that have an area."""
    if radius is not None:
        msg = f"Found `radius` with regions that are {kind}; expected it with points only, which have no area."
        raise ValueError(msg)


def some(names: Any, most: int = 5) -> str:
    """Name the first of some regions."""
    shown = ", ".join(repr(name) for name in np.asarray(names).tolist()[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
