from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


def headline(case, name, *, free=True, **more):
    from benchmarks.fidelity import scores
    from benchmarks.fidelity.methods import METHODS

    predicted = METHODS[name](case)
    return scores.headline(case, scores.pearson(case, predicted, free=free))


@pytest.mark.parametrize(
    "name", ["nearest", "gaussian", "kriging_roots", "cokriging_12", "cokriging_roots", "colour_ridge", "prior"]
)
def test_methods_beat_chance_on_bins_and_on_held_out_spots(name, toy_case, spots_case):
    from benchmarks.fidelity.methods import METHODS

    for case in (toy_case, spots_case):
        counts = METHODS[name](case).counts
        assert counts.shape == case.truth.shape
        assert np.isfinite(counts).all()
        assert (counts >= 0).all()
        assert headline(case, name) > 0.1
    assert METHODS[name](toy_case).counts.sum() == pytest.approx(toy_case.truth.sum(), rel=0.25)


def test_spots_are_averaged_over_all_pixels_of_a_large_region(spots_case):
    from benchmarks.fidelity.shared import spot_weights

    from sphisto.field.gaussian import gaussian_weights

    some = spots_case.regions.select(np.array([3]))
    each = gaussian_weights(np.stack([some.y, some.x], axis=1) + 0.5, spots_case.centers, 20.0).toarray()
    found = spot_weights(spots_case.slide, spots_case.regions, 20.0).toarray()[3]
    np.testing.assert_allclose(found, np.average(each, axis=0, weights=some.weight), rtol=1e-5)


def test_left_out_kriging_is_kriging_without_the_spot(spots_case):
    """By brute force: the closed form for the chosen kernel and nugget, against solving without the spot."""
    from benchmarks.fidelity import kriging

    field = np.sin(spots_case.centers[:, :1] / 80)
    _, left_out, _ = kriging.krige(spots_case, np.column_stack([field, field]), components=1, image=False)
    k, others, brute = 3, np.arange(len(field)) != 3, []
    for reach in kriging.RANGES:
        covariance = kriging.covariance(spots_case, spots_case.centers, None, None, reach, 0.0)
        for nugget in kriging.NUGGETS:
            noisy = covariance[np.ix_(others, others)] + nugget * np.eye(others.sum())
            told = covariance[k, others] @ np.linalg.solve(noisy, (field - field.mean())[others, 0])
            brute.append(told + field.mean())
    assert np.abs(np.array(brute) - left_out[k, 0]).min() < 1e-8


def test_ablations_are_settings_of_the_package(toy_case):
    from benchmarks.fidelity.methods import METHODS

    from sphisto.config import from_plain

    for name, method in METHODS.items():
        if method.kind == "ablation":
            from_plain(method.options["config"])
            assert name.startswith("prior: ")
    usual, changed = (METHODS[name](toy_case).counts for name in ("prior", "prior: position only"))
    assert not np.allclose(usual, changed)


def test_the_prior_is_no_worse_than_any_baseline_and_its_intervals_hold(dense_case):
    from benchmarks.fidelity.methods import METHODS

    for baseline in ("gaussian", "kriging_roots", "cokriging_12", "cokriging_roots"):
        assert headline(dense_case, "prior", free=False) >= headline(dense_case, baseline) - 0.005
    inside = METHODS["prior"](dense_case).inside
    assert 0.87 <= inside.mean() <= 0.93


def test_genes_shuffled_among_spots_fall_to_chance(dense_case):
    """At spots wholly on tissue: how much of a spot lies on tissue is told by the image, and tells of its counts."""
    inner = dense_case.regions.mean(np.asarray(dense_case.slide.tissue))[:, 0] > 0.99
    case = replace(
        dense_case, regions=dense_case.regions.select(inner), truth=dense_case.truth[inner],
        area=dense_case.area[inner], tissue=dense_case.tissue[inner],
    )  # fmt: skip
    found = [headline(replace(case, seed=seed), "control: genes shuffled", free=False) for seed in range(4)]
    assert abs(np.mean(found)) <= 0.02


def test_other_colours_change_expression_by_less_than_its_standard_deviation(dense_case):
    from benchmarks.fidelity.methods import METHODS

    changed = METHODS["control: other colours"](dense_case)
    assert changed.inside.mean() > 0.95
    assert not np.allclose(changed.counts, METHODS["prior"](dense_case).counts, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "modelled"), [({}, 10), ({"network": "prototype", "n_genes": 3}, 3)])
def test_sphisto_and_its_prototype_are_asked_through_the_public_function(toy_case, options, modelled):
    from benchmarks.fidelity import scores
    from benchmarks.fidelity.sphisto_methods import fitted

    predicted = fitted(toy_case, max_epochs=2, **options)
    known = np.isfinite(predicted.counts).all(axis=0)
    assert set(np.flatnonzero(known)) == set(toy_case.variable()[:modelled])
    if modelled == 10:
        assert predicted.counts.sum() == pytest.approx(toy_case.truth.sum(), rel=0.25)
        assert scores.headline(toy_case, scores.pearson(toy_case, predicted)) > 0.2


RUNNER = """
import sys
import numpy as np
import exchange
case = exchange.read(sys.argv[1])
assert case.image.shape[:2] == case.tissue.shape and case.tissue.any()
near = np.linalg.norm(case.regions[:, None] - case.centers[None], axis=-1).argmin(axis=1)
kept = [list(case.genes).index(gene) for gene in case.wanted[::-1][:-1]]
exchange.write(sys.argv[1], case.counts[near][:, kept], case.genes[kept])
"""


def test_a_peer_is_given_the_case_and_its_answer_is_put_in_order(spots_case, tmp_path, monkeypatch):
    """The runner is a stand-in for a peer: it answers genes in another order, leaves one out, and is another process."""
    from benchmarks.fidelity import published

    shutil.copy(published.RUNNERS / "exchange.py", tmp_path)
    (tmp_path / "run_tesla.py").write_text(RUNNER)
    monkeypatch.setattr(published, "RUNNERS", tmp_path)
    monkeypatch.setattr(published, "python_of", lambda _: Path(sys.executable))
    found = published.run(spots_case, name="tesla")
    apart = np.linalg.norm(spots_case.regions.centroids()[:, None] - spots_case.centers[None], axis=-1)
    expected = spots_case.counts[apart.argmin(axis=1)]
    assert np.isnan(found.counts[:, 0]).all()
    np.testing.assert_allclose(found.counts[:, 1:], expected[:, 1:], rtol=1e-6)
    assert found.logs is None
    (tmp_path / "run_tesla.py").write_text("raise SystemExit('no colours left')")
    with pytest.raises(RuntimeError, match="tesla ended with 1: no colours left"):
        published.run(spots_case, name="tesla")
    monkeypatch.undo()
    monkeypatch.delenv("SPHISTO_PEERS", raising=False)
    assert "there is no" in published.missing("spahdmap")
