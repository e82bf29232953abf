from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid


def test_points_go_to_full_resolution_and_back():
    grid = Grid(10, 20, 4.0, (5.0, 6.0))
    points = np.array([[1.0, 2.0], [9.5, 0.0]])
    np.testing.assert_allclose(grid.to_fullres(points), [[5, 12], [47.5, 0]])
    np.testing.assert_allclose(grid.from_fullres(grid.to_fullres(points)), points)


def test_a_resized_grid_covers_the_same_area():
    grid = Grid(101, 200, 4.0, (5.0, 5.0))
    half = grid.resized(50, 100)
    np.testing.assert_allclose(half.to_fullres(np.array([[50, 100]])), grid.to_fullres(np.array([[101, 200]])))
    assert half.um_per_px == pytest.approx(4 * np.sqrt(101 / 50 * 2))
    assert half.fullres_um_per_px == pytest.approx(grid.fullres_um_per_px)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 1.0), "no pixels"),
        ((5, 5, -1.0), "Found um_per_px=-1.0; expected a finite number above 0"),
        ((5, 5, 1.0, (0.0, 1.0)), "scale"),
    ],
)
def test_impossible_grids_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)
