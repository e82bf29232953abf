"""Pooling of a raster that is read window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.core.pieces import in_pieces
from sphisto.core.tiles import Window


class Regions(Protocol):
    """Footprints of regions, drawn or not."""

    def __len__(self) -> int: ...

    @property
    def area(self) -> NDArray[np.float64]:
        """(n,) area of each whole region in px."""

    @property
    def covered(self) -> NDArray[np.float64]:
        """(n,) area in px that lies within the grid."""

    def within(self, window: Window) -> Footprint:
        """Keep all regions, but only their pixels in the window, counted from its corner."""


class TilePool:
    """Sums a raster over regions while it is read, window by window.

    ``at_once`` channels are summed together: their pixels are gathered in double precision, so that more take more
    memory.
    """

    def __init__(self, footprint: Regions, channels: int, *, at_once: int = 8) -> None:
        self.footprint, self.at_once = footprint, at_once
        self.sums: NDArray[np.float64] = np.zeros((len(footprint), channels))

    def add(
        self, window: Window, values: NDArray[Any], stored: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> None:
        """Take in the (c, height, width) or (height, width) values of a window; each pixel may be added only once.

        Of values that are rounded when they are ``stored``, only those in regions are rounded here.
        """
        planes = values[None] if values.ndim == 2 else values
        part = self.footprint.within(window)
        here = np.flatnonzero(np.diff(part.indptr))
        if len(here) == 0:
            return
        part = part.select(here)
        for some in in_pieces(len(planes), at_once=self.at_once):
            points = planes[some, part.y, part.x]
            self.sums[here, some] += part.pool_points(points if stored is None else stored(points))

    def means(self) -> NDArray[np.float64]:
        """(n, c) averages over the part of each region within the raster; 0 where there is none."""
        covered = self.footprint.covered[:, None]
        return np.divide(self.sums, covered, where=covered > 0, out=np.zeros_like(self.sums))
