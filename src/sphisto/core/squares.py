"""Squares of neighbouring places on a lattice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def in_squares(centers: NDArray[np.floating], pitch: float, side: int, *, turn: float = 0.0) -> NDArray[np.int64]:
    """Number the squares that (n, 2) places (y, x) lie in, of those that hold any: (n,), without gaps.

    Places lie on a square lattice that need not be full, rows a ``pitch`` apart, turned by degrees from the x axis
    towards the y axis; ``side`` of them lie along a square.
    """
    if not len(centers):
        return np.zeros(0, dtype=np.int64)
    angle = np.deg2rad(turn)
    y, x = np.asarray(centers, dtype=np.float64).T
    along = np.stack([y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)], axis=1)
    place = np.rint((along - along.min(axis=0)) / pitch).astype(np.int64) // side
    key = place[:, 0] * (place[:, 1].max() + 1) + place[:, 1]
    return np.asarray(np.unique(key, return_inverse=True)[1].reshape(-1), dtype=np.int64)
