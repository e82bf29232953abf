"""Area-true rasterisation: which share of each pixel a polygon covers, exactly.

Each edge is cut where it crosses pixel borders. A piece adds its signed height to the pixel it lies in, split by how
far right it lies; running sums along the rows then give the covered share of every pixel. It is the signed-area
accumulation that font rasterisers use for exact anti-aliasing, here for any number of polygons at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def cover(edges: Floats, region: Ints, n_regions: int, *, negligible: float = 1e-8) -> tuple[Ints, Ints, Ints, Floats]:
    """Return the covered pixels of regions given by their closed outlines.

    Parameters
    ----------
    edges
        (e, 4) edges as (y0, x0, y1, x1) in pixels. The edges of a region form closed rings; holes run the other way
        round.
    region
        (e,) index of the region each edge belongs to, ascending.
    n_regions
        Number of regions; those without edges cover nothing.
    negligible
        Covered shares up to this are rounding errors of the running sums.

    Returns
    -------
    region, y, x
        (nnz,) region and pixel of each covered pixel, ordered by region, then y, then x. Pixels may lie outside any
        image, also at negative coordinates.
    share
        (nnz,) covered share of that pixel, 0 to 1.
    """
    if len(edges) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty, np.zeros(0)
    top, left, height, width = _boxes(edges, region, n_regions)
    sizes = height * width
    offset = np.concatenate([[0], np.cumsum(sizes)])
    pieces, owner = _cut(edges, region)
    y = np.floor((pieces[:, 0] + pieces[:, 2]) / 2).astype(np.int64)
    middle = (pieces[:, 1] + pieces[:, 3]) / 2
    x = np.floor(middle).astype(np.int64)
    rise = pieces[:, 2] - pieces[:, 0]
    cell = offset[owner] + (y - top[owner]) * width[owner] + (x - left[owner])
    right = rise * (middle - x)
    total = int(offset[-1])
    signed = np.bincount(cell, rise - right, minlength=total) + np.bincount(cell + 1, right, minlength=total)[:total]
    # every row of every box sums to zero, so one running sum over all of them does not leak from row to row
    share = np.abs(np.cumsum(signed))
    kept = np.flatnonzero(share > negligible)
    of = np.repeat(np.arange(n_regions), sizes)[kept]
    local = kept - offset[of]
    return of, local // width[of] + top[of], local % width[of] + left[of], np.minimum(share[kept], 1.0)


def ring_edges(rings: Floats) -> Floats:
    """Turn (n, m, 2) closed rings of m (y, x) corners into (n * m, 4) edges."""
    return np.concatenate([rings, np.roll(rings, -1, axis=1)], axis=2).reshape(-1, 4)


def _boxes(edges: Floats, region: Ints, n_regions: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Bounding boxes (top, left, height, width) in pixels, one column wider than the region."""
    starts = np.flatnonzero(np.diff(region, prepend=-1))
    present = region[starts]
    boxes = [np.zeros(n_regions, dtype=np.int64) for _ in range(4)]
    for axis in (0, 1):
        low = np.floor(np.minimum.reduceat(np.minimum(edges[:, axis], edges[:, axis + 2]), starts))
        high = np.floor(np.maximum.reduceat(np.maximum(edges[:, axis], edges[:, axis + 2]), starts))
        boxes[axis][present] = low.astype(np.int64)
        boxes[axis + 2][present] = (high - low).astype(np.int64) + 1 + axis
    return boxes[0], boxes[1], boxes[2], boxes[3]


def _cut(edges: Floats, region: Ints) -> tuple[Floats, Ints]:
    """Cut edges at whole y and whole x: pieces (p, 4) that each lie in one pixel, and their regions (p,)."""
    owner, at = [np.arange(len(edges))] * 2, [np.zeros(len(edges)), np.ones(len(edges))]
    for axis in (0, 1):
        start, end = edges[:, axis], edges[:, axis + 2]
        first = np.floor(np.minimum(start, end)) + 1
        crossings = np.maximum(np.ceil(np.maximum(start, end)) - first, 0).astype(np.int64)
        edge = np.repeat(np.arange(len(edges)), crossings)
        nth = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings)
        owner.append(edge)
        at.append((first[edge] + nth - start[edge]) / (end - start)[edge])
    edge, t = np.concatenate(owner), np.clip(np.concatenate(at), 0, 1)
    order = np.lexsort((t, edge))
    edge, t = edge[order], t[order]
    same = edge[1:] == edge[:-1]
    piece, t0, t1 = edge[:-1][same], t[:-1][same], t[1:][same]
    kept = t1 > t0
    piece, t0, t1 = piece[kept], t0[kept, None], t1[kept, None]
    start, step = edges[piece, :2], edges[piece, 2:] - edges[piece, :2]
    return np.concatenate([start + t0 * step, start + t1 * step], axis=1), region[piece]
