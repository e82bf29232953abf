"""Chunks of a zarr array as the files that they are: the store's library takes more time and memory for the same."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from sphisto.core.tiles import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numcodecs import Blosc
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ChunkFiles:
    """Reads and writes parts of a (c, y, x) or (y, x) array that lie within one chunk of rows and columns.

    zarr goes through an event loop and copies each chunk more than once; here one thread does one chunk.
    """

    array: Any  # one that chunk_files found to be nothing but such files
    folder: Path  # where they are
    codec: Blosc  # packs and unpacks them

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

    def holds(self, part: Window) -> bool:
        """Whether the first channels of the chunk in which a part lies are stored."""
        y, x = part.y0 // self.array.chunks[-2], part.x0 // self.array.chunks[-1]
        return self._path((*(0,) * (self.array.ndim - 2), y, x)).exists()

    def write(self, channels: slice, part: Window, values: NDArray[Any]) -> None:
        """Write one chunk of a (c, y, x) array; it appears under its name as a whole, whatever else writes it.

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
        packed = self.codec.encode(np.ascontiguousarray(values, dtype=self.array.dtype))
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
            if not (self.folder / "zarr.json").exists():  # it is not one chunk that is missing
                raise
            values.fill(self.array.fill_value)  # what only holds that is not stored
        else:
            # by Blosc's header; what its bytes do not keep to would be read or written beyond them
            holds, length = (int.from_bytes(stored[at : at + 4], "little") for at in (4, 12))
            if holds != values.nbytes or length != len(stored):
                msg = f"its header states {holds} bytes in {length} instead of {values.nbytes} in {len(stored)}"
                raise ValueError(msg)
            self.codec.decode(stored, values)
        return np.asarray(values[..., *part.within(Window(y * sides[0], x * sides[1], 0, 0))])

    def _path(self, key: tuple[int, ...]) -> Path:
        return self.folder / str(self.array.metadata.encode_chunk_key(key))


def chunk_files(array: Any) -> ChunkFiles | None:
    """Return a zarr array as its files, if they are compressed by Blosc and nothing else, as this package writes them.

    What decides is the array's metadata document, which the specification of zarr v3 fixes: what zarr makes of it in
    memory differs from release to release.
    """
    import zarr
    from zarr.storage import LocalStore

    if not (isinstance(array, zarr.Array) and isinstance(array.store, LocalStore) and array.dtype.isnative):
        return None
    document: Any = array.metadata.to_dict()
    match document:
        case {
            "zarr_format": 3,
            "chunk_grid": {"name": "regular"},
            "codecs": [
                {"name": "bytes", **order},
                {"name": "blosc", "configuration": {"cname": str(), "clevel": int(), "shuffle": str()} as about},
            ],
        } if _is_native(order):
            return ChunkFiles(array, Path(array.store.root) / array.path, _blosc(**about))
    return None


def _is_native(order: Mapping[Any, Any]) -> bool:
    """Whether values have their bytes in this machine's order; those of one byte need not state any."""
    return order.get("configuration", {}).get("endian", sys.byteorder) == sys.byteorder


def _blosc(cname: str, clevel: int, shuffle: str, blocksize: int = 0, **_: Any) -> Blosc:
    """Return the codec that the specification describes so."""
    from numcodecs import Blosc

    shuffles = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}
    return Blosc(cname, clevel, shuffles[shuffle], blocksize)


def _is_all(values: NDArray[Any], fill: Any) -> bool:
    def same(these: Any) -> Any:
        return np.isnan(these) if np.isnan(fill) else these == fill

    return bool(same(values.flat[0]) and same(values).all())
