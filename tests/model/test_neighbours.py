from __future__ import annotations

import numpy as np

from sphisto.core.tiles import Window
from sphisto.io.intake import make_slide, read_section
from sphisto.model.neighbours import neighbours, nothing_known, prior_stride


def test_the_prior_is_the_weighted_average_of_the_visible_spots(small_toy, rng):
    slide = make_slide(read_section(small_toy))
    n = len(slide.spots.centers)
    prior = neighbours(slide, rng.random((n, 2)), np.ones(n, dtype=bool))
    visible = rng.random(n) < 0.6
    window = Window(16, -8, 48, 40)
    found = prior.of(visible).prior(window)
    s = prior.stride
    assert found.shape == (2, 32 // s, 48 // s)
    y, x = 16 + (1 + 0.5) * s, -8 + (3 + 0.5) * s
    weight = np.exp(-((prior.centers[visible] - (y, x)) ** 2).sum(axis=1) / (2 * prior.width**2))
    np.testing.assert_allclose(found[:, 1, 3], weight @ prior.density[visible] / weight.sum(), rtol=1e-5)


def test_density_is_per_area_of_tissue(small_toy):
    slide = make_slide(read_section(small_toy))
    n = len(slide.spots.centers)
    prior = neighbours(slide, np.ones((n, 1)), np.ones(n, dtype=bool))
    share = slide.footprint().mean(slide.tissue.astype(float))[:, 0]
    np.testing.assert_allclose(prior.density[:, 0] * np.maximum(share, 0.25), 1, rtol=1e-6)


def test_where_nothing_is_known_the_mean_is_said(small_toy, rng):
    slide = make_slide(read_section(small_toy))
    n = len(slide.spots.centers)
    prior = neighbours(slide, rng.random((n, 2)), np.ones(n, dtype=bool))
    for source in (prior.of(np.zeros(n, dtype=bool)), nothing_known(prior.mean)):
        found = source.prior(Window(0, 0, 16, 16))
        np.testing.assert_allclose(found, np.broadcast_to(prior.mean[:, None, None], found.shape), rtol=1e-5)


def test_the_stride_keeps_four_points_to_a_pitch():
    assert [prior_stride(p) for p in (3, 8, 17, 40, 1000)] == [1, 2, 4, 8, 8]
