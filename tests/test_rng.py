from __future__ import annotations

import numpy as np
import pytest

from sphisto._rng import seed_of


def test_seeds():
    assert seed_of(7) == seed_of(np.int64(7)) == 7
    assert seed_of(np.random.default_rng(3)) == seed_of(np.random.default_rng(3))
    assert isinstance(seed_of(None), int)
    with pytest.raises(ValueError, match="Found rng=-1; expected a non-negative integer"):
        seed_of(-1)


def test_large_seeds_stand_for_such_as_all_libraries_take(caplog):
    large = [2**32, 2**32 + 1, 2**33, 2**128 + 5]
    with caplog.at_level("INFO", logger="sphisto"):
        seeds = [seed_of(each) for each in large]
    assert seeds == [seed_of(each) for each in large]
    assert len(set(seeds)) == len(large)
    assert all(0 <= seed < 2**32 and seed_of(seed) == seed for seed in seeds)
    assert f"rng={2**33} is larger" in caplog.text
    assert seed_of(2**32 - 1) == 2**32 - 1
