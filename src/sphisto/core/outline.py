"""Outlines of labels along the edges of their pixels: the way back from :mod:`sphisto.core.rasterize`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Ways along the edges of pixels, in turn around one pixel: to the right along its top, then down, left, and up
_STEP_Y, _STEP_X = np.array([0, 1, 0, -1]), np.array([1, 0, -1, 0])


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed lines around the parts of labels, and around the holes in them."""

    labels: NDArray[Any]  # (n,) whose each is
    # (m, 2) x, y in px of all corners, ring by ring: one stands where a line turns. A line may meet itself at one
    corners: NDArray[np.int64]
    ring: NDArray[np.int64]  # (m,) which ring each corner is of, in ascending order
    inside: NDArray[np.float64]  # (n, 2) x, y of the middle of a pixel of that part
    is_hole: NDArray[np.bool_]  # (n,) whether it goes around a hole


def rings(labels: NDArray[Any]) -> Rings:
    """Trace the outlines of all labels of a (y, x) image but 0.

    Pixels that touch at a corner only are no part of each other, so that each part has one outline, and the holes in it
    are its own.
    """
    y, x, way = _edges(labels)
    following = _following(y, x, way, labels.shape[1] + 1)
    line, ring = _walked(following)
    y, x, way = y[line], x[line], way[line]
    first, last = _ends(ring)
    pixel_y, pixel_x = y[first] - np.isin(way[first], (2, 3)), x[first] - np.isin(way[first], (1, 2))
    before = np.arange(-1, len(ring) - 1)
    before[first] = last
    turns = way != way[before]
    corners, ring = np.column_stack([x, y])[turns], ring[turns]
    return Rings(
        labels[pixel_y, pixel_x],
        corners,
        ring,
        np.column_stack([pixel_x, pixel_y]) + np.float64(0.5),
        _areas(corners, ring, len(first)) < 0,
    )


def _edges(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row and column where each edge of a label begins, and its way, with the pixel that it is of to the right."""
    rows = np.ones((labels.shape[0] + 1, labels.shape[1]), dtype=bool)  # edges above each row of pixels, below the last
    rows[1:-1] = labels[1:] != labels[:-1]
    columns = np.ones((labels.shape[0], labels.shape[1] + 1), dtype=bool)
    columns[:, 1:-1] = labels[:, 1:] != labels[:, :-1]
    there = labels != 0
    parts = []
    for way, (side, down, right) in enumerate(
        ((rows[:-1], 0, 0), (columns[:, 1:], 0, 1), (rows[1:], 1, 1), (columns[:, :-1], 1, 0))
    ):
        y, x = np.nonzero(side & there)
        parts.append((y + down, x + right, np.full(len(y), way)))
    y, x, ways = (np.concatenate(values) for values in zip(*parts, strict=True))
    return y, x, ways


def _following(y: NDArray[np.int64], x: NDArray[np.int64], way: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Which edge follows each: of the same pixel if that has one there, else straight on, else to the other side."""
    key = (y * width + x) * 4 + way
    order = np.argsort(key)
    sorted_keys = key[order]
    end = ((y + _STEP_Y[way]) * width + x + _STEP_X[way]) * 4
    following = np.full(len(key), -1)
    for turn in (1, 0, 3):
        left = np.flatnonzero(following < 0)
        wanted = end[left] + (way[left] + turn) % 4
        at = np.minimum(np.searchsorted(sorted_keys, wanted), len(key) - 1)
        following[left] = np.where(sorted_keys[at] == wanted, order[at], -1)
    return following


def _walked(following: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All edges in the order in which they are walked along, and which ring each is of."""
    after, seen = following.tolist(), bytearray(len(following))
    line: list[int] = []
    lengths: list[int] = []
    for first in range(len(after)):
        at, start = first, len(line)
        while not seen[at]:
            seen[at] = 1
            line.append(at)
            at = after[at]
        if len(line) > start:
            lengths.append(len(line) - start)
    return np.array(line, dtype=np.int64), np.repeat(np.arange(len(lengths)), lengths)


def _ends(ring: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each ring begins, and where its last member is."""
    return np.flatnonzero(np.diff(ring, prepend=-1)), np.flatnonzero(np.diff(ring, append=-1))


def _areas(corners: NDArray[np.int64], ring: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Twice the signed area of each ring: above 0 if that lies to the right of the way."""
    first, last = _ends(ring)
    after = np.arange(1, len(ring) + 1)
    after[last] = first
    x, y = corners.T
    twice = np.zeros(n, dtype=np.int64)
    np.add.at(twice, ring, x * y[after] - x[after] * y)
    return twice
