"""A raster as it is read: by window and level, NaN where the store holds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import Grid
from sphisto.core.tiles import Window
from sphisto.core.upsample import at_pixels, blocks_around
from sphisto.io.store.chunk_codec import chunk_files
from sphisto.io.store.chunks import Make, chunks, is_whole, read_window
from sphisto.io.store.errors import MEND


@dataclass(frozen=True)
class StoredRaster:
    """A raster element of a store, NaN where it holds nothing."""

    levels: tuple[Any, ...]  # pyramid levels as they are stored, finest first
    channels: tuple[str, ...]  # their names; none for a mask
    grid: Grid  # the finest level's grid
    # levels of the mask outside of which the stored numbers mean nothing; none for a raster that has no outside
    tissue: tuple[Any, ...] = ()
    finer: int = 0  # levels of the grid that come before the first one that is stored: they are interpolated
    # whether every chunk with tissue is stored, as of factor maps, which are nowhere 0: one that is not there was lost
    is_dense: bool = False

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of each level, finest first."""
        interpolated = [(self.grid.height >> scale, self.grid.width >> scale) for scale in range(self.finer)]
        return [*interpolated, *((level.shape[-2], level.shape[-1]) for level in self.levels)]

    def grid_at(self, scale: int) -> Grid:
        """Grid of a pyramid level; refuses levels that are not there."""
        shapes = self.shapes
        if not 0 <= scale < len(shapes):
            msg = f"Found {len(shapes)} pyramid levels; expected `scale` from 0 to {len(shapes) - 1}: {scale}."
            raise ValueError(msg)
        return self.grid.resized(*shapes[scale])

    def read(self, scale: int, window: Window, channels: slice | NDArray[np.integer] = slice(None)) -> NDArray[Any]:
        """Read a window (level px, inside the raster) of some channels."""
        outside = self._outside(scale, window)
        if scale < self.finer:
            values = self._interpolated(scale, window, channels)
            return values if outside is None else outside.blanked(window, values)
        level = self.levels[scale - self.finer]
        if outside is None:
            return read_window(level, window, channels)
        values = np.empty((len(np.arange(level.shape[0])[channels]), *window.shape), dtype=level.dtype)
        for part, found in self.chunks(scale, window, channels):
            values[:, *part.within(window)] = found
        return values

    def chunks(
        self, scale: int, window: Window, channels: slice | NDArray[np.integer], make: Make | None = None
    ) -> Iterator[tuple[Window, NDArray[Any]]]:
        """Make of each chunk's pixels what is wanted of them, so that the window is never in memory as a whole."""
        if scale < self.finer:
            values = self.read(scale, window, channels)
            yield window, values if make is None else make(values)
            return
        level, outside = self.levels[scale - self.finer], self._outside(scale, window)
        files = chunk_files(level) if self.is_dense else None
        for part, values in chunks(level, window, channels, make):
            if outside is None:
                yield part, values
                continue
            if files is not None:
                self._require(files.holds(part), outside.none_in(part), part, level)
            yield part, outside.blanked(part, values)

    def _require(self, is_stored: bool, is_empty: bool, part: Window, level: Any) -> None:
        """Refuse a part where what is stored and the mask contradict each other: one of their chunks was lost."""
        if is_stored == is_empty and (is_empty is False or is_whole(part, level)):
            lost, other = ("its mask of the tissue", "it") if is_empty else ("it", "its mask of the tissue")
            msg = (
                f"{level.store_path} is damaged: where {other} holds values, at rows {part.y0} to {part.y1} and columns {part.x0} to "
                f"{part.x1}, {lost} holds none. A file is missing, as after a copy that was broken off. {MEND}"
            )
            raise ValueError(msg)

    def _interpolated(self, scale: int, window: Window, channels: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Values of a level that is not stored, from those of the finest stored one that lie on tissue."""
        step, (height, width) = 1 << (self.finer - scale), self.shapes[self.finer]
        around = blocks_around(window, step)
        coarse = Window(
            max(around.y0 // step, 0), max(around.x0 // step, 0),
            min(around.y1 // step, height), min(around.x1 // step, width),
        )  # fmt: skip
        values = self.read(self.finer, coarse, channels)
        known, corner = np.isfinite(values[:1]), (coarse.y0 * step, coarse.x0 * step)
        weight = at_pixels(known.astype(np.float32), window, corner, step)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(at_pixels(np.where(known, values, 0), window, corner, step) / weight)

    def _outside(self, scale: int, window: Window) -> _Outside | None:
        """Where a level holds no tissue, ``None`` if that makes no difference."""
        if not self.tissue:
            return None
        level = min(scale, len(self.tissue) - 1)
        return _Outside(self.tissue[level], window, self.shapes[scale], 1 << (scale - level))


class _Outside:
    """Where parts of a window of a raster hold no tissue: read for a whole row of chunks at once, which many parts share.

    The ``level`` (y, x) of the mask is 0 where there is none. A ``window`` is read of a raster of (height, width)
    ``shape``; ``step`` px of the mask lie along a side of one of the raster, which holds tissue if any of them does.
    """

    def __init__(self, level: Any, window: Window, shape: tuple[int, int], step: int) -> None:
        self.level, self.window, self.shape, self.step = level, window, shape, step
        self.side = max(getattr(level, "chunksize", level.chunks)[0] // step, 1)
        self.rows: Window | None = None
        self.outside: NDArray[np.bool_] | None = None

    def blanked(self, part: Window, values: NDArray[Any]) -> NDArray[Any]:
        """Set (c, height, width) values of a part to NaN there."""
        here = self._in(part)
        if here.any():
            values = values if values.flags.writeable else values.copy()
            values[:, here] = np.nan
        return values

    def none_in(self, part: Window) -> bool:
        """Whether a part holds no tissue at all."""
        return bool(self._in(part).all())

    def _in(self, part: Window) -> NDArray[np.bool_]:
        bottom = min(-(-part.y1 // self.side) * self.side, self.shape[0])
        rows = Window(part.y0 // self.side * self.side, self.window.x0, bottom, self.window.x1)
        if self.outside is None or rows != self.rows:
            self.rows, self.outside = rows, self._read(rows)
        return self.outside[part.within(rows)]

    def _read(self, rows: Window) -> NDArray[np.bool_]:
        step, (height, width) = self.step, rows.shape
        whole = Window(rows.y0 * step, rows.x0 * step, rows.y1 * step, rows.x1 * step)
        return np.asarray(~read_window(self.level, whole).reshape(height, step, width, step).any(axis=(1, 3)))
