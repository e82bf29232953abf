"""Randomness: whatever a user passes becomes one integer seed, which can be written down and repeated."""

from __future__ import annotations

import numpy as np

RNG = int | np.random.Generator | None


def seed_of(rng: RNG) -> int:
    """Turn an integer, a Generator or ``None`` (a new seed each time) into a seed."""
    if isinstance(rng, int | np.integer) and rng >= 0:
        return int(rng)
    if rng is None or isinstance(rng, np.random.Generator):
        return int(np.random.default_rng(rng).integers(2**31))
    msg = f"Found rng={rng!r}; expected a non-negative integer, a numpy Generator or None."
    raise ValueError(msg)
