"""Places that are found by where they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True, eq=False)
class Places:
    """Places (y, x), and a tree by which those in a box are found without looking at all of them."""

    centers: NDArray[np.floating]  # (n, 2) places

    def __len__(self) -> int:
        return len(self.centers)

    @cached_property
    def tree(self) -> cKDTree:
        """Of the places."""
        return cKDTree(self.centers)

    def inside(self, low: ArrayLike, high: ArrayLike) -> NDArray[np.int64]:
        """(m,) rows, in their order, of the places between two (2,) corners, the border included."""
        low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return np.arange(len(self))
        half = (high - low) / 2
        near = self.tree.query_ball_point(low + half, float(half.max()) * (1 + 1e-9), p=np.inf, return_sorted=True)
        rows = np.asarray(near, dtype=np.int64)
        at = self.centers[rows]
        return rows[((at >= low) & (at <= high)).all(axis=1)]
