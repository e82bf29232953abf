"""Arrays at half their resolution, and the windows that belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.pieces import in_pieces
from sphisto.core.tiles import Window


def twice(window: Window) -> Window:
    """Return a window's place in the next finer level."""
    return Window(2 * window.y0, 2 * window.x0, 2 * window.y1, 2 * window.x1)


def half(window: Window) -> Window:
    """Return a window's place in the next coarser level."""
    return Window(window.y0 // 2, window.x0 // 2, window.y1 // 2, window.x1 // 2)


def halve(values: NDArray[Any], tissue: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Average 2 x 2 pixels, leaving out NaN and what lies off tissue, where values are 0; an odd last row or column is dropped.

    Where none of the four is tissue the mean is 0, and NaN where none of those on tissue is known.
    """
    height, width = (side // 2 * 2 for side in values.shape[1:])
    values = values[:, :height, :width]
    inside = None if tissue is None else tissue[None, :height, :width]
    area = None if inside is None else np.maximum(_sums(inside.view(np.uint8)), 1)
    means = np.empty((len(values), height // 2, width // 2), dtype=np.float32)
    for some in in_pieces(len(values), height * width, at_once=2**17):  # they stay in the processor's own memory
        part, out = values[some], means[some]
        _sums(part.astype(np.float32, copy=False), out)
        if not np.isfinite(out).all():
            out[:] = _halve_known(part, inside)
        elif area is None:
            out *= np.float32(0.25)
        else:
            out /= area
    return means


def _halve_known(values: NDArray[Any], inside: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    known = np.isfinite(values)
    counted = known if inside is None else known & inside
    with np.errstate(invalid="ignore"):
        means = np.asarray(_sums(np.where(known, values, np.float32(0))) / _sums(counted.view(np.uint8)))
    if inside is not None:
        np.copyto(means, 0, where=_sums(inside.view(np.uint8)) == 0)
    return means


def any_of_four(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where any of 2 x 2 pixels is tissue, as coarser levels of a mask have it."""
    height, width = (side // 2 * 2 for side in tissue.shape)
    rows = tissue[0:height:2, :width] | tissue[1:height:2, :width]
    return np.asarray(rows[:, 0::2] | rows[:, 1::2])


def _sums(values: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Add 2 x 2 pixels, whole rows first: they lie side by side in memory."""
    rows = values[:, 0::2] + values[:, 1::2]
    return np.add(rows[:, :, 0::2], rows[:, :, 1::2], out=out)
