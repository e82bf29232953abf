from __future__ import annotations

import numpy as np
import pytest

from sphisto.slide.config import ArrayConfig
from sphisto.slide.lattice import (
    are_bins,
    fit_lattice,
    hexagonal_pitch,
    is_square,
    lie_on_lattice,
    positions_on_array,
)

CONFIG = ArrayConfig()


def square(n: int = 10, side: float = 30.0) -> np.ndarray:
    return side * np.mgrid[:n, :n].reshape(2, -1).T


def hexagonal(n: int = 10, pitch: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    row, column = np.mgrid[:n, :n].reshape(2, -1)
    steps = np.stack([row, 2 * column + row % 2], axis=1).astype(float)
    return steps * [pitch * np.sqrt(3) / 2, pitch / 2], steps


def turned(centers: np.ndarray, angle: float) -> np.ndarray:
    return centers @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_the_unit_steps_of_an_array_are_measured_in_px():
    centers, steps = hexagonal()
    lattice = fit_lattice(turned(centers, 0.3) + [100.0, 50.0], steps, CONFIG)
    assert lattice.row_px == pytest.approx(30 * np.sqrt(3) / 2)
    assert lattice.col_px == pytest.approx(15)
    assert lattice.checkerboard
    assert lattice.most == (9, 19)
    assert lattice.has_proportions_of(np.sqrt(3), 1, CONFIG.tolerance)
    assert not lattice.has_proportions_of(1, 1, CONFIG.tolerance)


def test_centres_scattered_more_than_the_setting_allows_are_not_on_their_positions(rng):
    centers, steps = hexagonal()
    scattered = centers + rng.normal(0, 1.5, centers.shape)  # a seventh of a column's 15 px along both axes
    assert fit_lattice(scattered, steps, CONFIG) is not None
    assert fit_lattice(scattered, steps, ArrayConfig(scatter=0.1)) is None


def test_positions_that_are_no_whole_numbers_are_none_on_an_array(rng):
    row, column = rng.uniform(0, 10, (2, 20))
    assert positions_on_array(row, column, CONFIG) is None
    assert positions_on_array(np.rint(row), np.arange(20), CONFIG).shape == (20, 2)


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_arrangements_are_distinguished_however_they_are_turned(angle):
    squares, (hexagons, _) = turned(square(), angle), hexagonal()
    hexagons = turned(hexagons, angle)
    assert hexagonal_pitch(hexagons, CONFIG) == pytest.approx(30)
    assert hexagonal_pitch(squares, CONFIG) is None
    assert is_square(squares, 30.0, CONFIG)
    assert not is_square(hexagons, 30.0, CONFIG)
    assert are_bins(squares, 30.0, CONFIG)
    assert not are_bins(hexagons, 30.0, CONFIG)
    assert lie_on_lattice(hexagons, 30.0, hexagonal=True, config=CONFIG)


def test_fewer_spots_than_the_setting_asks_for_show_no_arrangement():
    few = hexagonal(3)[0]
    assert hexagonal_pitch(few, ArrayConfig(min_spots=len(few) + 1)) is None
