from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.footprint import unit_square
from sphisto.core.squares import in_squares


@pytest.mark.parametrize("turn", [0.0, 4.0, -3.0])
@pytest.mark.parametrize("warp", [0.0, 0.2])
def test_squares_hold_rows_and_columns_of_a_lattice(rng, turn, warp):
    """Also of one that is turned, slightly warped and not full."""
    place = np.argwhere(rng.random((23, 17)) < 0.8)
    corners = unit_square(turn)
    steps = np.stack([corners[3] - corners[0], corners[1] - corners[0]])  # of a row and of a column
    centers = place @ steps * 3.7 + (100, -50) + rng.uniform(-warp, warp, place.shape)
    found = in_squares(centers, 3.7, 4, turn=turn)
    expected = (place // 4) @ (100, 1)
    np.testing.assert_array_equal(np.unique(expected, return_inverse=True)[1], found)


def test_no_places_lie_in_no_squares():
    assert len(in_squares(np.zeros((0, 2)), 1.0, 4)) == 0
