"""Sums a raster over spots while it passes by, without the footprints of the whole slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sphisto.core.slide import Slide
    from sphisto.core.tiles import Window

_CHANNELS = 8  # pooled at once: their pixels are gathered in double precision
_SPOTS = 64  # rasterised at once


class SpotPool:
    """As :class:`sphisto.core.footprint.TilePool`, but rasterises the spots of a window only when it passes by.

    At half a um per px a spot covers some 9,000 px: the footprints of a whole slide would take more memory than all
    else.

    Parameters
    ----------
    slide
        With measured spots or without any.
    channels
        Channels of the raster.
    """

    def __init__(self, slide: Slide, channels: int) -> None:
        self._spot, self._grid = slide.spot, slide.grid
        self._centers = np.zeros((0, 2)) if slide.measured is None else slide.measured.centers
        self._reach = slide.spot.um / slide.grid.um_per_px  # px, beyond the corner of a square
        self.sums: NDArray[np.float64] = np.zeros((len(self._centers), channels))

    def add(self, window: Window, values: NDArray[Any]) -> None:
        """Take in the (c, height, width) values of a window; each pixel may pass only once."""
        corner, far = np.array([window.y0, window.x0]), np.array([window.y1, window.x1])
        near = ((self._centers > corner - self._reach) & (self._centers < far + self._reach)).all(axis=1)
        rows = np.flatnonzero(near)
        if len(rows) == 0:
            return
        local = self._spot.footprint(window.shape, self._centers[rows] - corner, self._grid.um_per_px)
        for c in range(0, len(values), _CHANNELS):
            self.sums[rows, c : c + _CHANNELS] += local.pool(values[c : c + _CHANNELS])

    def means(self) -> NDArray[np.float64]:
        """(n, c) averages over the part of each spot within the raster; 0 where there is none."""
        covered = np.zeros((len(self._centers), 1))
        for start in range(0, len(covered), _SPOTS):
            some = self._spot.footprint(self._grid.shape, self._centers[start : start + _SPOTS], self._grid.um_per_px)
            covered[start : start + _SPOTS, 0] = some.covered
        return np.divide(self.sums, covered, where=covered > 0, out=np.zeros_like(self.sums))
