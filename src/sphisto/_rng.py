"""Randomness: whatever a user passes becomes one integer seed, which can be written down and repeated."""

from __future__ import annotations

import numpy as np

from sphisto._settings import logger

RNG = int | np.random.Generator | None

_TOO_LARGE = 2**32  # for the legacy generators of numpy, which scikit-learn and scanpy use


def seed_of(rng: RNG) -> int:
    """Turn an integer, a Generator or ``None`` (a new seed each time) into a seed below 2**32."""
    if isinstance(rng, int | np.integer) and rng >= 0:
        return _drawn(int(rng)) if rng >= _TOO_LARGE else int(rng)
    if rng is None or isinstance(rng, np.random.Generator):
        return int(np.random.default_rng(rng).integers(2**31))
    msg = f"Found rng={rng!r}; expected a non-negative integer, a numpy Generator or None."
    raise ValueError(msg)


def _drawn(large: int) -> int:
    """Return the seed that stands for one of 2**32 or more, always the same."""
    seed = int(np.random.SeedSequence(large).generate_state(1)[0])
    logger.info("rng=%d is larger than all libraries take: the seed %d, drawn from it, takes its place.", large, seed)
    return seed
