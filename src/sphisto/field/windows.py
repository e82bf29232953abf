"""Windows on a section: what is solved together where solving all observations at once would take too much.

Their cores tile the section. What lies in a halo around a core is solved with it; where two cores meet, what both give is
blended, so that a field has no seams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sphisto.core.places import Places
from sphisto.field.config import FieldConfig

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """A lattice of cores, ``shape`` of them along both axes; those at its border reach on without end."""

    low: Floats  # (2,) corner where the first core begins
    side: Floats  # (2,) sides of a core
    shape: tuple[int, int]  # number of cores along y and x
    halo: float  # distance from its core to which a window reaches; infinite for a window that holds everything
    blend: float = 0.0  # distance from the border of two cores within which both count

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def box(self, number: int) -> tuple[Floats, Floats]:
        """(2,) low and high corner of a window, its halo included."""
        at = np.array(np.unravel_index(number, self.shape))
        return self.low + at * self.side - self.halo, self.low + (at + 1) * self.side + self.halo

    def core_of(self, points: Floats) -> Rows:
        """(m,) number of the window in whose core each of the (m, 2) points lies."""
        at = np.clip(np.floor((points - self.low) / self.side), 0, np.array(self.shape) - 1).astype(np.int64)
        return np.asarray(np.ravel_multi_index(tuple(at.T), self.shape))

    def shares(self, points: Floats) -> Iterator[tuple[int, Rows, Floats]]:
        """Yield each window that counts at some of the (m, 2) points: its number, which points, and its weights there."""
        if len(self) == 1:
            yield 0, np.arange(len(points)), np.ones(len(points))
            return
        first, second = (self._along(points[:, axis], axis) for axis in (0, 1))
        numbers, weights = [], []
        for (y, wy), (x, wx) in product(first, second):
            numbers.append(y * self.shape[1] + x)
            weights.append(wy * wx)
        number, weight = np.stack(numbers), np.stack(weights)
        for each in np.unique(number[weight > 0]):
            total = np.where(number == each, weight, 0).sum(axis=0)
            rows = np.flatnonzero(total)
            yield int(each), rows, total[rows]

    def _along(self, at: Floats, axis: int) -> list[tuple[Rows, Floats]]:
        """Two numbers of cores along an axis and their weights, which sum to one."""
        n, side = self.shape[axis], self.side[axis]
        place = (at - self.low[axis]) / side
        border = np.clip(np.rint(place), 1, max(n - 1, 1))
        reach = max(self.blend / side, 1e-9)
        upper = np.clip((place - border + reach) / (2 * reach), 0, 1) if n > 1 else np.zeros_like(place)
        before = (border - 1).astype(np.int64)
        return [(before, 1 - upper), (np.minimum(before + 1, n - 1), upper)]


def everywhere() -> Windows:
    """Return the one window that holds everything."""
    return Windows(np.zeros(2), np.ones(2), (1, 1), np.inf)


def one_window(low: Floats, high: Floats, halo: float) -> Windows:
    """Return a single window between two (2,) corners."""
    return Windows(np.asarray(low, dtype=np.float64), np.subtract(high, low).astype(np.float64), (1, 1), halo)


def around(low: Floats, high: Floats, places: Places, pitch: float, config: FieldConfig) -> Windows:
    """Return the windows in which a field between two (2,) corners is solved: one, or several where there are many places."""
    halo = config.halo * pitch
    if len(places.inside(low - halo, high + halo)) <= config.most_spots:
        return one_window(low, high, halo)
    return windows_over(np.stack([low, high]), config.core * pitch, halo, config.blend * pitch)


def windows_over(centers: Floats, side: float, halo: float, blend: float) -> Windows:
    """Return a lattice over (n, 2) places, whose cores are at most ``side`` long."""
    low, high = centers.min(axis=0), centers.max(axis=0)
    extent = np.maximum(high - low, side * 1e-3)
    shape = np.ceil(extent / side).astype(int)
    return Windows(low, extent / shape, (int(shape[0]), int(shape[1])), halo, blend)
