from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sphisto.core.tiles import Window
from sphisto.core.upsample import as_maps, at_pixels, at_points, block_middles, blocks_around, middles_around


def test_middles_and_maps_go_row_by_row():
    window = Window(8, -4, 16, 8)
    middles = block_middles(window, 4)
    np.testing.assert_array_equal(middles[:4], [[10, -2], [10, 2], [10, 6], [14, -2]])
    maps = as_maps(middles, window, 4)
    assert maps.shape == (2, 2, 3)
    np.testing.assert_array_equal(maps[0], [[10] * 3, [14] * 3])


@pytest.mark.parametrize("shape", [(6, 5), (1, 4), (1, 1)])
def test_points_are_interpolated_as_scipy_does_and_the_border_goes_on(rng, shape):
    maps, points = rng.random((3, *shape)), rng.uniform(-20, 60, (40, 2))
    at = (points - (3, -5)).T / 8 - 0.5
    expected = np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in maps], axis=1)
    np.testing.assert_allclose(at_points(maps, points, (3, -5), 8), expected, rtol=1e-9, atol=1e-12)


def test_points_lie_where_the_middles_around_them_weigh(rng):
    points = rng.uniform(-20, 60, (40, 2))
    middles, weights = middles_around(points, 8)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(np.einsum("mc,mcd->md", weights, middles), points)
    np.testing.assert_array_equal(middles % 8, 4)
    assert (abs(middles - points[:, None]) <= 8).all()


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_pixels_of_a_window_are_points_at_their_middles(rng, stride):
    window = Window(5, 9, 30, 41)
    blocks = blocks_around(window, stride)
    maps = rng.random((2, (blocks.y1 - blocks.y0) // stride, (blocks.x1 - blocks.x0) // stride)).astype(np.float32)
    corner = (blocks.y0, blocks.x0)
    y, x = np.mgrid[window.y0 : window.y1, window.x0 : window.x1].reshape(2, -1)
    expected = at_points(maps, np.stack([y, x], axis=1) + 0.5, corner, stride).T.reshape(2, *window.shape)
    np.testing.assert_allclose(at_pixels(maps, window, corner, stride), expected, rtol=1e-4, atol=1e-6)
    assert blocks.y0 % stride == 0
    assert blocks.y0 <= window.y0 - stride / 2


def test_the_network_interpolates_likewise(rng):
    """Its arithmetic is torch's; what is read off a posterior without it must be the same."""
    import torch

    from sphisto.networks.interpolation import drawn_out, drawn_out_at, values_at

    maps = rng.random((2, 9, 7)).astype(np.float32)
    drawn = drawn_out(torch.from_numpy(maps[None]), 8, 16)[0].numpy()
    found = at_pixels(maps, Window(16, 16, 56, 40), (0, 0), 8)
    np.testing.assert_allclose(drawn, found, rtol=1e-5)
    several = torch.from_numpy(rng.random((3, 2, 9, 7)).astype(np.float32))
    pixels = torch.from_numpy(rng.integers(0, 3 * 72 * 56, 500))
    expected = values_at(drawn_out(several, 8), pixels)
    torch.testing.assert_close(drawn_out_at(several, pixels, 8), expected, rtol=1e-5, atol=1e-6)
