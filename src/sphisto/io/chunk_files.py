"""Chunks of a zarr array as the files that they are: the store's library takes more time and memory for the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from sphisto.core.tiles import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ChunkFiles:
    """Reads and writes parts of a (c, y, x) or (y, x) array that lie within one chunk of rows and columns.

    zarr goes through an event loop and copies each chunk more than once; here one thread does one chunk.

    Parameters
    ----------
    array
        One that :func:`chunk_files` found to be nothing but such files.
    """

    array: Any

    def read(self, part: Window, channels: slice | NDArray[np.integer]) -> NDArray[Any]:
        """Read some channels (of a (c, y, x) array) of what lies within one chunk of rows and columns."""
        if self.array.ndim == 2:
            return self._stored((), part)
        wanted, side = np.arange(self.array.shape[0])[channels], self.array.chunks[0]
        if side == self.array.shape[0]:
            return np.asarray(self._stored((0,), part)[channels])
        values = np.empty((len(wanted), *part.shape), dtype=self.array.dtype)
        for block in np.unique(wanted // side):
            here = wanted // side == block
            values[here] = self._stored((int(block),), part)[wanted[here] - block * side]
        return values

    def write(self, channels: slice, part: Window, values: NDArray[Any]) -> None:
        """Write one chunk of a (c, y, x) array; it appears under its name as a whole, whoever else writes it.

        As zarr does, a chunk that only holds the fill value is not stored.
        """
        block, *sides = self.array.chunks
        y, x = part.y0 // sides[0], part.x0 // sides[1]
        path = self._path((channels.start // block, y, x))
        if _is_all(values, self.array.fill_value):
            path.unlink(missing_ok=True)
            return
        if values.shape != self.array.chunks:  # at the border
            whole = np.full(self.array.chunks, self.array.fill_value, dtype=self.array.dtype)
            whole[: values.shape[0], *part.within(Window(y * sides[0], x * sides[1], 0, 0))] = values
            values = whole
        packed = self._codec.encode(np.ascontiguousarray(values, dtype=self.array.dtype))
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{uuid4().hex}.partial")  # what zarr calls it
        try:
            unfinished.write_bytes(packed)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _stored(self, blocks: tuple[int, ...], part: Window) -> NDArray[Any]:
        """Values of a part of a chunk, all of its channels."""
        sides = self.array.chunks[-2:]
        y, x = part.y0 // sides[0], part.x0 // sides[1]
        values = np.empty(self.array.chunks, dtype=self.array.dtype)
        try:
            stored = self._path((*blocks, y, x)).read_bytes()
        except FileNotFoundError:
            if not (self._folder / "zarr.json").exists():  # it is not one chunk that is missing
                raise
            values.fill(self.array.fill_value)  # what only holds that is not stored
        else:
            says = int.from_bytes(stored[4:8], "little")  # bytes, by Blosc's header
            if says != values.nbytes:
                msg = f"it says that it holds {says} bytes instead of {values.nbytes}"
                raise ValueError(msg)
            self._codec.decode(stored, values)
        return np.asarray(values[..., *part.within(Window(y * sides[0], x * sides[1], 0, 0))])

    def _path(self, key: tuple[int, ...]) -> Path:
        return self._folder / str(self.array.metadata.encode_chunk_key(key))

    @cached_property
    def _folder(self) -> Path:
        return Path(self.array.store.root) / self.array.path

    @cached_property
    def _codec(self) -> Any:
        from numcodecs import Blosc

        about = self.array.compressors[0]
        return Blosc(about.cname.value, about.clevel, getattr(Blosc, about.shuffle.value.upper()), about.blocksize)


def chunk_files(array: Any) -> ChunkFiles | None:
    """Return a zarr array as its files, if they are compressed by Blosc and nothing else, as this package writes them."""
    import zarr
    from zarr.codecs import BloscCodec, BytesCodec
    from zarr.storage import LocalStore

    plain = (
        isinstance(array, zarr.Array)
        and isinstance(array.store, LocalStore)
        and array.metadata.zarr_format == 3
        and array.shards is None
        and not array.filters
        and isinstance(array.serializer, BytesCodec)
        and array.dtype.isnative
        and len(array.compressors) == 1
        and isinstance(array.compressors[0], BloscCodec)
    )
    return ChunkFiles(array) if plain else None


def _is_all(values: NDArray[Any], fill: Any) -> bool:
    def same(these: Any) -> Any:
        return np.isnan(these) if np.isnan(fill) else these == fill

    return bool(same(values.flat[0]) and same(values).all())
