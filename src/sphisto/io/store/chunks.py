"""Read and write a raster chunk by chunk: the store's library would first put a whole window together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._cores import n_cores
from sphisto.core.tiles import Window
from sphisto.io.store.chunk_codec import ChunkFiles, chunk_files
from sphisto.io.store.config import ReadConfig
from sphisto.io.store.errors import naming_chunk

Channels = slice | NDArray[np.integer]
Make = Callable[[NDArray[Any]], NDArray[Any]]


def chunks(
    array: Any,
    window: Window,
    channels: Channels = slice(None),
    make: Make | None = None,
    *,
    config: ReadConfig = ReadConfig(),
) -> Iterator[tuple[Window, NDArray[Any]]]:
    """Yield a window of a (c, y, x) or (y, x) raster chunk by chunk; a few chunks are in memory at a time.

    ``array`` is a zarr array, or a dask array of one. What is wanted of each part's values, those that ``make`` makes
    by the threads that read, waits in memory: it may have fewer channels.
    """
    files = chunk_files(array)

    def read(part: Window) -> NDArray[Any]:
        place = part.slices if array.ndim == 2 else (channels, *part.slices)
        with naming_chunk(array, place):
            values = np.asarray(array[place]) if files is None else files.read(part, channels)
        return values if make is None else make(values)

    windows = cut(window, getattr(array, "chunksize", array.chunks)[-2:])
    if len(windows) <= config.few:
        yield from ((part, read(part)) for part in windows)
        return
    n_threads = min(len(windows), n_cores(), config.most_threads)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="sphisto-reader") as pool:
        yield from _ahead(pool, read, windows, n_threads * config.ahead)


def read_window(array: Any, window: Window, channels: Channels = slice(None)) -> NDArray[Any]:
    """Read a window of a (c, y, x) or (y, x) raster, see :func:`chunks`, into one array."""
    n = () if array.ndim == 2 else (len(np.arange(array.shape[0])[channels]),)
    values = np.empty((*n, *window.shape), dtype=array.dtype)
    for part, found in chunks(array, window, channels):
        values[..., *part.within(window)] = found
    return values


def write_chunks(
    array: Any, window: Window, make: Callable[[slice, Window], NDArray[Any]], files: ChunkFiles | None = None
) -> None:
    """Write a window of a (c, y, x) raster chunk by chunk, by one thread: more would keep memory of their own.

    ``make`` makes the values of some channels and a part of the window, within one chunk. ``files`` are what
    :func:`sphisto.io.store.chunk_codec.chunk_files` found; looked for if not given.
    """
    files = chunk_files(array) if files is None else files
    n_channels, *sides = array.chunks
    for part in cut(window, (sides[0], sides[1])):
        for c in range(0, array.shape[0], n_channels):
            channels = slice(c, min(c + n_channels, array.shape[0]))
            if files is not None and is_whole(part, array):
                files.write(channels, part, make(channels, part))
            else:
                array[channels, *part.slices] = make(channels, part)


def cut(window: Window, sides: tuple[int, int]) -> list[Window]:
    """Cut a window where chunks of (height, width) ``sides`` begin."""
    rows, columns = (
        [max(at, start) for at in range(start // side * side, stop, side)] + [stop]
        for (start, stop), side in zip(((window.y0, window.y1), (window.x0, window.x1)), sides, strict=True)
    )
    return [Window(y0, x0, y1, x1) for y0, y1 in pairwise(rows) for x0, x1 in pairwise(columns)]


def is_whole(part: Window, array: Any) -> bool:
    """Whether a part of one chunk is all of it, as far as the raster reaches."""
    return all(
        within.start % side == 0 and (within.stop % side == 0 or within.stop == length)
        for within, side, length in zip(part.slices, array.chunks[-2:], array.shape[-2:], strict=True)
    )


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[Window], NDArray[Any]], windows: Iterable[Window], most: int
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
