from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def exact(toy_case):
    from benchmarks.fidelity.cases import Prediction

    return Prediction(toy_case.truth.copy())


def test_the_truth_scores_all(toy_case, exact):
    from benchmarks.fidelity.scores import score

    found = score(toy_case, exact, free=True)
    for name, value in {"pearson": 1, "spearman": 1, "rmse": 0, "ssim": 1, "deviance": 1}.items():
        assert found[f"median_{name}"] == pytest.approx(value, abs=1e-6)
    assert found["total_pearson"] == pytest.approx(1)
    assert found["calibration"] == pytest.approx(1)


def test_twice_the_truth_is_seen_in_deviance_and_calibration_only(toy_case):
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.scores import score

    found = score(toy_case, Prediction(2 * toy_case.truth), free=True)
    assert found["median_pearson"] == pytest.approx(1)
    assert found["calibration"] == pytest.approx(2)
    assert found["median_deviance"] < 0.9


def test_a_flat_map_explains_nothing(toy_case):
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.scores import score

    density = np.broadcast_to(toy_case.counts[:, toy_case.scored].mean(axis=0), toy_case.truth.shape)
    found = score(toy_case, Prediction(toy_case.in_counts(density)), free=True)
    assert found["median_deviance"] == pytest.approx(0, abs=1e-6)
    assert abs(found["median_pearson"]) < 0.25  # bins at the tissue's edge hold less


def test_open_genes_count_neither_for_nor_against(toy_case, exact):
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.scores import score

    counts = exact.counts.copy()
    counts[:, 3:] = np.nan
    found = score(toy_case, Prediction(counts), free=True)
    assert found["n_genes"] == 3
    assert found["median_pearson"] == pytest.approx(1)
    assert found["by_gene"]["pearson"][3:] == [None] * (toy_case.truth.shape[1] - 3)


def test_held_out_forms_are_free_to_baselines_only(spots_case):
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.scores import score

    from sphisto.scoring.metrics import log_normalised

    predicted = Prediction(np.ones_like(spots_case.truth), logs=log_normalised(spots_case.truth))
    assert score(spots_case, predicted, free=True)["form"] == "own"
    assert score(spots_case, predicted, free=True)["mean_pearson"] == pytest.approx(1)
    assert score(spots_case, predicted, free=False)["form"] == "expected"
    assert score(spots_case, predicted, free=False)["mean_pearson"] == pytest.approx(0)


def test_gene_arrays_stay_small(toy_case, exact, monkeypatch):
    from benchmarks.fidelity import scores

    monkeypatch.setattr(scores, "KEPT", 4)
    monkeypatch.setattr(scores, "VARIABLE", 1)
    found = scores.score(toy_case, exact, free=True)
    assert 4 <= len(found["genes"]) <= 5
    assert len(found["by_gene"]["pearson"]) == len(found["genes"])
