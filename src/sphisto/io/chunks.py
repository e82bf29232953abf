"""Read a raster chunk by chunk, by all cores: the store's library would first put a whole window together."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._cores import n_cores
from sphisto.core.tiles import Window
from sphisto.io.damage import naming_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    Channels = slice | NDArray[np.integer]

_AHEAD = 2  # chunks for each thread that are decoded or wait to be taken
_FEW = 4  # chunks that one thread reads: more would be started for nothing, and keep memory of their own
_MOST_THREADS = 8  # more would wait for the disk, and for whoever takes what they read


def chunks(array: Any, window: Window, channels: Channels = slice(None)) -> Iterator[tuple[Window, NDArray[Any]]]:
    """Yield a window of a (c, y, x) or (y, x) raster chunk by chunk; a few chunks are in memory at a time.

    Parameters
    ----------
    array
        A zarr array, or a dask array of one.
    window
        Pixels inside the raster.
    channels
        Those wanted of a (c, y, x) raster.

    Raises
    ------
    ValueError
        If a chunk is damaged; its file is named.
    """
    whole = _decoder(array)

    def read(part: Window) -> NDArray[Any]:
        place = part.slices if array.ndim == 2 else (channels, *part.slices)
        with naming_chunk(array, place):
            if whole is None:
                return np.asarray(array[place])
            return np.asarray(whole(part)[channels])

    windows = cut(window, getattr(array, "chunksize", array.chunks)[-2:])
    if len(windows) <= _FEW:
        yield from ((part, read(part)) for part in windows)
        return
    n_threads = min(len(windows), n_cores(), _MOST_THREADS)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="sphisto-reader") as pool:
        yield from _ahead(pool, read, windows, n_threads * _AHEAD)


def read_window(array: Any, window: Window, channels: Channels = slice(None)) -> NDArray[Any]:
    """Read a window of a (c, y, x) or (y, x) raster, see :func:`chunks`, into one array."""
    n = () if array.ndim == 2 else (len(np.arange(array.shape[0])[channels]),)
    values = np.empty((*n, *window.shape), dtype=array.dtype)
    for part, found in chunks(array, window, channels):
        values[..., *part.within(window)] = found
    return values


def cut(window: Window, sides: tuple[int, int]) -> list[Window]:
    """Cut a window where chunks of (height, width) ``sides`` begin."""
    rows, columns = (
        [max(at, start) for at in range(start // side * side, stop, side)] + [stop]
        for (start, stop), side in zip(((window.y0, window.y1), (window.x0, window.x1)), sides, strict=True)
    )
    return [Window(y0, x0, y1, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]


def _decoder(array: Any) -> Callable[[Window], NDArray[Any]] | None:
    """Return how a window of one chunk is decoded from its file, if a file is all there is to it.

    That is so for what this package writes with all channels in a chunk. zarr takes two to three times as long for the
    same, as it goes through an event loop and copies each chunk.
    """
    import zarr
    from numcodecs import Blosc
    from zarr.codecs import BloscCodec, BytesCodec
    from zarr.storage import LocalStore

    if not (
        isinstance(array, zarr.Array)
        and isinstance(array.store, LocalStore)
        and array.metadata.zarr_format == 3
        and array.shards is None
        and array.chunks[:-2] == array.shape[:-2]
        and not array.filters
        and isinstance(array.serializer, BytesCodec)
        and array.dtype.isnative
        and len(array.compressors) == 1
        and isinstance(array.compressors[0], BloscCodec)
    ):
        return None
    folder, shape, codec = Path(array.store.root) / array.path, array.chunks, Blosc()

    def decode(part: Window) -> NDArray[Any]:
        y, x = part.y0 // shape[-2], part.x0 // shape[-1]
        inside = part.within(Window(y * shape[-2], x * shape[-1], 0, 0))
        values = np.empty(shape, dtype=array.dtype)
        try:
            stored = (folder / array.metadata.encode_chunk_key((*(0,) * (len(shape) - 2), y, x))).read_bytes()
        except FileNotFoundError:
            if not (folder / "zarr.json").exists():  # it is not one chunk that is missing
                raise
            values.fill(array.fill_value)  # what only holds that is not stored
        else:
            says = int.from_bytes(stored[4:8], "little")  # bytes, by Blosc's header
            if says != values.nbytes:
                msg = f"it says that it holds {says} bytes instead of {values.nbytes}"
                raise ValueError(msg)
            codec.decode(stored, values)
        return values[..., *inside]

    return decode


def _ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[Window], NDArray[Any]],
    windows: Iterable[Window],
    most: int,
) -> Iterator[tuple[Window, NDArray[Any]]]:
    """Yield what is read of each window in their order; at most so many are read ahead."""
    waiting: deque[tuple[Window, Future[NDArray[Any]]]] = deque()
    for window in windows:
        waiting.append((window, pool.submit(read, window)))
        if len(waiting) > most:
            first, found = waiting.popleft()
            yield first, found.result()
    while waiting:
        first, found = waiting.popleft()
        yield first, found.result()
