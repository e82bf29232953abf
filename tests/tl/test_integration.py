"""Sections with a known difference of theirs and a known biology."""

from __future__ import annotations

import importlib.util
import logging

import anndata as ad
import numpy as np
import pytest

import sphisto as sp

HAS_HARMONY = importlib.util.find_spec("harmonypy") is not None


def offsets(counts, sections, expected, pseudo=20):
    """(sections, G) logarithms by which each section's genes exceed what is expected of them."""
    sums = [[part[sections == s].sum(axis=0) for s in np.unique(sections)] for part in (counts, expected)]
    return np.log((np.array(sums[0]) + pseudo) / (np.array(sums[1]) + pseudo))


@pytest.fixture(scope="module")
def drawn_once():
    """Two sections of two tissues; each gene is caught better or worse in the second section."""
    rng = np.random.default_rng(0)
    kind, section = np.tile([0, 1], 80), np.repeat([0, 1], 80)
    profile = rng.gamma(2, 8, (2, 60))
    catch = np.exp(np.stack([np.zeros(60), rng.normal(0, 0.7, 60)]))
    counts = rng.poisson(profile[kind] * catch[section]).astype(np.float32)
    adata = ad.AnnData(counts)
    adata.obs["section"] = np.array(["a", "b"])[section]
    adata.obs["kind"] = np.array(["x", "y"])[kind]
    adata.obsm["spatial"] = np.column_stack([np.arange(160) % 10, np.arange(160) // 10]).astype(float)
    pooled = np.stack([counts[kind == k].mean(axis=0) for k in (0, 1)])[kind]
    adata.obsm["corrected"] = np.log1p(counts / np.exp(offsets(counts, section, pooled))[section])
    return adata


@pytest.fixture
def drawn(drawn_once):
    return drawn_once.copy()


def test_offsets_bring_sections_together_and_keep_tissues_apart(drawn):
    counts = drawn.X.copy()
    sp.tl.integration(drawn, section_key="section", after="corrected", label_key="kind")
    table, chance = drawn.uns["integration"]["table"], drawn.uns["integration"]["chance"]
    assert table.loc["before", "section_accuracy"] > 0.98
    assert table.loc["after", "section_accuracy"] < 0.65
    assert chance["section_accuracy"] == 0.5
    assert table.loc["before", "section_mixing"] < 0.1
    assert table.loc["after", "section_mixing"] > 0.7
    assert table.loc["after", "label_purity"] > 0.98
    assert chance["label_purity"] == pytest.approx(0.5)
    assert list(table.index) == ["before", "after", *(["harmony"] if HAS_HARMONY else [])]
    np.testing.assert_array_equal(drawn.X, counts)
    for stage in table.index:
        assert drawn.obsm[f"integration_umap_{stage}"].shape == (160, 2)


def test_the_same_seed_gives_the_same_and_the_table_can_be_written(drawn, tmp_path):
    again = sp.tl.integration(drawn, section_key="section", after="corrected", rng=1, copy=True)
    assert "integration" not in drawn.uns
    sp.tl.integration(drawn, section_key="section", after="corrected", rng=1)
    np.testing.assert_array_equal(again.uns["integration"]["table"], drawn.uns["integration"]["table"])
    np.testing.assert_array_equal(again.obsm["integration_umap_after"], drawn.obsm["integration_umap_after"])
    drawn.write_h5ad(tmp_path / "drawn.h5ad")
    read = ad.read_h5ad(tmp_path / "drawn.h5ad").uns["integration"]
    np.testing.assert_array_equal(read["table"].to_numpy(), drawn.uns["integration"]["table"].to_numpy())
    assert read["params"]["section_key"] == "section"


def test_spots_without_values_are_left_out(drawn, caplog):
    drawn.obsm["corrected"][:5] = np.nan
    with caplog.at_level(logging.INFO, "sphisto"):
        sp.tl.integration(drawn, section_key="section", after="corrected")
    assert "5 of 160 spots have no section or no values" in caplog.text
    assert np.isnan(drawn.obsm["integration_umap_after"][:5]).all()
    assert np.isfinite(drawn.obsm["integration_umap_after"][5:]).all()


def test_without_harmony_a_message_says_how_to_have_it(drawn, caplog, monkeypatch):
    monkeypatch.setattr("sphisto.tl._integration.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "sphisto"):
        sp.tl.integration(drawn, section_key="section", after="corrected")
    assert "pip install 'sphisto[integration]'" in caplog.text
    assert "harmony" not in drawn.uns["integration"]["table"].index


def test_what_cannot_be_judged_is_refused(drawn):
    with pytest.raises(KeyError, match="Found no column 'slide' in obs; it has section, kind"):
        sp.tl.integration(drawn, section_key="slide", after="corrected")
    with pytest.raises(KeyError, match="Found no 'projection_fitted' in obsm"):
        sp.tl.integration(drawn, section_key="section")
    with pytest.raises(ValueError, match="at least two sections of 20 spots"):
        sp.tl.integration(drawn[:90].copy(), section_key="section", after="corrected")
    half = drawn.copy()
    half.X = half.X / 2
    with pytest.raises(ValueError, match="expected raw counts"):
        sp.tl.integration(half, section_key="section", after="corrected")
    drawn.uns["integration"] = "mine"
    with pytest.raises(ValueError, match="Give another `key_added`"):
        sp.tl.integration(drawn, section_key="section", after="corrected")
