"""Area-true resizing of images that are read by window.

A coarse pixel is the mean of what it covers of the fine ones, parts of pixels by their area. It is the same number
wherever the window begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.tiles import Window


def coarse_window(
    read: Callable[[Window], NDArray[np.uint8]],
    window: Window,
    *,
    ratio: tuple[float, float],
    fine_shape: tuple[int, int],
    at_once: int = 2**22,
) -> NDArray[np.uint8]:
    """Return a window of an image at a coarser resolution, reading no more of the fine one than it covers.

    Coarse pixel ``i`` covers the fine interval ``[i * ratio, (i + 1) * ratio)``, cut off at the border of the fine
    image. Means are rounded to the nearest integer, halves to the even one.

    Parameters
    ----------
    read
        Gives a window of the fine image as (h, w, c) uint8.
    window
        In coarse pixels; no pixel of it lies wholly beyond the fine image.
    ratio
        Fine pixels per coarse pixel along (y, x).
    fine_shape
        (height, width) of the fine image in pixels.
    at_once
        Most fine pixels in memory as float32 at a time: 48 MB of a colour image.

    Returns
    -------
    (height, width, c) uint8.

    Examples
    --------
    >>> import numpy as np
    >>> from sphisto.core.resize import coarse_window
    >>> from sphisto.core.tiles import Window
    >>> fine = np.arange(36, dtype=np.uint8).reshape(6, 6, 1)
    >>> coarse_window(lambda w: fine[w.slices], Window(0, 0, 2, 2), ratio=(3, 3), fine_shape=(6, 6))[..., 0]
    array([[ 7, 10],
           [25, 28]], dtype=uint8)
    """
    if ratio == (1.0, 1.0):
        return read(window)
    across, x0, x1 = _overlaps(window.x0, window.x1, ratio[1], fine_shape[1])
    rows = max(1, int(at_once / (ratio[0] * (x1 - x0))))
    parts = []
    for y in range(window.y0, window.y1, rows):
        down, y0, y1 = _overlaps(y, min(y + rows, window.y1), ratio[0], fine_shape[0])
        parts.append(_means(read(Window(y0, x0, y1, x1)), down, across))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _overlaps(start: int, stop: int, ratio: float, length: int) -> tuple[sparse.csr_array, int, int]:
    """Return how much of each fine pixel (columns) each coarse one (rows) covers, and which fine pixels those are."""
    edges = np.minimum(np.arange(start, stop + 1) * ratio, length)
    first, last = np.floor(edges[:-1]).astype(np.int64), np.ceil(edges[1:]).astype(np.int64)
    counts = last - first
    if (counts < 1).any():
        msg = f"Pixels {start} to {stop} of {ratio:g} px each lie beyond the {length} px of the finer image."
        raise ValueError(msg)
    row = np.repeat(np.arange(stop - start), counts)
    fine = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    share = np.minimum(edges[1:][row], fine + 1) - np.maximum(edges[:-1][row], fine)
    begin, end = int(first[0]), int(last[-1])
    shape = (stop - start, end - begin)
    return sparse.csr_array((share.astype(np.float32), (row, fine - begin)), shape=shape), begin, end


def _means(fine: NDArray[np.uint8], down: sparse.csr_array, across: sparse.csr_array) -> NDArray[np.uint8]:
    """Average (h, w, c): first down the columns, then across the rows; sums of whole pixels are exact."""
    height, width, n_channels = fine.shape
    summed = down @ fine.reshape(height, width * n_channels).astype(np.float32)
    turned = summed.reshape(-1, width, n_channels).swapaxes(0, 1)
    sums = (across @ np.ascontiguousarray(turned).reshape(width, -1)).reshape(across.shape[0], -1, n_channels)
    area = np.outer(across.sum(axis=1), down.sum(axis=1)).astype(np.float32)
    return np.asarray(np.rint(sums / area[..., None]).swapaxes(0, 1), dtype=np.uint8)
