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
