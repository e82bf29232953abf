from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.core.tiles import plan_tiles
from sphisto.io.slides import make_slide
from sphisto.scoring import baselines


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def whole(tiles, slide):
    maps = np.zeros((len(slide.spots.genes), *slide.grid.shape))
    for tile, values in tiles:
        maps[:, *tile.core.slices] = values
    return maps


def test_nearest_is_the_nearest(slide):
    maps = whole(baselines.nearest(slide, plan_tiles(slide.grid.shape, size=32)), slide)
    values = slide.spots.values.toarray()
    for y, x in ((0, 0), (50, 60), (95, 111)):
        distance = np.square(slide.spots.centers - (y + 0.5, x + 0.5)).sum(axis=1)
        np.testing.assert_allclose(maps[:, y, x], values[distance.argmin()])


def test_gaussian_averages_and_does_not_depend_on_tiles(slide):
    maps = whole(baselines.gaussian(slide, plan_tiles(slide.grid.shape, size=32)), slide)
    other = whole(baselines.gaussian(slide, plan_tiles(slide.grid.shape, size=512)), slide)
    np.testing.assert_allclose(maps, other, rtol=1e-5)
    assert maps.max() <= slide.spots.values.max()
    narrow = whole(baselines.gaussian(slide, plan_tiles(slide.grid.shape), width=1e-3), slide)
    near = whole(baselines.nearest(slide, plan_tiles(slide.grid.shape)), slide)
    assert np.mean(np.abs(narrow - near) < 1e-3) > 0.99
