from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.features.maps import FeatureMaps, SectionFeatures, principal_components
from sphisto.features.texture import Texture, texture
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def test_texture_of_a_section_is_that_of_its_image_and_computed_once(slide):
    features, source = SectionFeatures(slide, (Texture(),)), Texture().of(slide)
    radius = slide.spot.um / slide.grid.um_per_px / 2
    assert source.stride == 2  # at least four to a pitch of 12 px
    np.testing.assert_array_equal(features.maps.values, texture(slide.image, radius, 2))
    assert len(source.channels) == len(features.maps.values)
    assert features.maps is features.maps


def test_features_at_spots_are_means_over_their_area(rng):
    values = rng.random((2, 40, 40)).astype(np.float32)
    maps = FeatureMaps(values, (8, 16), 2, Spot(12.0, "square"), 1.0)
    found = maps.at_spots(np.array([[8 + 20.0, 16 + 30.0], [-500.0, 0.0]]))
    np.testing.assert_allclose(found[0], values[:, 7:13, 12:18].mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0)


def test_principal_components_have_a_mean_squared_length_of_one_at_the_spots(slide, rng):
    maps = SectionFeatures(slide, (Texture(),)).maps
    centers = slide.spots.centers
    components, at_spots = principal_components(maps, centers)
    assert np.square(at_spots).sum(axis=1).mean() == pytest.approx(1)
    np.testing.assert_allclose(components.at_spots(centers), at_spots, atol=1e-4)
    # whatever unit a feature has
    scaled = replace(
        maps, values=maps.values * rng.uniform(0.1, 10, len(maps.values))[:, None, None].astype(np.float32)
    )
    other = principal_components(scaled, centers)[1]
    np.testing.assert_allclose(other @ other.T, at_spots @ at_spots.T, atol=1e-3)


def test_a_blank_image_has_one_component_that_is_nothing(slide):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    components, at_spots = principal_components(SectionFeatures(blank, (Texture(),)).maps, slide.spots.centers)
    assert components.values.shape[0] == at_spots.shape[1] == 1
    assert not components.values.any()
    assert not at_spots.any()
