from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.mask import Mask
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window, read_window


@pytest.fixture
def blocks(rng):
    return rng.random((7, 9)) < 0.5


@pytest.fixture
def mask(blocks):
    """Blocks of 4 px; the last ones continue over some px that fill none."""
    return Mask(blocks, (30, 38), (4, 4))


@pytest.fixture
def whole(blocks):
    return np.pad(np.kron(blocks, np.ones((4, 4), dtype=bool)), ((0, 2), (0, 2)), mode="edge")


def test_it_is_read_as_the_array_of_all_pixels(mask, whole, rng):
    np.testing.assert_array_equal(np.asarray(mask), whole)
    assert np.asarray(mask).dtype == bool
    assert np.asarray(mask, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(mask[3:17, 20:38], whole[3:17, 20:38])
    np.testing.assert_array_equal(mask[1::3, ::5], whole[1::3, ::5])
    y, x = rng.integers(0, 30, 50), rng.integers(0, 38, 50)
    np.testing.assert_array_equal(mask[y, x], whole[y, x])
    beyond = Window(-6, 25, 20, 50)
    np.testing.assert_array_equal(read_window(mask, beyond), read_window(whole, beyond))
    assert mask.sum() == whole.sum()


def test_blocks_need_not_be_of_whole_pixels(blocks):
    mask = Mask(blocks, (18, 24), (18 / 7, 24 / 9))
    y, x = np.mgrid[:18, :24] + 0.5
    np.testing.assert_array_equal(np.asarray(mask), blocks[(y * 7 / 18).astype(int), (x * 9 / 24).astype(int)])


def test_spots_add_the_blocks_that_they_touch(mask, whole):
    centers = np.array([[9.0, 9.0], [29.6, 20.0], [-50.0, 3.0]])
    spots = LazyFootprint(Spot(10.0), Grid(30, 38, 2.0), centers)
    added = mask.with_spots(spots)
    touched = np.zeros((8, 10), dtype=bool)
    for centre in centers:
        discs = spots.spot.footprint((30, 38), centre[None], 2.0)
        touched[discs.y // 4, discs.x // 4] = True
    touched[6] |= touched[7]  # its px continue the blocks before
    expected = whole | np.pad(np.kron(touched[:7, :9], np.ones((4, 4), dtype=bool)), ((0, 2), (0, 2)), mode="edge")
    np.testing.assert_array_equal(np.asarray(added), expected)
    np.testing.assert_array_equal(np.asarray(mask), whole)
