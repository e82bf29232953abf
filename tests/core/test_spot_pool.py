from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sphisto.core.footprint import TilePool
from sphisto.core.grid import Grid
from sphisto.core.slide import Measured, Slide, Spot
from sphisto.core.spot_pool import SpotPool
from sphisto.core.tiles import plan_tiles

SHAPE = (70, 90)


def slide(centers, shape):
    measured = Measured(centers, sparse.csr_array((len(centers), 1), dtype=np.float32), ("a",), True, 10.0)
    return Slide("s", None, Grid(*SHAPE, 2.0), np.ones(SHAPE, dtype=bool), Spot(21.0, shape), measured)


@pytest.mark.parametrize("shape", ["disc", "square"])
def test_means_are_those_of_the_whole_footprint(rng, shape):
    section = slide(rng.uniform(-8, 95, (90, 2)), shape)  # some lie at the border, some beyond it
    raster = rng.random((11, *SHAPE))
    raster[:, 30:40] = np.nan
    pool, whole = SpotPool(section, 11), TilePool(section.footprint(), 11)
    for tile in plan_tiles(SHAPE, size=16):
        pool.add(tile.core, raster[:, *tile.core.slices])
        whole.add(tile.core, raster[:, *tile.core.slices])
    np.testing.assert_allclose(pool.means(), whole.means(), rtol=1e-5, atol=1e-9)


def test_a_slide_without_spots_has_no_means():
    section = Slide("s", None, Grid(*SHAPE, 2.0), np.ones(SHAPE, dtype=bool), Spot(21.0, "disc"))
    pool = SpotPool(section, 2)
    for tile in plan_tiles(SHAPE, size=64):
        pool.add(tile.core, np.ones((2, *tile.core.shape)))
    assert pool.means().shape == (0, 2)
