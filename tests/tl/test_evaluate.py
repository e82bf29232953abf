from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.scoring import metrics
from sphisto.scoring.at_spots import Prediction
from sphisto.tl import _evaluate

KEY = "evaluation"
METHODS = ["sphisto", "prior", "gaussian", "nearest"]


def evaluate(adata, **options):
    return sp.tl.evaluate(adata, **{"max_epochs": 2, "device": "cpu", **options})


@pytest.fixture(scope="module")
def once(small_toy_once):
    adata = small_toy_once.copy()
    return adata, evaluate(adata)


@pytest.fixture
def evaluated(once):
    return once[0].copy()


@pytest.fixture
def table(once):
    return once[1].copy()


@pytest.fixture
def told(monkeypatch):
    """What each method said, of every evaluation that follows."""
    heard = []
    real = _evaluate.score
    monkeypatch.setattr(
        _evaluate, "score", lambda told, *args, **words: heard.append(told) or real(told, *args, **words)
    )
    return heard


# --- against independent computations ---------------------------------------------------------------------------------


def test_scores_are_those_of_a_fit_that_never_had_the_spots(small_toy, evaluated, tmp_path):
    """Oracle: fit the other spots, sum the rasters over the held-out ones, correlate with scipy."""
    held_out = evaluated.obs[f"{KEY}_held_out"].to_numpy()
    train, test = small_toy[~held_out].copy(), small_toy[held_out].copy()
    sp.tl.fit_projection(train, store=tmp_path / "a.zarr", max_epochs=2, device="cpu")
    params = train.uns["projection"]["params"]
    radius = params["spot_um"] / params["fullres_um_per_px"] / 2
    predicted = sp.tl.aggregate(tmp_path / "a.zarr", test.obsm["spatial"], radius=radius)[:, small_toy.var_names].X
    counts = test.X.toarray()
    expected = metrics.expected_log_normalised(predicted)
    measured = np.log1p(counts * 1e4 / counts.sum(axis=1, keepdims=True))
    pearson = [stats.pearsonr(expected[:, i], measured[:, i])[0] for i in range(small_toy.n_vars)]
    np.testing.assert_allclose(evaluated.var[f"{KEY}_pearson"], pearson, atol=0.02)
    constant = np.broadcast_to(train.X.toarray().mean(axis=0), counts.shape)
    explained = 1 - metrics.poisson_deviance(predicted, counts) / metrics.poisson_deviance(constant, counts)
    np.testing.assert_allclose(evaluated.var[f"{KEY}_deviance_explained"], explained, atol=0.02)


def test_the_table_sums_the_genes_up(evaluated, table):
    genes, ceiling = evaluated.varm[f"{KEY}_by_method"], evaluated.var[f"{KEY}_ceiling"].to_numpy()
    assert list(table.index) == list(genes.columns) == METHODS
    np.testing.assert_array_equal(genes["sphisto"], evaluated.var[f"{KEY}_pearson"])
    for name in METHODS:
        scores, row = genes[name].to_numpy(), table.loc[name]
        assert row["mean_pearson"] == pytest.approx(scores.mean(), rel=1e-5)
        assert row["median_pearson"] == pytest.approx(np.median(scores), rel=1e-5)
        has = np.isfinite(ceiling)
        assert row["share_of_ceiling"] == pytest.approx(scores[has].mean() / ceiling[has].mean(), rel=1e-5)
        if name != "gaussian":
            assert row["better_than_gaussian"] == np.mean(scores > genes["gaussian"])
    assert np.isnan(table.loc["gaussian", "better_than_gaussian"])
    assert (table["seconds"] > 0).all()
    assert table.loc["sphisto", "seconds"] > table.loc["prior", "seconds"]


def test_the_table_shows_every_method_and_score_on_a_page(table):
    assert all(f">{name}</th>" in table._repr_html_() for name in (*METHODS, *table.columns))


def test_intervals_of_a_fit_hold_nine_counts_of_ten(evaluated, table):
    for name in ("sphisto", "prior"):
        assert 0.83 < table.loc[name, "coverage"] < 0.96
    assert evaluated.var[f"{KEY}_coverage"].mean() == pytest.approx(table.loc["sphisto", "coverage"], rel=1e-5)
    assert np.isnan(table.loc["gaussian", "coverage"])


def test_coverage_tells_right_variances_from_wrong_ones(rng):
    mean = rng.uniform(1, 20, (4000, 3))
    counts = rng.poisson(rng.gamma(4, mean / 4)).astype(float)  # rates of variance mean ** 2 / 4
    every = np.ones(3, bool)

    def coverage(times):
        halves = np.array_split(rng.permutation(len(mean)), 2)
        variances = [(rows, lambda rates: np.square(rates) / 4 * times) for rows in halves]
        found = _evaluate.score(
            {"sphisto": Prediction(mean, 1.0)}, sparse.csr_array(counts), mean.mean(axis=0), every,
            is_counts=True, rng=rng, variances=variances,
        )  # fmt: skip
        return found.coverage["sphisto"]

    np.testing.assert_allclose(coverage(1.0), 0.9, atol=0.02)
    assert (coverage(0.1) < 0.8).all()
    assert (coverage(4.0) > 0.95).all()


@pytest.mark.parametrize("is_counts", [True, False])
def test_scores_do_not_depend_on_how_much_is_in_memory_together(rng, is_counts):
    rate = rng.gamma(2, 2, (60, 7))
    counts, constant = sparse.csr_array(rng.poisson(rate).astype(float)), rate.mean(axis=0)
    told = {"sphisto": Prediction(rate, 1.0), "prior": Prediction(rate[::-1], 1.0)}
    scored = np.array([True, False, True, True, True, True, False])
    options = {"is_counts": is_counts, "variances": [(np.arange(60), lambda rates: rates / 4)]}
    once, parts = (
        _evaluate.score(told, counts, constant, scored, rng=np.random.default_rng(0), at_once=n, **options)
        for n in (10**6, 150)  # all five genes, or two of them
    )
    for name in ("deviance", "ceiling"):
        np.testing.assert_array_equal(getattr(once, name), getattr(parts, name))
    for name in ("pearson", "explained", "coverage"):
        ours, theirs = getattr(once, name), getattr(parts, name)
        assert set(ours) == set(theirs)
        for method in ours:
            np.testing.assert_allclose(ours[method], theirs[method], rtol=1e-12)
            assert ours[method].shape == (5,)


def test_a_perfect_predictor_reaches_the_ceiling_and_a_constant_nothing(rng):
    rate = rng.gamma(2, 5, (2000, 6))
    counts = rng.poisson(rate).astype(float)
    constant = rate.mean(axis=0)
    flat = Prediction(np.broadcast_to(constant, rate.shape), 1.0)
    told = {"sphisto": Prediction(rate, 1.0), "gaussian": flat}
    scores = _evaluate.score(told, sparse.csr_array(counts), constant, np.ones(6, bool), is_counts=True, rng=rng)
    table = _evaluate.methods_table(scores, {"sphisto": 1.0, "gaussian": 1.0})
    assert table.loc["sphisto", "share_of_ceiling"] == pytest.approx(1, abs=0.03)
    assert table.loc["gaussian", "mean_pearson"] == 0
    assert table.loc["gaussian", "deviance_explained"] == pytest.approx(0, abs=1e-9)
    deviances = [metrics.poisson_deviance(p, counts).sum() for p in (rate, flat.values)]
    assert table.loc["sphisto", "deviance_explained"] == pytest.approx(1 - deviances[0] / deviances[1])


# --- nothing leaks ----------------------------------------------------------------------------------------------------


def test_held_out_counts_change_no_prediction(small_toy, evaluated, told):
    held_out = evaluated.obs[f"{KEY}_held_out"].to_numpy()
    evaluate(small_toy.copy())
    counts = small_toy.X.toarray()
    counts[held_out] = counts[held_out][::-1, ::-1] * 7 + 1
    small_toy.X = sparse.csr_matrix(counts)
    evaluate(small_toy)
    np.testing.assert_array_equal(small_toy.obs[f"{KEY}_held_out"], held_out)
    for name in METHODS:
        np.testing.assert_array_equal(told[0][name].values, told[1][name].values)


@pytest.mark.slow
def test_genes_shuffled_among_spots_fall_to_chance():
    # many spots: among some ten held-out spots chance alone reaches high correlations
    adata = sp.datasets.toy(192, 192, pitch_um=16, spot_um=9, rng=1)
    rng = np.random.default_rng(0)
    adata.X = sparse.csr_matrix(np.column_stack([rng.permutation(column) for column in adata.X.toarray().T]))
    found = evaluate(adata, share=0.3)
    assert adata.uns[KEY]["split"]["held_out"] > 60
    assert abs(found.loc["sphisto", "mean_pearson"]) < 0.08
    assert found.loc["sphisto", "deviance_explained"] < 0.05


# --- what is written --------------------------------------------------------------------------------------------------


def test_what_is_written_survives_a_file(evaluated, table, tmp_path):
    import anndata

    record = evaluated.uns[KEY]
    pd.testing.assert_frame_equal(record["table"], table)
    assert record["params"]["rng"] == 0
    assert record["params"]["max_epochs"] == 2
    assert record["split"] == {"kind": "random", "share": 0.2, "held_out": 9, "scored": 9, "left": 35}
    assert record["ceiling"] == pytest.approx(np.nanmean(evaluated.var[f"{KEY}_ceiling"]), rel=1e-5)
    assert evaluated.obs[f"{KEY}_held_out"].sum() == 9
    evaluated.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(again.uns[KEY]["table"], table)
    pd.testing.assert_frame_equal(again.varm[f"{KEY}_by_method"], evaluated.varm[f"{KEY}_by_method"])
    assert again.var[f"{KEY}_pearson"].dtype == np.float32
    assert again.obs[f"{KEY}_held_out"].dtype == bool


def test_what_is_written_goes_into_a_store_with_a_later_fit(evaluated, table, tmp_path):
    sp.tl.fit_projection(evaluated, store=tmp_path / "a.zarr", max_epochs=1, device="cpu")
    import spatialdata as sd

    kept = sd.read_zarr(tmp_path / "a.zarr").tables["table"]
    pd.testing.assert_frame_equal(kept.uns[KEY]["table"], table)
    pd.testing.assert_frame_equal(kept.varm[f"{KEY}_by_method"], evaluated.varm[f"{KEY}_by_method"])


def test_a_spatialdata_is_evaluated_like_its_anndata(small_toy, store):
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    there = evaluate(sdata, image="toy_image", max_epochs=1)
    here = evaluate(small_toy, max_epochs=1)
    found = sdata.tables["table"]
    np.testing.assert_array_equal(found.obs[f"{KEY}_held_out"], small_toy.obs[f"{KEY}_held_out"])
    np.testing.assert_allclose(there["mean_pearson"], here["mean_pearson"], atol=0.01)


def test_copy_leaves_the_original_alone_and_one_seed_gives_one_result(small_toy, evaluated):
    before = small_toy.copy()
    changed = evaluate(small_toy, copy=True)
    assert list(small_toy.uns) == list(before.uns)
    assert list(small_toy.var) == list(before.var)
    assert list(small_toy.obs) == list(before.obs)
    np.testing.assert_array_equal(changed.var[f"{KEY}_pearson"], evaluated.var[f"{KEY}_pearson"])


def test_blocks_under_a_name_of_their_own(evaluated):
    evaluate(evaluated, split="blocks", share=0.3, max_epochs=1, key_added="far")
    assert evaluated.uns["far"]["split"]["kind"] == "blocks"
    assert {"evaluation_pearson", "far_pearson", "far_ceiling"} <= set(evaluated.var)
    assert evaluated.obs["far_held_out"].sum() == evaluated.uns["far"]["split"]["held_out"]


def test_nothing_is_left_on_disk(small_toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    evaluate(small_toy, max_epochs=1)
    assert not list(tmp_path.iterdir())


# --- other values and networks ----------------------------------------------------------------------------------------


def test_values_that_are_no_counts_are_compared_as_they_are(small_toy, told):
    small_toy.layers["half"] = small_toy.X * 0.5
    found = evaluate(sp.io.section(small_toy, layer="half"), max_epochs=1)
    assert found[["deviance_explained", "share_of_ceiling"]].isna().all(axis=None)
    assert small_toy.var[f"{KEY}_ceiling"].isna().all()
    truth = small_toy.layers["half"].toarray()[small_toy.obs[f"{KEY}_held_out"]]
    expected = [stats.pearsonr(a, b)[0] for a, b in zip(told[0]["nearest"].values.T, truth.T, strict=True)]
    np.testing.assert_allclose(small_toy.varm[f"{KEY}_by_method"]["nearest"], expected, rtol=1e-5)


def test_rare_genes_are_not_scored(small_toy):
    counts = small_toy.X.toarray()
    counts[1:, 0] = 0
    small_toy.X = counts
    evaluate(small_toy, max_epochs=1)
    assert np.isnan(small_toy.var[f"{KEY}_pearson"]).tolist() == [True] + [False] * (small_toy.n_vars - 1)


def test_the_seed_network_is_scored_on_its_genes(small_toy):
    found = evaluate(small_toy, network="prototype", genes=["nuclei_a", "class1_a"], max_epochs=1)
    assert list(found.index) == METHODS
    scored = small_toy.var_names[np.isfinite(small_toy.var[f"{KEY}_pearson"])]
    assert set(scored) == {"nuclei_a", "class1_a"}


# --- refused before anything is done ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"share": 1.0}, ValueError, "Found share=1; expected a number between 0 and 1"),
        ({"share": 0.0}, ValueError, "Found share=0; expected"),
        ({"split": "rows"}, ValueError, "Found split='rows'; expected one of 'random', 'blocks'"),
        ({"share": 0.05}, ValueError, "44 spots with counts, of which share=0.05 holds out 2 .*expected at least 5"),
        ({"share": 0.9}, ValueError, "leaves 4; expected at least 5 held out and 10 left"),
        ({"genes": ["Nrgn"]}, KeyError, "Found no gene 'Nrgn' among"),
        ({"genes": []}, ValueError, "empty list of genes"),
        ({"network": "prototype"}, ValueError, "models single genes, found none named"),
        ({"config": "fas"}, ValueError, "Found config='fas'; expected a"),
        ({"config": FitConfig(train=TrainConfig(devices=999))}, ValueError, "devices=999"),
        ({"features": "colour"}, ValueError, "Found features='colour'; expected \"texture\""),
        ({"network": "resnet"}, ValueError, "expected one of 'unet', 'prototype'"),
    ],
)
def test_wrong_arguments_are_said_at_once(small_toy, options, error, message, monkeypatch):
    monkeypatch.setattr(_evaluate, "predict_at_spots", None)
    with pytest.raises(error, match=message):
        evaluate(small_toy, **options)
    assert KEY not in small_toy.uns
