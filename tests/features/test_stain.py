from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.features.source import FeatureSource
from sphisto.features.stain import FineStain, stain_maps
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def test_it_is_a_source_of_pixels(slide):
    source = FineStain(um=2 * slide.grid.um_per_px)
    assert isinstance(source, FeatureSource)
    found = source.of(slide)
    assert (found.stride, found.um_per_px, found.sigma) == (1, slide.grid.um_per_px, 2)
    density = -np.log((np.asarray(slide.image).astype(float) + 1) / 256).mean(axis=0)
    mean = ndimage.gaussian_filter(density, 2, mode="mirror")
    spread = np.sqrt(ndimage.gaussian_filter(density**2, 2, mode="mirror") - mean**2)
    whole = found.read(Window(0, 0, *slide.grid.shape))
    np.testing.assert_allclose(whole, np.log([mean + 0.02, spread + 0.01]), atol=2e-3)
    part = Window(17, 40, 60, 90)
    np.testing.assert_allclose(found.read(part), whole[:, *part.slices], atol=1e-5)


def test_it_is_in_units_of_its_spread_within_spots(slide):
    maps, spots = stain_maps(slide, FineStain()), slide.footprint().drawn()
    features = maps.read(Window(0, 0, *slide.grid.shape)) * slide.tissue
    tissue = spots.mean(np.asarray(slide.tissue[:, :], dtype=float))
    means, squares = (np.nan_to_num(spots.mean(values) / tissue) for values in (features, features**2))
    np.testing.assert_allclose(maps.at_spots, means, atol=1e-4)
    np.testing.assert_allclose(maps.at_spots[tissue[:, 0] > 0].mean(axis=0), 0, atol=1e-6)
    inside = tissue[:, 0] > 0
    np.testing.assert_allclose((squares - means**2)[inside].mean(axis=0), 1, rtol=0.01)
    assert np.diag(maps.within) == pytest.approx(1)
    assert abs(maps.within[0, 1]) < 1


def test_a_blank_image_has_none(slide):
    assert stain_maps(replace(slide, image=np.full((3, *slide.grid.shape), 200, dtype=np.uint8)), FineStain()) is None
