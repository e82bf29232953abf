from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.config import FitConfig
from sphisto.datasets import toy
from sphisto.features.texture import Texture
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.genes.observations import informative
from sphisto.io.slides import make_slide
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.scoring.metrics import inside
from sphisto.scoring.skill import _dispersion, _scatter, _tempered_pearson, left_out_skill


@pytest.fixture(scope="module")
def section():
    return toy(400, 400, pitch_um=40, mean_counts=6, rng=1)


def skill_of(adata):
    slide = make_slide(sp.io.section(adata))
    known = informative(slide)
    factors = fit_factors(slide.spots, known, GeneModelConfig(n_factors=12), 0)
    config = FitConfig()
    field = fit_field(slide, factors, known, features_of(slide, [Texture()], config), config)
    return slide, factors, field, left_out_skill(field, factors, slide)


def test_genes_that_follow_the_tissue_have_skill_and_noise_has_none(section):
    *_, skill = skill_of(section)
    kind = section.var["kind"].to_numpy(dtype=str)
    assert skill.pearson[np.char.startswith(kind, "class")].mean() > 0.5
    # their share of all counts varies with the total, which the picture tells; their counts do not
    assert skill.deviance_explained[np.char.startswith(kind, "noise")].max() < 0.05


def test_expression_shuffled_among_spots_has_no_skill(section, rng):
    shuffled = section.copy()
    shuffled.X = section.X[rng.permutation(section.n_obs)]
    *_, skill = skill_of(shuffled)
    assert abs(np.nanmean(skill.pearson)) < 0.1


def test_predictive_intervals_hold_what_new_counts_do(section):
    """Leave spots out, predict mean and variance, and see whether the measured counts lie where they should."""
    slide, factors, field, skill = skill_of(section)
    rows, density, variance = field.leave_one_out(factors)
    counts = slide.spots.values[rows].toarray()
    share = slide.footprint().select(rows).mean(slide.tissue)
    mean = rates(density, factors.loadings.astype(float), factors.n_contrasts) * share
    wide = variance * share**2 + skill.dispersion * mean**2
    assert inside(counts, mean, wide).mean() == pytest.approx(0.9, abs=0.03)


def test_the_level_of_a_rare_gene_is_as_uncertain_as_its_counts_are_few(section):
    rare = section.copy()
    counts = rare.X.toarray()
    counts[:, 0] = 0
    counts[:33, 0] = 1
    rare.X = type(rare.X)(counts)
    found = skill_of(rare)[3].dispersion
    assert found[0] >= 1 / 34
    assert (found >= 1 / (1 + counts.sum(axis=0)) - 1e-9).all()


def test_scatter_of_a_negative_binomial_is_found(rng):
    rates = np.full((4000, 2), 20.0)
    counts = np.stack([rng.poisson(20.0, 4000), rng.negative_binomial(5, 5 / 25, 4000)], axis=1)
    found = _dispersion(*_scatter(rates, np.zeros_like(rates), counts))
    np.testing.assert_allclose(found, [0, 0.2], atol=0.02)


def test_skill_of_a_calibrated_prediction_is_the_spread_that_it_has(rng):
    """Both estimates of the correlation agree there, and where nothing is found, spread alone is no skill."""
    told = rng.normal(0, 0.6, (20_000, 1))
    measured = told + rng.normal(0, 0.8, told.shape)
    np.testing.assert_allclose(_tempered_pearson(told, measured), 0.6, atol=0.02)
    opposite = _tempered_pearson(-told, measured)
    np.testing.assert_allclose(opposite, np.corrcoef(-told[:, 0], measured[:, 0])[0, 1])
    assert _tempered_pearson(np.ones((50, 1)), measured[:50]) == 0


def test_skill_does_not_depend_on_how_much_is_in_memory_together(section):
    slide, factors, field, once = skill_of(section)
    parts = left_out_skill(field, factors, slide, at_once=200)
    for name, values in vars(once).items():
        np.testing.assert_allclose(vars(parts)[name], values, rtol=1e-9)
    few = left_out_skill(field, factors, slide, least=10**6)
    assert np.isnan(few.pearson).all()
    np.testing.assert_array_equal(few.dispersion, once.dispersion)
