"""Scores of several sections: at held-out spots of each, and at sections that are left out as a whole."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sphisto as sp
from sphisto.tl import _evaluate_sections

NAMES = ("one", "two")


def toy(name, seed):
    adata = sp.datasets.toy(96, 112, pitch_um=24, rng=seed)
    adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
    return adata


@pytest.fixture
def sections():
    return [toy("one", 1), toy("two", 2)]


def evaluate(sections, **options):
    return sp.tl.evaluate(sections, **{"max_epochs": 1, "device": "cpu", **options})


@pytest.fixture
def predictions(monkeypatch):
    """What was predicted, by section and method, in the order of the calls."""
    noted = []
    score = _evaluate_sections.score

    def noting(predicted, truth, constant, scored, **options):
        pieces = list(options.pop("variances"))
        variances = [of(np.ones((len(rows), int(scored.sum())))) for rows, of in pieces]
        noted.append(({**predicted, "variances": np.concatenate(variances)}, truth.toarray()))
        return score(predicted, truth, constant, scored, variances=pieces, **options)

    monkeypatch.setattr(_evaluate_sections, "score", noting)
    return noted


def assert_same_predictions(one, other, methods):
    for method in methods:
        np.testing.assert_array_equal(one[method].values, other[method].values)
    np.testing.assert_array_equal(one["variances"], other["variances"])


METHODS = {
    "random": ["sphisto", "prior", "gaussian", "nearest"],
    "blocks": ["sphisto", "prior", "gaussian", "nearest"],
    "section": ["sphisto", "prior", "mean"],
}


@pytest.mark.parametrize("split", METHODS)
def test_scores_of_each_section_by_method(sections, split):
    table = evaluate(sections, split=split, share=0.45)
    assert table.index.names == ["section", "method"]
    assert list(table.index) == [(name, method) for name in NAMES for method in METHODS[split]]
    for name, adata in zip(NAMES, sections, strict=True):
        key = f"evaluation_{name}"
        assert [entry for entry in adata.uns if "evaluation" in entry] == [key]
        record, held_out = adata.uns[key], adata.obs[f"{key}_held_out"].to_numpy()
        pd.testing.assert_frame_equal(record["table"], table.loc[name])
        assert record["split"]["kind"] == split
        assert record["split"]["held_out"] == held_out.sum()
        assert record["split"]["left"] == (~held_out).sum()
        assert held_out.all() == (split == "section")
        assert held_out.any()
        assert record["params"]["library_id"] == name
        assert list(record["params"]["sections"]) == list(NAMES)
        assert list(adata.varm[f"{key}_by_method"].columns) == METHODS[split]
        scored = adata.var[f"{key}_pearson"].notna()
        assert scored.sum() > 10
        expected = adata.var[f"{key}_pearson"].mean()
        np.testing.assert_allclose(table.loc[(name, "sphisto"), "mean_pearson"], expected, rtol=1e-4)
        assert 0.6 < table.loc[(name, "sphisto"), "coverage"] <= 1
    assert table["seconds"].max() > 0


def test_a_section_that_is_left_out_is_predicted_better_than_by_the_others_mean(sections):
    found = evaluate(sections, split="section")
    table = found["mean_pearson"].unstack()
    assert (table["sphisto"] > table["mean"] + 0.15).all()
    assert found["better_than_gaussian"].isna().all()  # there are no spots to interpolate
    axes = sp.pl.evaluation(sections[0], key=f"evaluation_{NAMES[0]}", show=False)
    assert axes[0].get_title() == f"all {sections[0].n_obs} spots held out"


def test_what_a_left_out_section_measured_changes_no_prediction_of_it(sections, predictions):
    evaluate(sections, split="section")
    sections[1].X = sections[1].X[::-1] * 3
    evaluate(sections, split="section", key_added="again")
    (_, before), (of_two, two), (_, after), (again, changed) = predictions
    np.testing.assert_array_equal(before, after)
    assert not np.array_equal(two, changed)
    assert_same_predictions(of_two, again, METHODS["section"])
    assert not np.array_equal(
        predictions[0][0]["prior"].values, predictions[2][0]["prior"].values
    )  # of the other it does


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_what_held_out_spots_measured_changes_no_prediction(sections, predictions, split):
    evaluate(sections, split=split, share=0.45)
    for name, adata in zip(NAMES, sections, strict=True):
        counts = adata.X.toarray()
        counts[adata.obs[f"evaluation_{name}_held_out"].to_numpy()] *= 3
        adata.X = counts
    evaluate(sections, split=split, share=0.45, key_added="again")
    for (one, truth), (other, changed) in zip(predictions[:2], predictions[2:], strict=True):
        np.testing.assert_array_equal(3 * truth, changed)
        assert_same_predictions(one, other, METHODS[split])


def test_genes_that_are_named_are_scored(sections):
    evaluate(sections, genes=["class1_a", "nuclei_a"])
    for name, adata in zip(NAMES, sections, strict=True):
        scored = adata.var_names[adata.var[f"evaluation_{name}_pearson"].notna()]
        assert set(scored) == {"class1_a", "nuclei_a"}


def test_copies_leave_the_sections_as_they_were(sections):
    changed = evaluate(sections, copy=True)
    assert [f"evaluation_{name}" in adata.uns for name, adata in zip(NAMES, changed, strict=True)] == [True, True]
    assert not any("evaluation" in key for adata in sections for key in adata.uns)


def test_sections_of_one_table(sections):
    joined = ad.concat(dict(zip(NAMES, sections, strict=True)), label="sample", merge="same", index_unique="-")
    joined.uns["spatial"] = {name: adata.uns["spatial"][name] for name, adata in zip(NAMES, sections, strict=True)}
    expected, table = evaluate(sections), evaluate(joined, library_key="sample")
    columns = table.columns.drop("seconds")
    pd.testing.assert_frame_equal(table[columns], expected[columns], rtol=1e-5)
    for name in NAMES:
        own = (joined.obs["sample"] == name).to_numpy()
        held_out = joined.obs[f"evaluation_{name}_held_out"].to_numpy()
        assert held_out[own].any()
        assert not held_out[~own].any()
    changed = evaluate(joined, library_key="sample", key_added="again", copy=True)
    assert isinstance(changed, ad.AnnData)
    assert {"again_one", "again_two"} <= set(changed.uns)


def test_a_section_of_too_few_spots_is_named(sections):
    with pytest.raises(ValueError, match=r"share=0\.05 holds out 2 .*more spots than 'one'"):
        evaluate(sections, share=0.05)


def test_one_section_cannot_be_left_out_of_one(sections):
    with pytest.raises(ValueError, match="section"):
        evaluate(sections[0], split="section")


def test_a_key_that_is_taken_is_refused_before_long_work(sections, monkeypatch):
    monkeypatch.setattr(_evaluate_sections, "fit_sections", None)
    sections[1].uns["evaluation_two"] = "mine"
    with pytest.raises(ValueError, match="evaluation_two"):
        evaluate(sections)
    with pytest.raises(ValueError, match="Found key_added=None; expected"):
        evaluate(sections, key_added=None)


def test_a_left_out_section_is_told_what_was_measured_at_its_places(registration):
    """Halves of the counts of one section: the other half tells more than the image does, also of two sections alone."""
    drawn = sp.datasets.toy(160, 160, pitch_um=24, mean_counts=40, rng=1)
    one, two = drawn.copy(), drawn.copy()
    for name, adata in zip(NAMES, (one, two), strict=True):
        adata.uns["spatial"] = {name: drawn.uns["spatial"]["toy"]}
    half = np.random.default_rng(0).binomial(one.X.toarray().astype(int), 0.5)
    one.X, two.X = type(one.X)((one.X.toarray() - half).astype(np.float32)), type(two.X)(half.astype(np.float32))
    sections = [sp.io.section(each) for each in (one, two)]
    um = tuple(each.grid.fullres_um_per_px for each in sections)
    laid = [sections[0], sections[1].registered(registration("two", "one", 0, (0.0, 0.0), um))]
    alone, together = (
        evaluate(each, split="section")["mean_pearson"].xs("prior", level=1) for each in (sections, laid)
    )
    assert (together > alone + 0.01).all()
