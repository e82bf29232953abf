"""Where there is tissue, kept as coarse as it was decided and drawn out to pixels window by window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.lazy_footprint import LazyFootprint


@dataclass(frozen=True, eq=False)
class Mask:
    """A (y, x) mask whose pixels have the value of the block that they lie in.

    It is read as an array is: slices give a window, arrays of indices single pixels, ``np.asarray`` all of it.
    """

    blocks: NDArray[np.bool_]  # (h, w) bool
    shape: tuple[int, int]  # (height, width) in pixels; what lies beyond the last block continues it
    px_per_block: tuple[float, float] = (1.0, 1.0)  # sides of a block along (y, x) in pixels

    dtype = np.dtype(bool)
    ndim = 2

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.bool_]:
        rows, columns = key[-2:]  # an ellipsis before them stands for nothing
        y, x = self._lines(0)[rows], self._lines(1)[columns]
        return self.blocks[y[:, None], x] if isinstance(rows, slice) else self.blocks[y, x]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:, :].astype(dtype or bool, copy=False)

    def sum(self) -> int:
        """Count the pixels on tissue."""
        rows, columns = (np.bincount(self._lines(axis), minlength=side) for axis, side in enumerate(self.blocks.shape))
        return int(rows @ self.blocks.astype(np.int64) @ columns)

    def with_spots(self, spots: LazyFootprint) -> Mask:
        """Add all blocks that the spots touch."""
        blocks, rows, columns = self.blocks.copy(), self._lines(0), self._lines(1)
        for part in spots.parts():
            blocks[rows[part.y], columns[part.x]] = True
        return replace(self, blocks=blocks)

    def within(self, low: tuple[float, float], high: tuple[float, float]) -> Mask:
        """Keep the blocks of which the middle lies in a window from ``low`` to before ``high`` (y, x) in px."""
        inside = [
            (middles >= first) & (middles < end)
            for side, px, first, end in zip(self.blocks.shape, self.px_per_block, low, high, strict=True)
            for middles in ((np.arange(side) + 0.5) * px,)
        ]
        return replace(self, blocks=self.blocks & np.logical_and.outer(*inside))

    def _lines(self, axis: int) -> NDArray[np.int64]:
        """Row (or column) of blocks that each row of pixels lies in."""
        at = (np.arange(self.shape[axis]) + 0.5) / self.px_per_block[axis]
        return np.minimum(at.astype(np.int64), self.blocks.shape[axis] - 1)
