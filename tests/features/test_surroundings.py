from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window
from sphisto.features.maps import SectionFeatures
from sphisto.features.surroundings import Surroundings
from sphisto.slide.slide import Slide

UM = 5.0  # per px: blocks are 40 um wide


def slide_of(tissue):
    image = np.zeros((3, *tissue.shape), dtype=np.uint8)
    return Slide("drawn", image, Grid(*tissue.shape, UM), tissue, Spot(55.0))


def maps_of(tissue, **options):
    found = Surroundings(**options).of(slide_of(tissue))
    return found, found.read(Window(0, 0, *tissue.shape))


@pytest.fixture
def rectangle():
    """Tissue of 480 x 640 px in the middle of glass."""
    tissue = np.zeros((640, 800), dtype=bool)
    tissue[80:560, 80:720] = True
    return tissue


def test_the_distance_is_that_to_the_edge_of_the_tissue(rectangle):
    found, maps = maps_of(rectangle)
    assert found.um_per_px == 8 * UM
    middles = np.stack(np.meshgrid(*((np.arange(side // 8) + 0.5) * 8 for side in rectangle.shape), indexing="ij"))
    inside = np.minimum.reduce([middles[0] - 80, 560 - middles[0], middles[1] - 80, 720 - middles[1]]) * UM
    expected = np.maximum(inside, 0)
    assert np.abs(maps[0] - expected).max() <= found.um_per_px
    assert maps[0].max() == pytest.approx(240 * UM, abs=found.um_per_px)


def test_around_is_all_tissue_in_the_middle_half_at_an_edge_and_a_quarter_at_a_corner(rectangle):
    _, maps = maps_of(rectangle, widths_um=(100.0, 200.0))
    for share in maps[1:]:
        assert share[40, 50] == pytest.approx(1, abs=1e-3)
        assert share[9:11, 50].mean() == pytest.approx(0.5, abs=0.02)
        assert share[9:11, 9:11].mean() == pytest.approx(0.25, abs=0.02)


def test_holes_and_small_gaps_are_no_edge(rectangle):
    expected = maps_of(rectangle)[1]
    torn = rectangle.copy()
    torn[200:400, 300:340] = False  # a lumen
    torn[:, 500:510] = False  # a tear, narrower than what is closed
    found = maps_of(torn)[1]
    np.testing.assert_allclose(found[0], expected[0], atol=8 * UM)  # a notch of a block is left at the ends of the tear
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.03)


def test_tissue_that_fills_the_image_has_no_edge():
    maps = maps_of(np.ones((160, 160), dtype=bool))[1]
    assert np.isfinite(maps).all()
    assert (np.ptp(maps, axis=(1, 2)) < 1e-4).all()
    np.testing.assert_allclose(maps[1:], 1, atol=1e-5)


def test_the_border_of_the_image_is_no_edge(rectangle):
    """What lies beyond is taken to go on as at the border, also where gaps are closed."""
    cut = rectangle[:, 400:]
    np.testing.assert_allclose(maps_of(cut)[1][0][40, :4], maps_of(rectangle)[1][0][40, 50:54], atol=8 * UM)


def test_windows_are_parts_of_the_whole(rectangle):
    found, whole = maps_of(rectangle)
    np.testing.assert_array_equal(found.read(Window(64, 80, 200, 333)), whole[:, 8:25, 10:42])
    assert len(found.channels) == len(whole) == 4
    assert Surroundings().hash != Surroundings((200.0,)).hash


def test_it_is_a_source_of_features(rectangle):
    assert SectionFeatures(slide_of(rectangle), (Surroundings(),)).maps.values.shape[0] == 4
