"""Which of many spots: single ones to hold out, whole blocks of neighbours, some that are spread evenly; and counts in halves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def random_spots(n: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw single spots.

    ``share`` is that of the n spots to hold out, above 0 and below 1.

    Returns
    -------
    (n,) True where a spot is held out: the whole number of spots nearest to the share, at least one.
    """
    _check(n, share)
    held_out = np.zeros(n, dtype=bool)
    held_out[rng.permutation(n)[: max(round(share * n), 1)]] = True
    return held_out


def evenly_spread(n: int, most: int) -> NDArray[np.int64]:
    """(m,) numbers of at most that many of n, the first and the last among them."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def at_most(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(m,) all of some (n,) rows, or that many of them, drawn at random, in their order."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def spot_blocks(
    centers: NDArray[np.floating], pitch: float, share: float, rng: np.random.Generator, *, pitches: float = 5.0
) -> NDArray[np.bool_]:
    """Draw square blocks of about 5 x 5 spots.

    ``pitches`` is the side of a block: the spot in its middle has no neighbour left. Chance decides where blocks begin,
    and which are drawn.

    Returns
    -------
    (n,) True where a spot is held out: as many whole blocks as come nearest to the share, at least one.
    """
    _check(len(centers), share)
    side = pitches * pitch
    corner = centers.min(axis=0) - rng.random(2) * side
    _, block = np.unique(np.floor((centers - corner) / side).astype(np.int64), axis=0, return_inverse=True)
    block = block.reshape(-1)
    sizes = np.bincount(block)
    if len(sizes) == 1:
        msg = (
            f"A block of {side:g} ({pitches:g} pitches) holds all {len(centers)} spots; expected a section of several blocks. "
            "Hold out single spots instead."
        )
        raise ValueError(msg)
    order = rng.permutation(len(sizes))
    reached = np.cumsum(sizes[order])[:-1]
    drawn = order[: 1 + int(np.abs(reached - share * len(centers)).argmin())]
    return np.isin(block, drawn)


def split_counts(
    values: sparse.csr_array, seed: int | np.random.Generator
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Divide counts at random into two halves, each doubled: two measurements of the same with twice the noise.

    The same counts give the same halves, in whatever order they are stored.
    """
    values = values if values.has_sorted_indices else values.sorted_indices()
    first = np.random.default_rng(seed).binomial(np.rint(values.data).astype(np.int64), 0.5).astype(np.float32)
    one, other = (
        sparse.csr_array((2 * data, values.indices, values.indptr), shape=values.shape)
        for data in (first, values.data - first)
    )
    return one, other


def _check(n: int, share: float) -> None:
    if not 0 < share < 1:
        msg = f"The share of spots to hold out is {share:g}; expected a number above 0 and below 1."
        raise ValueError(msg)
    if n < 2:
        msg = f"Found {n} spot(s); expected at least two, so that one can be held out."
        raise ValueError(msg)
