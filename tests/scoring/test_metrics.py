from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sphisto.scoring import metrics


def test_pearson_is_scipys(rng):
    a, b = rng.random((30, 4)), rng.random((30, 4))
    np.testing.assert_allclose(metrics.pearson(a, b), [stats.pearsonr(a[:, i], b[:, i])[0] for i in range(4)])


def test_flat_predictions_score_nothing_and_flat_truths_are_unknown(rng):
    truth = np.column_stack([rng.random(10), np.ones(10)])
    found = metrics.pearson(np.full((10, 2), 0.3), truth)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_log_normalised_is_scanpys(rng):
    import anndata
    import scanpy as sc

    counts = rng.poisson(3, (6, 9)).astype(float)
    adata = anndata.AnnData(counts.copy())
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(metrics.log_normalised(counts), adata.X)
    assert (metrics.log_normalised(np.zeros((2, 3))) == 0).all()


def test_deviance_is_least_at_the_truth(rng):
    counts = rng.poisson(4, (200, 3))
    assert (metrics.poisson_deviance(counts.astype(float), counts) < 1e-6 + 0 * counts[0]).all()
    mean = np.broadcast_to(counts.mean(axis=0), counts.shape)
    assert (metrics.poisson_deviance(mean, counts) < metrics.poisson_deviance(mean * 1.3, counts)).all()


def test_the_ceiling_is_what_the_true_rate_reaches(rng):
    rate = rng.gamma(3, 4, (3000, 5))
    rate[:, 4] = 1000 - rate[:, :4].sum(axis=1)  # totals do not vary, so that normalising adds nothing
    counts = rng.poisson(rate)
    reached = metrics.pearson(metrics.log_normalised(rate)[:, :4], metrics.log_normalised(counts.astype(float))[:, :4])
    np.testing.assert_allclose(metrics.noise_ceiling(counts, rng)[:4], reached, atol=0.06)


def test_expected_log_normalised_is_the_mean_over_poisson_counts(rng):
    """Monte Carlo, as measured counts are normalised."""
    rates = np.concatenate([[0.0, 0.05, 0.7, 4.0, 25.0, 60.0, 400.0], np.full(100, 30.0)])[None]
    counts = rng.poisson(rates, (40_000, rates.shape[1]))
    expected = metrics.log_normalised(counts).mean(axis=0)
    np.testing.assert_allclose(metrics.expected_log_normalised(rates)[0], expected, atol=0.02)


def test_of_a_gene_without_counts_no_deviance_is_to_be_explained():
    """The rate of a millionth, to which a prediction of nothing is raised, is no constant that could be beaten."""
    counts, predicted = np.zeros((5, 2)), np.full((5, 2), 0.3)
    found = metrics.deviance_explained(predicted, counts, np.array([0.0, 0.1]))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(-2)  # some were expected: three times as many are worse


def test_deviance_explained_is_one_at_the_truth_and_zero_at_the_constant(rng):
    counts = rng.poisson(4, (200, 3)).astype(float)
    mean = counts.mean(axis=0)
    np.testing.assert_allclose(metrics.deviance_explained(counts, counts, mean), 1, atol=1e-5)
    np.testing.assert_allclose(
        metrics.deviance_explained(np.broadcast_to(mean, counts.shape), counts, mean), 0, atol=1e-9
    )
    assert (metrics.deviance_explained(2 * np.broadcast_to(mean, counts.shape), counts, mean) < 0).all()


def test_halves_tell_the_ceiling_of_their_sum(rng):
    rate = rng.gamma(2, 2, (4000, 3))
    first, second = rng.poisson(rate / 2), rng.poisson(rate / 2)
    reached = metrics.pearson(rate, first + second)
    np.testing.assert_allclose(metrics.ceiling_of_halves(first, second), reached, atol=0.03)
    assert np.isnan(metrics.ceiling_of_halves(rate[:, :1], -rate[:, :1])).all()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_their_share_of_counts_that_are_drawn_from_them(rng, level):
    mean, variance = np.full((20_000, 2), [3.0, 0.2]), np.full((20_000, 2), [4.0, 0.01])
    rate = rng.gamma(mean**2 / variance, variance / mean)
    found = metrics.inside(rng.poisson(rate), mean, variance, level).mean(axis=0)
    np.testing.assert_allclose(found, level, atol=0.01)
    certain = metrics.inside(rng.poisson(rate), mean, np.zeros_like(mean), level)  # Poisson: too narrow
    assert certain[:, 0].mean() < level - 0.03


def test_what_lies_inside_is_the_chance_of_a_place_drawn_at_random(rng):
    """Oracle: the randomised probability integral transform, by scipy's negative binomial."""
    mean, variance = rng.gamma(1, 2, (300, 4)), rng.gamma(1, 1, (300, 4))
    counts = rng.poisson(mean)
    size = mean**2 / variance
    below, most = (stats.nbinom.cdf(counts - less, size, size / (size + mean)) for less in (1, 0))
    place = below + rng.random((4_000, 300, 4)) * (most - below)
    expected = (abs(place - 0.5) < 0.45).mean(axis=0)
    np.testing.assert_allclose(metrics.inside(counts, mean, variance), expected, atol=0.04)
    far = metrics.inside(np.array([[4000.0, 0.0]]), np.array([[1.0, 4000.0]]), np.array([[0.1, 0.1]]))
    np.testing.assert_array_equal(far, 0)


def test_scores_of_some_genes_take_the_total_of_all(rng):
    counts = rng.poisson(3, (20, 6)).astype(float)
    total, some = counts.sum(axis=1), [1, 4]
    np.testing.assert_allclose(metrics.log_normalised(counts[:, some], total), metrics.log_normalised(counts)[:, some])
    found = metrics.expected_log_normalised(counts[:, some], total)
    np.testing.assert_allclose(found, metrics.expected_log_normalised(counts)[:, some], rtol=1e-6)
