"""Regions that are circles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.io.regions.placing import some


@dataclass(frozen=True, eq=False)
class Circles:
    """Circles."""

    xy: NDArray[np.float64]  # (n, 2) centres x, y in full-resolution px
    radii: NDArray[np.float64]  # (n,) in full-resolution px
    names: NDArray[Any]  # (n,) of the regions

    def on(self, grid: Grid) -> tuple[Footprint, NDArray[Any]]:
        """Footprints on a grid, and the names of the regions."""
        centers = grid.from_fullres(self.xy[:, ::-1])
        radii = self.radii / np.sqrt(np.prod(grid.fullres_per_px))
        return Footprint.from_discs(grid.shape, centers, radii), self.names

    def outlines(self) -> tuple[list[Any], NDArray[Any]]:
        """Polygons of the same areas, and the names of the regions."""
        import shapely

        corners_of_a_quarter = 16  # of a circle that is drawn as a polygon
        # corners a little outside the circle, so that the polygon has its area
        n_corners = 4 * corners_of_a_quarter
        radii = self.radii * math.sqrt(2 * math.pi / n_corners / math.sin(2 * math.pi / n_corners))
        return list(shapely.buffer(shapely.points(self.xy), radii, quad_segs=corners_of_a_quarter)), self.names


def circles_of(xy: Any, radius: Any, names: Any) -> Circles:
    """Return circles around (n, 2) centres x, y in full-resolution px; refuses what is not finite."""
    xy = np.asarray(xy, dtype=np.float64)
    lost = ~np.isfinite(xy).all(axis=1)
    if lost.any():
        msg = f"Found centres that are empty or not finite: {some(names[lost])}; remove these regions."
        raise ValueError(msg)
    return Circles(xy, _radii(radius, names), names)


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
        msg = f"Found a radius of {radii[wrong][0]:g}, of {some(names[wrong])}; expected finite numbers above 0."
        raise ValueError(msg)
    return radii
