from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.core.footprint import Footprint
from sphisto.core.pooling import TilePool
from sphisto.core.tiles import plan_tiles

SHAPE = (40, 50)


def dense(footprint: Footprint) -> np.ndarray:
    """Regions x pixels, written out by a loop over the entries."""
    weights = np.zeros((len(footprint), *footprint.shape))
    for region in range(len(footprint)):
        for entry in range(footprint.indptr[region], footprint.indptr[region + 1]):
            weights[region, footprint.y[entry], footprint.x[entry]] += footprint.weight[entry]
    return weights


def sampled(inside, fine: int = 20) -> np.ndarray:
    """Covered share of each pixel, by counting points of a fine lattice."""
    y, x = ((np.mgrid[: SHAPE[0] * fine, : SHAPE[1] * fine] + 0.5) / fine).reshape(2, -1)
    return inside(y, x).reshape(SHAPE[0], fine, SHAPE[1], fine).mean(axis=(1, 3))


places = st.floats(-6, 56, allow_nan=False)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(places, places, st.floats(0.2, 9)), min_size=1, max_size=3))
def test_discs_cover_the_share_that_counting_points_finds(discs):
    centers = np.array([(y, x) for y, x, _ in discs])
    radius = np.array([r for _, _, r in discs])
    footprint = Footprint.from_discs(SHAPE, centers, radius)
    np.testing.assert_allclose(footprint.area, np.pi * radius**2, rtol=1e-6)
    for weights, (y0, x0), r in zip(dense(footprint), centers, radius, strict=True):
        expected = sampled(lambda y, x, y0=y0, x0=x0, r=r: (y - y0) ** 2 + (x - x0) ** 2 <= r**2)
        assert np.abs(weights - expected).max() < 0.05


def test_squares_cover_exactly():
    footprint = Footprint.from_squares(SHAPE, [(10.25, 20.5)], 3.5)  # rows 8.5 to 12, columns 18.75 to 22.25
    weights = dense(footprint)[0]
    rows = np.clip(np.minimum(np.arange(40) + 1, 12) - np.maximum(np.arange(40), 8.5), 0, 1)
    columns = np.clip(np.minimum(np.arange(50) + 1, 22.25) - np.maximum(np.arange(50), 18.75), 0, 1)
    np.testing.assert_allclose(weights, rows[:, None] * columns, atol=1e-6)


@pytest.mark.parametrize("turn", [0.0, 0.4, 7.0, 30.0, 45.0, -20.0])
@pytest.mark.parametrize("side", [0.6, 4.0, 4.3])
def test_abutting_squares_tile_the_plane_however_the_grid_is_turned(turn, side):
    """Bins that cover a fraction of a pixel weigh by it: inside the grid every pixel is covered once, in all."""
    n = int(70 / side)
    row, col = np.mgrid[:n, :n].reshape(2, -1) - (n - 1) / 2
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    centers = np.array([20.3, 25.1]) + side * np.stack([cos * row + sin * col, cos * col - sin * row], axis=1)
    squares = Footprint.from_squares(SHAPE, centers, side, turn=turn)
    covered = np.zeros(SHAPE)
    np.add.at(covered, (squares.y, squares.x), squares.weight)
    np.testing.assert_allclose(squares.area, side**2, rtol=1e-6)
    whole = ((centers > side) & (centers < np.array(SHAPE) - side)).all(axis=1)
    np.testing.assert_allclose(squares.covered[whole], side**2, rtol=1e-5)
    np.testing.assert_allclose(covered[10:30, 15:35], 1, atol=1e-5)


def test_a_turned_square_is_the_polygon_of_its_corners():
    angle, centre, side = np.deg2rad(25.0), np.array([20.2, 24.7]), 11.0
    along = side / 2 * np.array([np.sin(angle), np.cos(angle)])  # (y, x): from x towards y
    across = side / 2 * np.array([np.cos(angle), -np.sin(angle)])
    ring = centre + np.array([-along - across, along - across, along + across, -along + across])
    expected = Footprint.from_polygons(SHAPE, [[ring]])
    np.testing.assert_allclose(
        dense(Footprint.from_squares(SHAPE, [centre], side, turn=25.0)), dense(expected), atol=1e-6
    )


def test_polygons_with_holes_and_concave_corners_cover_exactly():
    outer = np.array([(2, 2), (2, 30), (20, 30), (20, 16), (10, 16), (10, 2)], dtype=float)  # an L
    hole = np.array([(4.5, 4.5), (8, 4.5), (8, 12), (4.5, 12)])
    footprint = Footprint.from_polygons(SHAPE, [[outer, hole], [outer + 0.5]])
    expected = sampled(
        lambda y, x: (
            ((y >= 2) & (y < 20) & (x >= 2) & (x < 30) & ~((y >= 10) & (x < 16)))
            & ~((y >= 4.5) & (y < 8) & (x >= 4.5) & (x < 12))
        )
    )
    np.testing.assert_allclose(dense(footprint)[0], expected, atol=1e-6)
    assert footprint.area[1] == pytest.approx(8 * 28 + 10 * 14)
    assert footprint.area[0] == pytest.approx(footprint.area[1] - 3.5 * 7.5)


def test_labels_keep_the_order_of_the_ids():
    labels = np.zeros(SHAPE, dtype=int)
    labels[1:3, 1:4] = 7
    labels[10:12, 5] = 2
    footprint = Footprint.from_labels(labels, [7, 5, 2])
    np.testing.assert_array_equal(footprint.area, [6, 0, 2])
    np.testing.assert_array_equal(dense(footprint)[0], labels == 7)
    np.testing.assert_array_equal(dense(footprint)[2], labels == 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 12))
def test_pool_is_the_brute_force_sum(seed, n):
    rng = np.random.default_rng(seed)
    footprint = Footprint.from_discs(SHAPE, rng.uniform(-8, 58, (n, 2)), rng.uniform(0.3, 8, n))
    raster = rng.normal(size=(3, *SHAPE))
    raster[:, rng.random(SHAPE) < 0.1] = np.nan
    weights = dense(footprint)
    expected = np.zeros((n, 3))
    for region in range(n):
        for channel in range(3):
            for y in range(SHAPE[0]):
                for x in range(SHAPE[1]):
                    value = raster[channel, y, x]
                    expected[region, channel] += 0 if np.isnan(value) else weights[region, y, x] * value
    np.testing.assert_allclose(footprint.pool(raster), expected, atol=1e-5)
    np.testing.assert_allclose(footprint.covered, weights.sum(axis=(1, 2)), atol=1e-4)


def test_pooling_window_by_window_is_pooling_at_once(rng):
    footprint = Footprint.from_discs(SHAPE, rng.uniform(-4, 54, (20, 2)), 6.4)
    raster = rng.random((2, *SHAPE))
    pool = TilePool(footprint, 2)
    for tile in plan_tiles(SHAPE, size=16):
        pool.add(tile.core, raster[:, *tile.core.slices])
    np.testing.assert_allclose(pool.sums, footprint.pool(raster), atol=1e-9)
    seen = footprint.covered > 0
    np.testing.assert_allclose(pool.means()[seen], footprint.mean(raster)[seen])
    assert (pool.means()[~seen] == 0).all()


def test_selected_regions_are_the_same_regions(rng):
    footprint = Footprint.from_discs(SHAPE, rng.uniform(0, 40, (6, 2)), 3.0)
    np.testing.assert_array_equal(dense(footprint.select(np.array([4, 0, 4]))), dense(footprint)[[4, 0, 4]])


def test_the_mean_of_a_ramp_is_the_centre():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    centers = np.array([[12.3, 20.7], [30.0, 8.25]])
    footprint = Footprint.from_discs(SHAPE, centers, 5.5)
    # pixels at the edge speak for their covered part by their middle: some thousandths of a px
    np.testing.assert_allclose(footprint.mean(np.stack([y, x])), centers, atol=5e-3)
    np.testing.assert_allclose(footprint.centroids(), centers, atol=5e-3)


def test_regions_in_chunks_are_the_same(rng):
    centers = rng.uniform(0, 40, (11, 2))
    whole = Footprint.from_squares(SHAPE, centers, 2.5)
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    parts = Footprint._from_shifted(SHAPE, centers, 2.5, corners, at_once=3)
    np.testing.assert_array_equal(dense(parts), dense(whole))


def test_regions_without_size_are_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Footprint.from_discs(SHAPE, [(3, 3)], 0.0)
