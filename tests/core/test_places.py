from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sphisto.core.places import Places

corner = st.tuples(st.floats(-5, 15), st.floats(-5, 15))


@given(st.integers(0, 60), corner, corner)
def test_places_in_a_box_are_those_that_comparing_all_of_them_finds(n, one, other):
    centers = np.random.default_rng(n).integers(0, 11, (n, 2)).astype(float)  # many lie on a border
    low, high = np.minimum(one, other), np.maximum(one, other)
    expected = np.flatnonzero(((centers >= low) & (centers <= high)).all(axis=1))
    np.testing.assert_array_equal(Places(centers).inside(low, high), expected)


def test_borders_that_are_whole_numbers_belong_to_the_box():
    centers = np.stack(np.mgrid[:5, :5], axis=-1).reshape(-1, 2).astype(float)
    found = Places(centers).inside((1, 0), (2, 4))
    np.testing.assert_array_equal(found, np.arange(5, 15))


def test_a_box_without_end_holds_all_places():
    np.testing.assert_array_equal(Places(np.zeros((4, 2))).inside((-np.inf, -np.inf), (np.inf, np.inf)), np.arange(4))
