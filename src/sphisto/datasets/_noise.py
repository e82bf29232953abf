"""Random numbers and smooth random fields that depend on position and seed alone.

Only additions and multiplications in a fixed order enter a field, so that a point gets the same value, to the last
bit, whatever window it is computed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SD = 0.27676  # of a field whose lattice values are uniform in -1..1, after smoothing


def hashed(seed: int, stream: int, *index: NDArray[Any]) -> Keys:
    """Mix a seed, a stream and integer indices (broadcast together) into 64 random bits (splitmix64)."""
    with np.errstate(over="ignore"):
        key = _mixed(np.array([seed], dtype=np.int64).view(np.uint64) * _GOLDEN + np.uint64(stream))
        for part in index:
            key = _mixed(key ^ (np.ascontiguousarray(part, dtype=np.int64).view(np.uint64) * _GOLDEN))
        return key


def uniform(key: Keys) -> Floats:
    """Turn 64 random bits into a number of [0, 1)."""
    return (key >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(key: Keys) -> Keys:
    key = (key ^ (key >> np.uint64(30))) * _MIX[0]
    key = (key ^ (key >> np.uint64(27))) * _MIX[1]
    return np.asarray(key ^ (key >> np.uint64(31)))


class PointNoise:
    """Smooth random fields at scattered points; ``y`` and ``x`` have one shape."""

    def __init__(self, seed: int, y: Floats, x: Floats) -> None:
        self.seed, self.y, self.x = seed, y, x

    def field(self, stream: int, scale: float) -> Floats:
        """Mean 0, standard deviation 1, smooth over about ``scale``."""
        if self.y.size == 0:
            return np.zeros(self.y.shape)
        rows, down = _taps(self.y, scale)
        columns, right = _taps(self.x, scale)
        table, top, left = _table(self.seed, stream, rows, columns)
        total = np.zeros(self.y.shape)
        for b in range(4):
            strip = np.zeros(self.y.shape)
            for a in range(4):
                strip += down[a] * table[rows - top + a, columns - left + b]
            total += right[b] * strip
        return total


class GridNoise:
    """Smooth random fields on a grid: rows at ``y`` (h,), columns at ``x`` (w,); fast, as it goes axis by axis."""

    def __init__(self, seed: int, y: Floats, x: Floats) -> None:
        self.seed, self.y, self.x = seed, y[:, None], x[None]

    def field(self, stream: int, scale: float) -> Floats:
        """Mean 0, standard deviation 1, smooth over about ``scale``: (h, w)."""
        rows, down = _taps(self.y[:, 0], scale)
        columns, right = _taps(self.x[0], scale)
        table, top, left = _table(self.seed, stream, rows, columns)
        strips = np.zeros((len(rows), table.shape[1]))
        for a in range(4):
            strips += down[a][:, None] * table[rows - top + a]
        total = np.zeros((len(rows), len(columns)))
        for b in range(4):
            total += right[b] * np.take(strips, columns - left + b, axis=1)
        return total


def _taps(position: Floats, scale: float) -> tuple[NDArray[np.int64], tuple[Floats, ...]]:
    """First of the four lattice places around each position and their cubic B-spline weights."""
    place = position / scale
    first = np.floor(place)
    t = place - first
    s = 1 - t
    weights = (
        s * s * s / 6,
        (4 - 6 * t * t + 3 * t * t * t) / 6,
        (4 - 6 * s * s + 3 * s * s * s) / 6,
        t * t * t / 6,
    )
    return first.astype(np.int64) - 1, weights


def _table(
    seed: int, stream: int, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> tuple[Floats, np.int64, np.int64]:
    """Lattice values for all four taps of the given places, and the place of the first."""
    top, left = rows.min(), columns.min()
    row, column = np.arange(top, rows.max() + 4), np.arange(left, columns.max() + 4)
    values = 2 * uniform(hashed(seed, stream, row[:, None], column[None])) - 1
    return values / _SD, top, left
