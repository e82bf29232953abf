from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sphisto.core.rounding import round_mantissa


@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32, min_value=2.0**-100, max_value=2.0**100)))
def test_rounding_keeps_twelve_bits(values):
    assert (np.abs(round_mantissa(values) / values - 1) <= 2.0**-13).all()


def test_rounding_keeps_special_values():
    special = np.array([np.nan, 0.0, np.inf, -np.inf, -1.5], dtype=np.float32)
    np.testing.assert_array_equal(round_mantissa(special), special)
