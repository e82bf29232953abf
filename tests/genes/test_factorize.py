from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import _contrasts, _shrunken, fit_factors, gene_factors, scores
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Measured


@pytest.fixture
def measured(rng):
    mixing = rng.gamma(1.0, 40, (60, 3))
    profiles = rng.dirichlet(np.full(12, 0.3), 3)
    counts = rng.poisson(mixing @ profiles)
    genes = tuple(f"g{i}" for i in range(12))
    return Measured(rng.random((60, 2)), sparse.csr_array(counts.astype(np.float32)), genes, True, 1.0)


def test_factors_are_non_negative_and_sum_to_one(measured):
    factors = fit_factors(measured, np.ones(60, dtype=bool), GeneModelConfig(n_factors=3), 0)
    plain = factors.loadings[:, : factors.n_factors - factors.n_contrasts]
    assert (plain >= 0).all()
    np.testing.assert_allclose(plain.sum(axis=0), 1, rtol=1e-5)


def test_scores_times_loadings_explain_the_counts(measured):
    factors = fit_factors(measured, np.ones(60, dtype=bool), GeneModelConfig(n_factors=3), 0)
    expected = scores(factors, measured.values, GeneModelConfig(), is_counts=True) @ factors.loadings.T
    counts = measured.values.toarray()
    np.testing.assert_allclose(expected.sum(axis=1), counts.sum(axis=1), rtol=0.01)
    assert np.corrcoef(expected.ravel(), counts.ravel())[0, 1] > 0.95


def test_spots_that_are_not_kept_do_not_matter(measured):
    kept = np.arange(60) < 40
    changed = measured.values.toarray()
    changed[40:] = 1000
    other = Measured(measured.centers, sparse.csr_array(changed), measured.genes, True, 1.0)
    a, b = (fit_factors(m, kept, GeneModelConfig(n_factors=3), 0).loadings for m in (measured, other))
    np.testing.assert_array_equal(a, b)


def test_no_more_factors_than_spots_or_genes(measured):
    assert fit_factors(measured, np.arange(60) < 2, GeneModelConfig(n_factors=32), 0).n_factors == 2
    assert fit_factors(measured, np.ones(60, dtype=bool), GeneModelConfig(n_factors=32), 0).n_factors == 12


def test_genes_as_factors_are_their_own_counts(measured):
    factors = gene_factors(measured, ["g7", "g2"])
    found = scores(factors, measured.values, GeneModelConfig(), is_counts=True)
    np.testing.assert_array_equal(found, measured.values.toarray()[:, [7, 2]])
    assert np.isnan(factors.loadings).all(axis=1).sum() == 10


def test_loadings_of_rare_genes_are_drawn_to_their_share_of_all_counts(rng):
    """Two genes with the same pattern: the one with a hundredth of the counts says less about it."""
    weights = rng.gamma(2.0, 50, (80, 2))
    true = np.array([[0.6, 0.1], [0.006, 0.001], [0.394, 0.899]])
    values = rng.poisson(weights @ true.T).astype(np.float32)
    found = _shrunken(true / true.sum(axis=0), weights, values, GeneModelConfig())
    contrast = np.log(found[:, 0] / found[:, 1])
    assert contrast[0] == pytest.approx(np.log(6), abs=0.2)
    assert 0.1 < contrast[1] < 0.9 * np.log(6)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    np.testing.assert_allclose((weights @ found.T).sum(axis=0)[[0, 2]], values.sum(axis=0)[[0, 2]], rtol=0.05)


def test_as_many_factors_as_genes_are_still_factors(measured):
    factors = fit_factors(measured, np.ones(60, dtype=bool), GeneModelConfig(n_factors=12), 0)
    expected = scores(factors, measured.values, GeneModelConfig(), is_counts=True) @ factors.loadings.T
    np.testing.assert_allclose(expected.sum(axis=1), measured.values.sum(axis=1), rtol=0.02)


def test_noise_of_counting_alone_gives_no_contrasts(rng):
    """Neither with few spots and many genes nor the other way round, nor where genes and spots differ in level."""
    for n, g in ((60, 900), (300, 100)):
        level = np.outer(rng.gamma(2, 1, n), rng.gamma(0.5, 2, g))
        assert _contrasts(rng.poisson(level).astype(np.float32), level, np.eye(g), 20, GeneModelConfig()).shape == (
            g,
            0,
        )


def test_what_factors_leave_over_is_found_as_contrasts(rng):
    """One direction beyond a flat model: its loadings and its values at the spots come back."""
    level = np.full((300, 200), 5.0)
    direction, strength = rng.normal(size=200), rng.normal(size=300)
    direction *= 0.4 * np.sqrt(5) / np.sqrt(np.mean(direction**2))
    counts = rng.poisson(np.maximum(level + np.outer(strength, direction), 0)).astype(np.float32)
    loadings = _contrasts(counts, level, np.eye(counts.shape[1]), 20, GeneModelConfig())
    assert loadings.shape == (200, 1)
    assert abs(np.corrcoef(loadings[:, 0], direction)[0, 1]) > 0.95
    flat = np.full((200, 1), 1 / 200)
    both = GeneModel(tuple(map(str, range(200))), np.column_stack([flat, loadings]).astype(np.float32), 1)
    values = scores(both, sparse.csr_array(counts), GeneModelConfig(), is_counts=True)
    correction = np.outer(values[:, 1], loadings[:, 0])
    assert np.corrcoef(correction.ravel(), np.outer(strength, direction).ravel())[0, 1] > 0.9
    slope = np.polyfit(np.outer(strength, direction).ravel(), correction.ravel(), 1)[0]
    assert 0.5 < slope < 1  # not all of it is believed


def test_factors_of_a_sample_are_refitted_to_all_spots(rng):
    """Spots beyond the sample are described as well as those in it."""
    profiles, weights = rng.dirichlet(np.full(40, 0.3), 4), rng.gamma(0.5, 100, (400, 4))
    expected = weights @ profiles
    counts = sparse.csr_array(rng.poisson(expected).astype(np.float32))
    measured = Measured(np.zeros((400, 2)), counts, tuple(map(str, range(40))), is_counts=True, pitch=1.0)
    errors = {}
    for sample in (60, 4_000):
        config = GeneModelConfig(n_factors=4, sample=sample)
        model = fit_factors(measured, np.ones(400, dtype=bool), config, 0)
        found = scores(model, counts, config, is_counts=True) @ model.loadings.T
        errors[sample] = np.square(np.sqrt(found) - np.sqrt(expected)).mean()
        np.testing.assert_allclose(model.loadings[:, :4].sum(axis=0), 1, rtol=1e-5)
    assert errors[60] < 1.1 * errors[4_000]


def test_genes_that_tell_little_are_summed_up_and_change_little(rng):
    """Half of the genes are the same in all factors: summed up they are one measurement, and none of it is lost."""
    loadings = rng.gamma(0.3, 1, (60, 3))
    loadings[30:] = rng.gamma(1, 1, (30, 1))
    loadings /= loadings.sum(axis=0)
    loadings[30:] = loadings[30:].mean(axis=1, keepdims=True)
    model = GeneModel(tuple(f"g{i}" for i in range(60)), loadings.astype(np.float32))
    weights = rng.gamma(1, 100, (40, 3))
    counts = sparse.csr_array(rng.poisson(weights @ loadings.T).astype(np.float32))
    every, most = (scores(model, counts, GeneModelConfig(scored_genes=n), is_counts=True) for n in (60, 31))
    few = scores(model, counts, GeneModelConfig(scored_genes=10), is_counts=True)

    def apart(found):
        return np.sqrt(np.square(found - every).mean()) / every.std()

    assert apart(most) < 0.02  # but for how far the passes have come, the same
    assert 0.05 < apart(few) < 0.5  # counts of genes that do tell are lost, then
    np.testing.assert_allclose(few.sum(axis=1), every.sum(axis=1), rtol=0.02)  # all counts are still there
