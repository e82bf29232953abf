from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sphisto.core.places import Places
from sphisto.field.config import FieldConfig
from sphisto.field.windows import around, everywhere, one_window, windows_over


@given(st.integers(1, 200), st.floats(0.5, 40), st.floats(0, 30), st.floats(0, 3))
def test_each_place_lies_in_one_core_and_weights_sum_to_one(n, side, extent, blend):
    centers = np.random.default_rng(n).uniform(0, 1, (n, 2)) * [extent, extent / 3] + 100
    windows = windows_over(centers, side, 2.0, blend)
    numbers = windows.core_of(centers)
    assert ((numbers >= 0) & (numbers < len(windows))).all()
    points = np.concatenate([centers, centers + 50, centers - 50])  # beyond all cores, too
    total = np.zeros(len(points))
    for number, rows, weight in windows.shares(points):
        assert (weight > 0).all()
        total[rows] += weight
        low, high = windows.box(number)
        here = points[rows[rows < n]]
        if blend <= windows.halo:  # what counts lies within the halo
            assert ((here >= low - 1e-6) & (here <= high + 1e-6)).all()
    np.testing.assert_allclose(total, 1)


def test_weights_change_without_a_step():
    centers = np.array([[0.0, 0.0], [30.0, 40.0]])
    windows = windows_over(centers, 10.0, 5.0, 2.0)
    line = np.stack([np.linspace(0, 30, 3_001), np.linspace(0, 40, 3_001)], axis=1)
    weights = np.zeros((len(windows), len(line)))
    for number, rows, weight in windows.shares(line):
        weights[number, rows] = weight
    assert np.abs(np.diff(weights, axis=1)).max() < 0.02


def test_cores_are_no_longer_than_asked_for():
    windows = windows_over(np.array([[0.0, 0.0], [95.0, 41.0]]), 16.0, 8.0, 2.0)
    assert windows.shape == (6, 3)
    assert (windows.side <= 16).all()
    low, high = windows.box(0)
    np.testing.assert_allclose([low, high], [[-8, -8], windows.side + 8])


@pytest.mark.parametrize("windows", [everywhere(), one_window((0, 0), (4, 4), 1.0)])
def test_one_window_counts_everywhere(windows):
    ((number, rows, weight),) = windows.shares(np.array([[1.0, 2.0], [900.0, -3.0]]))
    assert (number, list(rows), list(weight)) == (0, [0, 1], [1, 1])


def test_around_a_crop_few_places_are_solved_together_and_many_in_windows():
    places, config = Places(np.argwhere(np.ones((60, 60), bool)).astype(float)), FieldConfig()
    low, high = np.array([0.0, 0.0]), np.array([16.0, 16.0])
    assert len(around(low, high, places, 1.0, config)) == 1
    many = around(low, high + 40, places, 1.0, config)
    assert many.shape == (4, 4)
    assert many.halo == config.halo
