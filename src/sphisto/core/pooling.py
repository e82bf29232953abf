"""Pooling of a raster that passes by window after window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sphisto.core.footprint import Footprint
    from sphisto.core.tiles import Window

_CHANNELS = 8  # pooled at once while a raster passes by: their pixels are gathered in double precision


class Regions(Protocol):
    """Footprints of regions, drawn or not."""

    def __len__(self) -> int: ...

    @property
    def covered(self) -> NDArray[np.float64]:
        """(n,) area in px that lies within the grid."""

    def within(self, window: Window) -> Footprint:
        """Keep all regions, but only their pixels in the window, counted from its corner."""


class TilePool:
    """Sums a raster over regions while it passes by, window after window.

    Parameters
    ----------
    footprint
        The regions.
    channels
        Channels of the raster.
    """

    def __init__(self, footprint: Regions, channels: int) -> None:
        self.footprint = footprint
        self.sums: NDArray[np.float64] = np.zeros((len(footprint), channels))

    def add(self, window: Window, values: NDArray[Any]) -> None:
        """Take in the (c, height, width) or (height, width) values of a window; each pixel may pass only once."""
        planes = values[None] if values.ndim == 2 else values
        part = self.footprint.within(window)
        seen = np.flatnonzero(np.diff(part.indptr))
        if len(seen) == 0:
            return
        part = part.select(seen)
        for c in range(0, len(planes), _CHANNELS):
            self.sums[seen, c : c + _CHANNELS] += part.pool(planes[c : c + _CHANNELS])

    def means(self) -> NDArray[np.float64]:
        """(n, c) averages over the part of each region within the raster; 0 where there is none."""
        covered = self.footprint.covered[:, None]
        return np.divide(self.sums, covered, where=covered > 0, out=np.zeros_like(self.sums))
