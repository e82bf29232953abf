"""What of a store is exported as an image: genes, or any raster, as planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import Grid
from sphisto.core.tiles import Window
from sphisto.io.export.ome_tiff import Planes
from sphisto.io.store import read as stores
from sphisto.io.store.stored_genes import stored_genes


def gene_planes(store: stores.Store, key: str, genes: Sequence[str]) -> Planes:
    """Genes of a projection as planes, each made of the factor maps when it is read."""
    whole = stored_genes(store, key, genes)
    each = [whole.of(gene) for gene in genes]  # a file holds one channel after the other

    def read(level: int, channel: int, window: Window) -> NDArray[Any]:
        return each[channel].read(level, window)[0]

    return _planes(genes, whole.maps.shapes, whole.maps.grid, np.dtype(np.float32), read)


def raster_planes(store: stores.Store, name: str, channels: Sequence[str] | None) -> Planes:
    """A raster of a store as planes: one in colours, or one for each channel."""
    stored = stores.raster(store, name)
    dtype = np.dtype(stored.levels[0].dtype)
    dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype
    missing = [channel for channel in channels or () if channel not in stored.channels]
    if missing:
        msg = f"Found no channel {missing[0]!r} in {name!r}; it has {', '.join(map(repr, stored.channels)) or 'none'}."
        raise KeyError(msg)
    if channels is None and dtype == np.uint8 and len(stored.channels) == 3:

        def read_colours(level: int, channel: int, window: Window) -> NDArray[Any]:
            return np.moveaxis(stored.read(level, window), 0, -1)

        return _planes([name], stored.shapes, stored.grid, dtype, read_colours, is_rgb=True)
    names = list(channels if channels is not None else stored.channels or [name])

    def read(level: int, channel: int, window: Window) -> NDArray[Any]:
        if not stored.channels:  # a mask
            return stored.read(level, window)
        at = stored.channels.index(names[channel])
        return stored.read(level, window, slice(at, at + 1))[0]

    return _planes(names, stored.shapes, stored.grid, dtype, read)


def _planes(
    names: Sequence[str],
    shapes: Sequence[tuple[int, int]],
    grid: Grid,
    dtype: np.dtype[Any],
    read: Any,
    *,
    is_rgb: bool = False,
) -> Planes:
    y, x = grid.fullres_per_px
    um_per_px = (grid.fullres_um_per_px * y, grid.fullres_um_per_px * x)
    return Planes(tuple(names), tuple(shapes), um_per_px, dtype, read, is_rgb)
