"""The oracle is the footprint of the whole slide, drawn at once."""

from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.pooling import TilePool
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window, plan_tiles
from sphisto.slide.slide import Slide

SHAPE = (70, 90)


@pytest.fixture(params=[("disc", 0.0), ("square", 0.0), ("square", 40.0)], ids=["disc", "square", "turned square"])
def spots(request, rng):
    """Some lie at the border, some beyond it."""
    return LazyFootprint(Spot(21.0, *request.param), Grid(*SHAPE, 2.0), rng.uniform(-8, 95, (90, 2)))


@pytest.fixture
def whole(spots):
    return spots.spot.footprint(SHAPE, spots.centers, 2.0)


@pytest.fixture
def raster(rng):
    raster = rng.random((11, *SHAPE))
    raster[:, 30:40] = np.nan
    return raster


def same(found, expected):
    assert found.shape == expected.shape
    for name in ("indptr", "y", "x"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.weight, expected.weight, atol=1e-6)
    np.testing.assert_allclose(found.area, expected.area, rtol=1e-6)


def test_a_window_of_it_is_that_of_the_whole(spots, whole):
    for window in (Window(0, 0, *SHAPE), Window(10, 20, 35, 40), Window(60, 0, 70, 7)):
        same(spots.within(window), whole.within(window))


def test_some_of_it_are_some_of_the_whole(spots, whole):
    rows = np.array([40, 3, 3, 17])
    same(spots.select(rows).drawn(), whole.select(rows))
    parts = list(spots.parts(at_once=300))
    assert 10 < len(parts) < 90
    np.testing.assert_allclose(np.concatenate([part.weight for part in parts]), whole.weight, atol=1e-6)


def test_what_is_covered_and_means_are_those_of_the_whole(spots, whole, raster):
    np.testing.assert_allclose(spots.covered, whole.covered, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(spots.covered > 0, whole.covered > 0)
    assert 5 < (whole.covered == 0).sum() < 60
    np.testing.assert_allclose(spots.mean(raster, tile=16), whole.mean(raster), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(spots.mean(raster[0], tile=16), whole.mean(raster[0]), rtol=1e-5, atol=1e-9)


def test_a_raster_that_passes_by_is_pooled_as_over_the_whole(spots, whole, raster):
    pool, expected = TilePool(spots, 11), TilePool(whole, 11)
    for tile in plan_tiles(SHAPE, size=16):
        pool.add(tile.core, raster[:, *tile.core.slices])
        expected.add(tile.core, raster[:, *tile.core.slices])
    np.testing.assert_allclose(pool.sums, whole.pool(raster), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pool.means(), expected.means(), rtol=1e-5, atol=1e-9)


def test_a_slide_without_spots_has_no_means():
    slide = Slide("s", None, Grid(*SHAPE, 2.0), np.ones(SHAPE, dtype=bool), Spot(21.0, "disc"))
    pool = TilePool(slide.footprint(), 2)
    for tile in plan_tiles(SHAPE, size=64):
        pool.add(tile.core, np.ones((2, *tile.core.shape)))
    assert pool.means().shape == (0, 2)
    assert slide.footprint().mean(slide.tissue).shape == (0, 1)
