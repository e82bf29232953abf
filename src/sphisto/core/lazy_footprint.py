"""Footprints of the spots of a slide, drawn only where they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.core.pieces import in_pieces
from sphisto.core.places import Places
from sphisto.core.pooling import TilePool
from sphisto.core.spot import Spot
from sphisto.core.tiles import TILE, Window, plan_tiles


@dataclass(frozen=True, eq=False)
class LazyFootprint:
    """As :class:`sphisto.core.footprint.Footprint`, but of spots, and without their pixels until a window needs them.

    At half a um per px a spot covers some 9,000 px: all of a slide together would take more memory than all else.
    """

    spot: Spot  # size and shape of all of them
    grid: Grid
    centers: NDArray[np.float64]  # (n, 2) centres (y, x) in grid px

    def __len__(self) -> int:
        return len(self.centers)

    @property
    def area(self) -> NDArray[np.float64]:
        """(n,) area of each whole spot in px, including what lies outside the grid."""
        return np.full(len(self), self.spot.area_px(self.grid.um_per_px))

    @cached_property
    def covered(self) -> NDArray[np.float64]:
        """(n,) area in px that lies within the grid."""
        whole = ((self.centers >= self._reach) & (self.centers <= np.subtract(self.grid.shape, self._reach))).all(
            axis=1
        )
        covered, cut = self.area, np.flatnonzero(~whole)
        if len(cut):
            covered[cut] = np.concatenate([part.covered for part in self.select(cut).parts()])
        return covered

    def select(self, spots: NDArray[Any] | slice) -> LazyFootprint:
        """Keep the given spots (indices, mask or slice), in that order."""
        return replace(self, centers=self.centers[spots])

    def drawn(self) -> Footprint:
        """Draw all of them at once: for some spots only."""
        return self.spot.footprint(self.grid.shape, self.centers, self.grid.um_per_px)

    def parts(self, *, at_once: int = 2**19) -> Iterator[Footprint]:
        """Draw all of them in their order, as many at a time as cover ``at_once`` px: this bounds the memory."""
        for some in in_pieces(len(self), math.ceil(self.spot.area_px(self.grid.um_per_px)), at_once=at_once):
            yield self.select(some).drawn()

    def within(self, window: Window) -> Footprint:
        """Keep all spots, but only their pixels in the window, counted from its corner."""
        corner, far = np.array([window.y0, window.x0]), np.array([window.y1, window.x1])
        near = self._places.inside(corner - self._reach, far + self._reach)
        part = self.select(near).drawn().within(window)
        lengths = np.zeros(len(self), dtype=np.int64)
        lengths[near] = np.diff(part.indptr)
        return replace(part, indptr=np.concatenate([[0], np.cumsum(lengths)]), area=self.area)

    def mean(self, raster: Any, *, tile: int = TILE) -> NDArray[np.float64]:
        """Average a raster over the part of each spot within the grid: (n, c); NaN where there is none.

        The raster, (c, y, x) or (y, x), may be lazy: it is read by tiles.
        """
        pool = TilePool(self, raster.shape[0] if len(raster.shape) == 3 else 1)
        for part in plan_tiles(self.grid.shape, size=tile):
            pool.add(part.core, np.asarray(raster[..., *part.core.slices]))
        return np.where(self.covered[:, None] > 0, pool.means(), np.nan)

    @cached_property
    def _places(self) -> Places:
        return Places(self.centers)

    @property
    def _reach(self) -> float:
        """Px up, down and aside of a centre beyond which a spot does not reach."""
        beyond = 1.02  # the corners of the polygon that a disc is drawn as lie slightly beyond the circle
        return beyond * self.spot.reach_um / self.grid.um_per_px
