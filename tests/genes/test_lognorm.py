from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.genes.lognorm import expected_lognorm

DRAWS = 200_000
SHARES = np.array([0.001, 0.02, 0.1, 0.4, 0.5, 0.5])
SCATTER = np.array([0.0, 3.0, 0.5, 1.0, 0.0, 8.0])


def drawn(share, scatter, total, target_sum):
    """Mean of log-normalised counts that are drawn, and its standard error."""
    rng, mean = np.random.default_rng(0), share * total
    rate = np.full(DRAWS, mean) if scatter == 0 else rng.gamma(1 / scatter, scatter * mean, DRAWS)
    y, rest = rng.poisson(rate), rng.poisson(total - mean, DRAWS)
    found = np.log1p(np.divide(target_sum * y, y + rest, where=y > 0, out=np.zeros(DRAWS)))
    return found.mean(), found.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize("target_sum", [100.0, 3000.0])
@pytest.mark.parametrize("total", [2.0, 20.0, 300.0, 20_000.0])
def test_it_is_the_mean_of_what_is_drawn(total, target_sum):
    found = expected_lognorm((SHARES * total)[None], SCATTER, np.array([total]), target_sum)[0]
    for share, scatter, value in zip(SHARES, SCATTER, found, strict=True):
        expected, error = drawn(share, scatter, total, target_sum)
        assert value == pytest.approx(expected, abs=5 * error, rel=0.005)


def test_the_logarithm_of_the_mean_is_another_number():
    found = expected_lognorm(np.array([[0.1]]), np.zeros(1), np.array([5.0]), 3000.0)[0, 0]
    assert found < 0.2 * np.log1p(3000 * 0.1 / 5)


def test_of_many_counts_it_is_the_logarithm():
    mean = np.array([[1e5, 3e5]])
    found = expected_lognorm(mean, np.zeros(2), np.array([1e6]), 1e4)
    np.testing.assert_allclose(found, np.log1p(1e4 * mean / 1e6), rtol=1e-3)


def test_sum_and_approximations_meet():
    """On both sides of the count up to which all counts are summed."""
    mean = np.array([[19.999], [20.001]])
    for scatter in (0.0, 0.04, 0.06, 0.3, 2.0, 10.0):
        below, above = expected_lognorm(mean, np.array([scatter]), np.array([400.0, 400.0]), 3000.0)[:, 0]
        assert above == pytest.approx(below, rel=0.005)


def test_nothing_and_what_is_not_known():
    mean = np.array([[0.0, np.nan, 1.0]])
    found = expected_lognorm(mean, np.array([np.nan, 1.0, np.nan]), np.array([1.0]), 100.0)[0]
    assert found[0] == 0
    assert np.isnan(found[1])
    assert 0 < found[2] < np.log1p(100)


@settings(deadline=None)
@given(st.floats(1e-6, 1e4), st.floats(1e-6, 1e4), st.floats(0, 10), st.floats(1, 1e5))
def test_it_lies_between_nothing_and_all_and_is_less_where_counts_scatter(mean, rest, scatter, target_sum):
    pair = expected_lognorm(np.full((1, 2), mean), np.array([0.0, scatter]), np.array([mean + rest]), target_sum)[0]
    assert (pair >= 0).all()
    assert (pair <= np.log1p(target_sum) + 0.2).all()
    assert pair[1] <= pair[0] * 1.01 + 1e-6
