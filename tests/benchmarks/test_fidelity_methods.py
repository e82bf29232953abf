from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

CHEAP = [
    "nearest",
    "gaussian",
    "kriging",
    "kriging_roots",
    "cokriging",
    "cokriging_roots",
    "colour_distance",
    "colour_ridge",
    "stain_ratio",
]


@pytest.mark.parametrize("method", CHEAP)
def test_methods_beat_chance_on_bins_and_on_held_out_spots(method, toy_case, spots_case):
    from benchmarks.fidelity.methods import METHODS
    from benchmarks.fidelity.scores import headline

    for case, least in ((toy_case, 0.1), (spots_case, 0.1)):
        predicted = METHODS[method](case)
        assert predicted.counts.shape == case.truth.shape
        assert np.isfinite(predicted.counts).all()
        assert (predicted.counts >= 0).all()
        assert headline(case, predicted) > least


@pytest.mark.parametrize("method", CHEAP)
def test_totals_are_about_right(method, toy_case):
    from benchmarks.fidelity.methods import METHODS

    assert METHODS[method](toy_case).counts.sum() == pytest.approx(toy_case.truth.sum(), rel=0.25)


def test_nearest_at_bins_is_the_nearest_spots_counts(toy_case):
    from benchmarks.fidelity.methods import METHODS
    from scipy.spatial import cKDTree

    _, spot = cKDTree(toy_case.centers).query(toy_case.regions.centers)
    expected = toy_case.counts[spot][:, toy_case.scored] * toy_case.regions.size[:, None]
    np.testing.assert_allclose(METHODS["nearest"](toy_case).counts, expected)


def test_left_out_kriging_is_kriging_without_the_spot(spots_case):
    """By brute force: the closed form for the chosen kernel and nugget, against solving without the spot."""
    from benchmarks.fidelity.methods import kriging

    field = np.sin(spots_case.centers[:, :1] / 80)
    found = kriging.krige(spots_case, np.column_stack([field, field]), components=1, picture=False).left_out[:, 0]
    k, others = 3, np.arange(len(field)) != 3
    brute = []
    for reach in kriging.RANGES:
        covariance = kriging.covariance(spots_case, spots_case.centers, None, reach, 0.0)
        for nugget in kriging.NUGGETS:
            noisy = covariance[np.ix_(others, others)] + nugget * np.eye(others.sum())
            brute.append(
                covariance[k, others] @ np.linalg.solve(noisy, (field - field.mean())[others, 0]) + field.mean()
            )
    assert np.abs(np.array(brute) - found[k]).min() < 1e-8


def test_the_picture_helps_where_it_shows_what_genes_follow(toy_case):
    from benchmarks.fidelity.methods import METHODS

    from sphisto.scoring.metrics import pearson

    names = [toy_case.adata.var_names[i] for i in toy_case.scored]
    nuclei = names.index("nuclei_a")
    score = {m: pearson(METHODS[m](toy_case).counts, toy_case.truth)[nuclei] for m in ("gaussian", "stain_ratio")}
    assert score["stain_ratio"] > score["gaussian"]


def test_the_head_learns(spots_case, monkeypatch):
    from benchmarks.fidelity.methods import istar
    from benchmarks.fidelity.scores import headline

    monkeypatch.setattr(istar, "STEPS", 150)
    assert headline(spots_case, istar.istar_head(spots_case)) > 0.1


def test_sphisto_is_asked_through_its_public_verbs(toy_case):
    from benchmarks.fidelity.methods import METHODS
    from benchmarks.fidelity.scores import headline

    predicted = METHODS["sphisto"](toy_case, max_epochs=2)
    assert predicted.counts.shape == toy_case.truth.shape
    assert predicted.counts.sum() == pytest.approx(toy_case.truth.sum(), rel=0.25)
    assert headline(toy_case, predicted) > 0.2


def test_a_network_of_single_genes_leaves_the_others_open(toy_case):
    from benchmarks.fidelity.methods.networks import fitted

    predicted = fitted(replace(toy_case), 3, {"network": "seed", "max_epochs": 2})
    assert np.isfinite(predicted.counts).all(axis=0).sum() == 3


def test_a_peer_is_given_the_case_and_its_answer_is_put_in_order(spots_case, tmp_path, monkeypatch):
    """The runner is a stand-in for a peer: it answers genes in another order, leaves one out, and is another process."""
    import json
    import shutil
    import sys

    from benchmarks.fidelity.methods import METHODS, peers

    runner = """
import sys
from pathlib import Path
import numpy as np
from exchange import read_case, write_prediction
case = read_case(Path(sys.argv[1]))
assert case.image.exists() and case.tissue.any() and not case.square
near = np.linalg.norm(case.regions[:, None] - case.centers[None], axis=-1).argmin(axis=1)
kept = case.wanted[::-1][:-1]
write_prediction(case, case.counts[near][:, kept], case.genes[kept], seconds=1, notes="nearest")
"""
    (tmp_path / "run_tesla.py").write_text(runner)
    shutil.copy(peers.RUNNERS / "exchange.py", tmp_path)
    (tmp_path / "environments.json").write_text(json.dumps({"tesla": {"python": sys.executable}}))
    monkeypatch.setattr(peers, "RUNNERS", tmp_path)
    monkeypatch.setenv("SPHISTO_PEERS", str(tmp_path))
    found = METHODS["tesla"](spots_case)
    apart = np.linalg.norm(spots_case.regions.centers[:, None] - spots_case.centers[None], axis=-1)
    expected = spots_case.counts[apart.argmin(axis=1)][:, spots_case.scored] * spots_case.regions.size[:, None]
    assert np.isnan(found.counts[:, 0]).all()
    np.testing.assert_allclose(found.counts[:, 1:], expected[:, 1:], rtol=1e-6)
    assert "nearest" in found.note


def test_a_peer_that_fails_says_its_last_words(spots_case, tmp_path, monkeypatch):
    import json
    import sys

    from benchmarks.fidelity.methods import METHODS, peers

    (tmp_path / "run_tesla.py").write_text("raise SystemExit('no colours left')")
    (tmp_path / "environments.json").write_text(json.dumps({"tesla": {"python": sys.executable}}))
    monkeypatch.setattr(peers, "RUNNERS", tmp_path)
    monkeypatch.setenv("SPHISTO_PEERS", str(tmp_path))
    with pytest.raises(RuntimeError, match="tesla ended with 1: no colours left"):
        METHODS["tesla"](spots_case)
    with pytest.raises(FileNotFoundError, match="no environment"):
        METHODS["spahdmap"](spots_case)
