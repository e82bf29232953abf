"""Oracles: the closed form of left-out errors by brute force, and a total that follows the stain by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.core.places import Places
from sphisto.core.tiles import Window, plan_tiles
from sphisto.features.maps import SectionFeatures
from sphisto.features.texture import Texture
from sphisto.field.config import FieldConfig
from sphisto.field.covariance import Covariance
from sphisto.field.detail import choose_slope
from sphisto.field.equations import solve
from sphisto.field.field import Field
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import observe
from sphisto.io.slides import make_slide
from sphisto.scoring.at_spots import pool_posterior

CONFIG = FieldConfig(nuggets=(0.5,), stain_weights=(0.3,), use_features=False)


@pytest.fixture
def spots(rng):
    y, x = np.mgrid[:8, :8]
    return np.stack([y.ravel(), x.ravel()], axis=1) + rng.uniform(0, 0.2, (64, 2)), rng.normal(size=(64, 2))


def slope_of(centers, values, stain, config):
    """The slope that is chosen, the component as it is and its covariance."""
    covariance, columns = Covariance(1.0, np.inf, config), np.column_stack([values, stain])
    equations = solve(Places(centers), np.zeros((64, 1)), covariance, columns, config)
    pick, shares = np.eye(3), np.full(len(config.nuggets), 1 / len(config.nuggets))
    return choose_slope(equations, pick[:, 0], pick[:, 1:], shares, config), covariance


def test_the_slope_is_that_of_kriging_with_a_linear_term(spots, rng):
    """Generalised least squares with a normal prior of the slope, on the kriging's own covariance."""
    centers, stain = spots
    values = stain @ [0.8, -0.5] + 0.3 * rng.normal(size=64)
    slope, covariance = slope_of(centers, values, stain, CONFIG)
    nothing = np.zeros((64, 1))
    inverse = np.linalg.inv(covariance.between(centers, nothing, centers, nothing) + 0.5 * np.eye(64))
    expected = np.linalg.solve(np.eye(2) / 0.3 + stain.T @ inverse @ stain, stain.T @ inverse @ values)
    np.testing.assert_allclose(slope, expected, rtol=1e-3)


def test_stain_that_has_no_part_is_not_used(spots, rng):
    centers, stain = spots
    values = np.sin(centers[:, 0]) + 0.1 * rng.normal(size=64)
    assert slope_of(centers, values, stain, replace(CONFIG, stain_z=2.0))[0] is None


def at_one_um(slide):
    """The same pixels, taken to be 1 um: they show nuclei."""
    um = slide.spot.um / slide.grid.um_per_px
    return replace(slide, grid=replace(slide.grid, um_per_px=1.0), spot=replace(slide.spot, um=um))


@pytest.fixture
def section(rng):
    """A section whose total follows the stain of each pixel, spots of which are counted."""
    slide = at_one_um(make_slide(sp.io.section(sp.datasets.toy(192, 192, pitch_um=24, rng=3))))
    features = SectionFeatures(slide, (Texture(),))
    whole = Window(0, 0, *slide.grid.shape)
    rate = np.square(np.maximum(20 + 3 * features.stain.read(whole)[0], 0)) * slide.tissue
    counts = rng.poisson(slide.footprint().mean(rate) * [[0.5, 0.5]]).astype(np.float32)
    measured = replace(slide.spots, values=sparse.csr_array(counts), genes=("a", "b"))
    return replace(slide, measured=measured), features, rate


MODEL = GeneModel(("a", "b"), np.eye(2, dtype=np.float32))


def fitted(slide, features, known=None, **settings):
    known = np.ones(len(slide.spots.centers), dtype=bool) if known is None else known
    return Field.fit(observe(slide, MODEL, known, GeneModelConfig()), features, FieldConfig(**settings))


def at_pixels(posterior, window):
    y, x = (at.ravel() for at in np.indices(window.shape))
    return posterior.at_pixels(window, y, x).sum(axis=0).reshape(window.shape)


def test_a_total_that_follows_the_stain_is_drawn_at_pixels(section):
    slide, features, rate = section
    window = Window(0, 0, *slide.grid.shape)
    with_detail, without = (fitted(slide, features, use_stain=use).given("all") for use in (True, False))
    assert with_detail.detail is not None
    assert without.detail is None
    tissue = np.asarray(slide.tissue[:, :])
    found = [np.corrcoef(at_pixels(p, window)[tissue], rate[tissue])[0, 1] for p in (with_detail, without)]
    assert found[0] > 0.98
    assert 1 - found[0] < 0.3 * (1 - found[1])


def test_pixels_larger_than_nuclei_are_not_used(section):
    slide, features, _ = section
    um = slide.grid.um_per_px
    assert fitted(slide, features, stain_um_per_px=0.99 * um).given("all").detail is not None
    assert fitted(slide, features, stain_um_per_px=0.95 * um).given("all").detail is None


def test_spots_keep_their_sums(section):
    slide, features, _ = section
    posterior, spots = fitted(slide, features).given("all"), slide.footprint().drawn()
    pooled = pool_posterior(posterior, slide, spots, plan_tiles(slide.grid.shape)).sum(axis=1)
    measured = slide.spots.values.sum(axis=1)
    assert np.corrcoef(pooled, measured)[0, 1] > 0.95
    assert pooled.sum() == pytest.approx(measured.sum(), rel=0.03)


def test_the_ratio_does_not_depend_on_the_window(section):
    slide, features, _ = section
    posterior = fitted(slide, features).given("all")
    whole = at_pixels(posterior, Window(0, 0, *slide.grid.shape))
    part = Window(40, 56, 90, 120)
    np.testing.assert_allclose(at_pixels(posterior, part), whole[part.slices], rtol=1e-3)


def test_what_is_not_known_changes_nothing_of_the_detail(section):
    slide, features, _ = section
    known = np.arange(len(slide.spots.centers)) % 4 > 0
    counts = slide.spots.values.toarray()
    counts[~known] *= 7
    changed = replace(slide, measured=replace(slide.spots, values=sparse.csr_array(counts)))
    window = Window(0, 0, *slide.grid.shape)
    one, other = (at_pixels(fitted(each, features, known).given("all"), window) for each in (slide, changed))
    np.testing.assert_array_equal(one, other)


def test_another_copy_of_the_slide_is_read_instead(section):
    """As workers of a cluster do: nothing of the image is sent to them."""
    import pickle

    slide, features, _ = section
    posterior = fitted(slide, features).given("all")
    window = Window(0, 0, *slide.grid.shape)
    small = replace(slide, image=np.zeros((3, 1, 1), dtype=np.uint8))
    sent = pickle.loads(pickle.dumps(posterior.on(small)))
    assert len(pickle.dumps(posterior.on(small))) < len(pickle.dumps(posterior)) - slide.image.nbytes / 2
    np.testing.assert_array_equal(at_pixels(sent.on(slide), window), at_pixels(posterior, window))
