"""Windows on a raster and a plan of tiles that covers each pixel exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE = 512
"""Side in px of what is computed, read and written at a time, and of the chunks of a store: a tile fills whole chunks."""


@dataclass(frozen=True)
class Window:
    """Rows ``y0 <= y < y1`` and columns ``x0 <= x < x1``; it may reach beyond the raster."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in a (y, x) raster that contains it."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grown(self, margin: int) -> Window:
        """Return the window with ``margin`` pixels more on each side."""
        return Window(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def moved(self, y: int, x: int) -> Window:
        """Return the window ``y`` pixels further down and ``x`` further right."""
        return Window(self.y0 + y, self.x0 + x, self.y1 + y, self.x1 + x)

    def inside(self, outer: Window) -> bool:
        """Whether all of this window lies in another."""
        return outer.y0 <= self.y0 and self.y1 <= outer.y1 and outer.x0 <= self.x0 and self.x1 <= outer.x1

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Index of this window in a (y, x) array that holds ``outer``."""
        return (slice(self.y0 - outer.y0, self.y1 - outer.y0), slice(self.x0 - outer.x0, self.x1 - outer.x0))


@dataclass(frozen=True)
class Tile:
    """A part of the raster (``core``) and what must be read to compute it (``view``: core plus halo)."""

    core: Window
    view: Window


def plan_tiles(shape: tuple[int, int], *, size: int = TILE, halo: int = 0, multiple: int = 1) -> list[Tile]:
    """Cut a raster into tiles whose cores cover each pixel exactly once.

    All views have one shape, so that the memory a tile needs does not depend on where it lies; at the border they
    reach beyond the raster (:func:`read_window` fills that by reflection).

    Parameters
    ----------
    shape
        (height, width) of the raster in pixels.
    size
        Side of a core in pixels; rounded up to ``multiple``.
    halo
        Pixels read beyond the core on each side: at least the reach of the network.
    multiple
        The network's stride: cores start and views measure whole multiples of it, so that where a tile starts does
        not change what is computed.
    """
    if size < 1 or halo < 0 or multiple < 1:
        msg = f"Tiles need size >= 1, halo >= 0, multiple >= 1; found {size}, {halo}, {multiple}."
        raise ValueError(msg)
    height, width = shape
    margin = _round_up(halo, multiple)
    step_y, step_x = (_round_up(min(size, side), multiple) for side in shape)
    tiles = []
    for y in range(0, height, step_y):
        for x in range(0, width, step_x):
            core = Window(y, x, min(y + step_y, height), min(x + step_x, width))
            view = Window(y, x, y + step_y, x + step_x).grown(margin)
            tiles.append(Tile(core, view))
    return tiles


def on_tissue(tiles: list[Tile], tissue: Any) -> list[Tile]:
    """Keep the tiles whose cores hold any tissue, (y, x) bool, read by window."""
    return [tile for tile in tiles if tissue[tile.core.slices].any()]


def nested(tiles: list[Tile]) -> list[Tile]:
    """Put tiles in an order in which each 2 x 2, 4 x 4, ... of them are neighbours in time as they are in space.

    What is made of such a group (a chunk of a coarser level, a block of an image that is decoded as a whole) is then
    needed for a short while only.
    """
    if not tiles:
        return []
    rows = {y: i for i, y in enumerate(sorted({tile.core.y0 for tile in tiles}))}
    columns = {x: i for i, x in enumerate(sorted({tile.core.x0 for tile in tiles}))}
    return sorted(tiles, key=lambda tile: _interleaved(rows[tile.core.y0], columns[tile.core.x0]))


def grouped(tiles: Sequence[Tile], side: int) -> list[tuple[Tile, ...]]:
    """Gather the tiles whose cores begin in the same square of ``side`` px; squares and tiles keep their order."""
    squares: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        squares.setdefault((tile.core.y0 // side, tile.core.x0 // side), []).append(tile)
    return [tuple(square) for square in squares.values()]


def read_window(raster: Any, window: Window) -> NDArray[Any]:
    """Read a window of a (..., y, x) raster as numpy; what lies beyond the border is the raster's mirror image.

    The raster may be lazy (dask, zarr): only the part needed is read.
    """
    rows = _mirror(np.arange(window.y0, window.y1), raster.shape[-2])
    columns = _mirror(np.arange(window.x0, window.x1), raster.shape[-1])
    y, x = rows.min(), columns.min()
    part = np.asarray(raster[..., y : rows.max() + 1, x : columns.max() + 1])
    inside = min(window.y0, window.x0) >= 0 and window.y1 <= raster.shape[-2] and window.x1 <= raster.shape[-1]
    return part if inside else part[..., rows - y, :][..., columns - x]


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Fold indices into ``0 .. length - 1`` by reflection that does not repeat the border pixel."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded)


def _interleaved(row: int, column: int) -> int:
    """Bits of two numbers in turn: their place on a Z-shaped curve."""
    return sum(((row >> bit & 1) << 1 | (column >> bit & 1)) << 2 * bit for bit in range(24))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
