"""Where a prior is computed, and how it is drawn out to the pixels in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.tiles import Window

if TYPE_CHECKING:
    from sphisto.model.neighbours import Prior

_PER_PITCH = 4  # a prior is computed at this many points per pitch at least, and drawn out in between
COARSEST = 8  # px
_LEAST_RATE = 1e-9  # counts; no division by none


def prior_stride(pitch: float) -> int:
    """Return the largest power of two up to 8 px that still puts four points into a pitch."""
    stride = COARSEST
    while stride > 1 and stride * _PER_PITCH > pitch:
        stride //= 2
    return stride


def block_middles(window: Window, stride: int) -> NDArray[np.float64]:
    """(m, 2) middles of the blocks of a window."""
    height, width = (side // stride for side in window.shape)
    y = window.y0 + (np.arange(height) + 0.5) * stride
    x = window.x0 + (np.arange(width) + 0.5) * stride
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def coarse_points(window: Window, stride: int) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Points, at least two to a pitch, of a grid around a window that is the same for all windows; and its shape."""
    y, x = (_line(begin, end, stride) for begin, end in ((window.y0, window.y1), (window.x0, window.x1)))
    points: NDArray[np.float64] = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    return points, (len(y), len(x))


def _line(begin: int, end: int, stride: int) -> NDArray[np.float64]:
    step = stride * (_PER_PITCH // 2)
    return np.asarray((np.arange(begin // step - 1, -(-end // step) + 1) + 0.5) * step, dtype=np.float64)


def followed(
    expression: NDArray[np.float32],
    sd: NDArray[np.floating],
    rate: NDArray[np.floating],
    shape: tuple[int, int],
    window: Window,
    stride: int,
) -> NDArray[np.float32]:
    """Draw (m, G) standard deviations at the points of :func:`coarse_points` out to pixels, following their expression.

    Roots are about equally sure everywhere, so variance grows like the expression; where that is less than its standard
    deviation, the latter is as it was.
    """
    drawn = _drawn_out(sd, shape, window, stride)
    usual = _drawn_out(rate, shape, window, stride)
    usual += drawn  # in place from here on: arrays of all genes at all pixels are large
    ratio = expression + drawn
    ratio /= np.maximum(usual, _LEAST_RATE, out=usual)
    drawn *= np.sqrt(ratio, out=ratio)
    return drawn


def _drawn_out(
    values: NDArray[np.floating], shape: tuple[int, int], window: Window, stride: int
) -> NDArray[np.float32]:
    """Draw (m, G) values at the points of :func:`coarse_points` out to the pixels of the window."""
    # linear along y, then along x: two small matrix products instead of a search at each pixel
    planes = values.T.reshape(-1, *shape).astype(np.float32)
    along_y, along_x = _between(window.y0, window.y1, stride), _between(window.x0, window.x1, stride)
    return np.asarray(np.matmul(np.matmul(along_y, planes), along_x.T))


def _between(begin: int, end: int, stride: int) -> NDArray[np.float32]:
    """(end - begin, n) weights of linear interpolation between the points of a line, at the middles of pixels."""
    line = _line(begin, end, stride)
    at = (np.arange(begin, end) + 0.5 - line[0]) / (line[1] - line[0])
    before = np.minimum(at.astype(np.int64), len(line) - 2)
    weights = np.zeros((len(at), len(line)), dtype=np.float32)
    pixel = np.arange(len(at))
    weights[pixel, before], weights[pixel, before + 1] = 1 - (at - before), at - before
    return weights


def as_maps(values: NDArray[np.floating], window: Window, stride: int) -> NDArray[np.float32]:
    """(K, h / stride, w / stride) maps of (m, K) values at the middles of the blocks of a window."""
    height, width = (side // stride for side in window.shape)
    return np.ascontiguousarray(values.T.reshape(-1, height, width), dtype=np.float32)


def drawn_at(prior: Prior, window: Window, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float32]:
    """(K, m) values of a prior at m pixels of a window, drawn out between its points as the network draws it."""
    stride = prior.stride
    bottom, right = (-(-side // stride) * stride for side in (window.y1, window.x1))
    maps = prior.prior(Window(window.y0, window.x0, bottom, right).grown(stride))
    at = (np.stack([y, x]) + 0.5) / stride + 0.5  # the first point lies half a stride above the window
    return np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in maps])
