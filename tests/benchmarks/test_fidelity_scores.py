from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest


def scored(case, counts, *, free=True, **more):
    from benchmarks.fidelity.baselines import gaussian
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.scores import score

    return score(case, Prediction(counts, **more), gaussian(case), free=free)


def test_the_truth_scores_all(toy_case):
    found = scored(toy_case, toy_case.truth)
    expected = {"pearson": 1, "pearson_mean": 1, "rmse": 0, "deviance": 1, "calibration": 1, "better_than_gaussian": 1}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_the_true_rate_reaches_the_noise_ceiling_and_no_more(toy_case, rng):
    """Counts of a thinned truth: the ceiling is found from their halves alone."""
    from sphisto.scoring import metrics

    rate = toy_case.truth * 10
    counts = rng.poisson(rate)
    half = rng.binomial(counts, 0.5)
    case = replace(toy_case, truth=counts.astype(np.float64), ceiling=metrics.ceiling_of_halves(half, counts - half))
    found = scored(case, rate)
    assert 0.2 < found["ceiling"] < 0.95
    assert found["pearson"] == pytest.approx(found["ceiling"], abs=0.03)


def test_twice_the_truth_is_seen_in_deviance_and_calibration_only(toy_case):
    found = scored(toy_case, 2 * toy_case.truth)
    assert found["pearson"] == pytest.approx(1)
    assert found["calibration"] == pytest.approx(2)
    assert found["deviance"] < 0.9


def test_a_flat_map_explains_nothing(toy_case):
    density = np.broadcast_to(toy_case.counts[:, toy_case.scored].mean(axis=0), toy_case.truth.shape)
    found = scored(toy_case, toy_case.in_counts(density))
    assert found["deviance"] == pytest.approx(0, abs=1e-6)
    assert abs(found["pearson"]) < 0.25  # bins at the tissue's edge hold less


def test_min_max_scores_do_not_depend_on_the_unit(rng):
    from benchmarks.fidelity.scores import min_max, min_max_rmse

    truth = rng.random((60, 2))
    np.testing.assert_allclose(min_max(5 * truth + 3), min_max(truth), atol=1e-9)
    np.testing.assert_allclose(min_max_rmse(5 * truth + 3, truth), 0, atol=1e-9)
    expected = np.sqrt(np.square(min_max(truth) - min_max(truth[::-1])).mean(axis=0))
    np.testing.assert_allclose(min_max_rmse(truth[::-1], truth), expected)


def test_min_max_rmse_favours_a_map_of_one_outlier():
    """The fault that the documentation tells of: where the truth is sparse, all but flat beats the truth's own rate."""
    from benchmarks.fidelity.scores import min_max_rmse

    rng = np.random.default_rng(0)
    rate = np.where(np.arange(5_000) < 2_500, 0.05, 0.15)[:, None]
    truth = rng.poisson(rate).astype(np.float64)
    spiked = np.ones_like(rate)
    spiked[0] = 1000
    assert min_max_rmse(spiked, truth)[0] < min_max_rmse(rate, truth)[0]


def test_open_genes_count_neither_for_nor_against(toy_case):
    counts = toy_case.truth.copy()
    counts[:, 3:] = np.nan
    found = scored(toy_case, counts)
    assert found["genes"] == 3
    assert found["pearson"] == found["pearson_variable"] == pytest.approx(1)


def test_held_out_forms_are_free_to_baselines_only(spots_case):
    from sphisto.scoring.metrics import log_normalised

    flat, logs = np.ones_like(spots_case.truth), log_normalised(spots_case.truth)
    assert scored(spots_case, flat, logs=logs)["pearson"] == pytest.approx(1)
    assert scored(spots_case, flat, logs=logs, free=False)["pearson"] == pytest.approx(0)


def test_a_protein_is_compared_by_its_place_only(toy_case):
    case = replace(toy_case, kind="protein", truth=toy_case.truth[:, :1] * 7 + 3, scored=toy_case.scored[:1])
    assert scored(case, toy_case.truth[:, :1]) == {"pearson": pytest.approx(1)}
