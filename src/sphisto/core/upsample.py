"""Linear interpolation between the middles of blocks: how all that is computed on a coarse grid is brought to pixels.

Beyond the outermost middles their values go on. Blocks lie on a grid that begins at pixel 0, so that a pixel gets the
same value whatever window it is read in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window

Floats = NDArray[np.floating]

COARSEST = 8
"""Px along a side of the largest block on which something is computed that is then interpolated."""


def stride_for(pitch: float, points_per_pitch: int) -> int:
    """Return the largest power of two up to :data:`COARSEST` that puts enough points into a pitch in px."""
    stride = COARSEST
    while stride > 1 and stride * points_per_pitch > pitch:
        stride //= 2
    return stride


def blocks_around(window: Window, stride: int) -> Window:
    """Return whole blocks that hold a window, and one more on each side: all that its pixels are interpolated from."""
    y0, x0 = window.y0 // stride * stride, window.x0 // stride * stride
    y1, x1 = -(-window.y1 // stride) * stride, -(-window.x1 // stride) * stride
    return Window(y0, x0, y1, x1).grown(stride)


def block_middles(window: Window, stride: int) -> NDArray[np.float64]:
    """(m, 2) middles (y, x) of the blocks of a window, in px, row by row."""
    height, width = (side // stride for side in window.shape)
    y = window.y0 + (np.arange(height) + 0.5) * stride
    x = window.x0 + (np.arange(width) + 0.5) * stride
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def middles_around(points: Floats, stride: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(m, 4, 2) middles (y, x) of the blocks between which (m, 2) points lie, in px, and (m, 4) their weights."""
    at = points / stride - 0.5
    before = np.floor(at)
    beyond = at - before
    corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    weights = np.where(corners, beyond[:, None], 1 - beyond[:, None]).prod(axis=2)
    return (before[:, None] + corners + 0.5) * stride, weights


def as_maps(values: Floats, window: Window, stride: int) -> NDArray[np.float32]:
    """(K, h / stride, w / stride) maps of (m, K) values at the middles of the blocks of a window."""
    height, width = (side // stride for side in window.shape)
    return np.ascontiguousarray(values.T.reshape(-1, height, width), dtype=np.float32)


def at_points(maps: Floats, points: Floats, corner: tuple[int, int], stride: int) -> Floats:
    """(m, K) values at (m, 2) points (y, x) in px of (K, h, w) maps whose first block begins at a corner."""
    height, width = maps.shape[1:]
    y, below = _between((points[:, 0] - corner[0]) / stride - 0.5, height)
    x, beside = _between((points[:, 1] - corner[1]) / stride - 0.5, width)
    flat = maps.reshape(len(maps), -1)
    out = np.zeros((len(points), len(maps)), dtype=maps.dtype)
    for down, by_y in ((0, 1 - below), (1, below)):
        for right, by_x in ((0, 1 - beside), (1, beside)):
            place = np.minimum(y + down, height - 1) * width + np.minimum(x + right, width - 1)
            out += flat[:, place].T * (by_y * by_x)[:, None].astype(maps.dtype)
    return out


def at_pixels(maps: Floats, window: Window, corner: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """(K, h, w) values at the middles of all pixels of a window, of (K, h', w') maps whose first block begins at a corner.

    Along y, then along x: two small matrix products instead of a search at each pixel.
    """
    down, across = weights_at_pixels(maps.shape[1:], window, corner, stride)
    return np.asarray(np.matmul(np.matmul(down, maps.astype(np.float32, copy=False)), across.T))


def weights_at_pixels(
    shape: tuple[int, ...], window: Window, corner: tuple[int, int], stride: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(h, h') and (w, w') weights of (h', w') ``shape`` blocks at the rows and columns of a window, see :func:`at_pixels`."""
    down, across = (
        _weights((np.arange(begin, end) + 0.5 - first) / stride - 0.5, n)
        for begin, end, first, n in zip((window.y0, window.x0), (window.y1, window.x1), corner, shape, strict=True)
    )
    return down, across


def _between(at: NDArray[np.float64], n: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which of n points in a line lies before each place, and how far it is to the next: 0 to 1."""
    inside = np.clip(at, 0, n - 1)
    before = np.minimum(inside.astype(np.intp), max(n - 2, 0))
    return before, inside - before


def _weights(at: NDArray[np.float64], n: int) -> NDArray[np.float32]:
    """(m, n) weights of n points in a line at m places."""
    before, beyond = _between(at, n)
    out, place = np.zeros((len(at), n), dtype=np.float32), np.arange(len(at))
    out[place, before] = 1 - beyond
    out[place, np.minimum(before + 1, n - 1)] += beyond.astype(np.float32)
    return out
