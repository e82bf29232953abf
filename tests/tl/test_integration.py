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
    with pytest.raises(KeyError, match="Found no 'projection' in obsm, and no projection"):
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


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """Two sections that were fitted together, and the same as one table."""
    tables = []
    for number, name in enumerate(("one", "two"), 1):
        tables.append(sp.datasets.toy(96, 112, pitch_um=24, rng=number))
        tables[-1].uns["spatial"][name] = tables[-1].uns["spatial"].pop("toy")
        tables[-1].obs["kind"] = np.where(tables[-1].obsm["spatial"][:, 0] < 50, "left", "right")
    joined = ad.concat(dict(zip(("one", "two"), tables, strict=True)), label="slide", index_unique="-")
    joined.uns["spatial"] = {
        name: table.uns["spatial"][name] for name, table in zip(("one", "two"), tables, strict=True)
    }
    folder, options = tmp_path_factory.mktemp("joint"), {"max_epochs": 1, "device": "cpu"}
    sp.tl.fit_projection(tables, store=folder / "list.zarr", **options)
    sp.tl.fit_projection(joined, library_key="slide", store=folder / "joined.zarr", **options)
    return tables, joined


def test_sections_that_were_fitted_together_are_judged_in_one_call(sections, tmp_path):
    tables, joined = sections
    assert sp.tl.integration(joined, label_key="kind") is None
    copies = sp.tl.integration(tables, label_key="kind", copy=True)
    assert "integration" not in tables[0].uns
    assert [list(each.obs["integration_section"].unique()) for each in copies] == [["one"], ["two"]]
    found = joined.uns["integration"]["table"]
    for each in copies:
        np.testing.assert_allclose(each.uns["integration"]["table"], found, atol=0.05)
        assert each.obsm["integration_umap_after"].shape == (each.n_obs, 2)
    after = np.concatenate([each.obsm["integration_after"] for each in copies])
    np.testing.assert_allclose(np.square(after).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(after, joined.obsm["integration_after"], atol=1e-4)
    assert list(joined.obs["integration_section"]) == list(joined.obs["slide"])
    joined.write_h5ad(tmp_path / "joined.h5ad")
    for drawn in (joined, copies):
        assert len(sp.pl.integration(drawn, show=False)) == 6 + 2
        sp.pl.integration(drawn, gene="class1_a", show=False)


def test_a_list_of_tables_is_judged_by_any_entry(sections):
    tables = [table.copy() for table in sections[0]]
    for table in tables:
        table.obsm["own"] = np.log1p(table.X.toarray()[:, :4])
        table.obs["slide"] = next(iter(table.uns["spatial"]))
    sp.tl.integration(tables, after="own")
    sp.tl.integration(tables, after="own", section_key="slide", key_added="again")
    np.testing.assert_array_equal(tables[1].uns["again"]["table"], tables[1].uns["integration"]["table"])
    tables[1].obsm["own"] = tables[1].obsm["own"][:, :3]
    with pytest.raises(ValueError, match="'own' of 3 and 4 columns"):
        sp.tl.integration(tables, after="own")


def test_what_tells_no_sections_apart_is_refused(drawn, sections):
    with pytest.raises(KeyError, match="a table of 0 libraries; .*`section_key`"):
        sp.tl.integration(drawn, after="corrected")
    with pytest.raises(ValueError, match="Found 'one' of 44 spots; expected"):
        sp.tl.integration(sections[0][0])
    other = sections[0][1].copy()
    other.var_names = [f"gene{i}" for i in range(other.n_vars)]
    with pytest.raises(ValueError, match="no gene that all tables have"):
        sp.tl.integration([sections[0][0], other])


def test_what_single_spots_say_is_judged_beside_what_was_fitted(sections):
    """Two draws of one kind of section: nothing but chance tells them apart, before as after."""
    found = sp.tl.integration(sections[0], copy=True)
    table = found[0].uns["integration"]["table"]
    assert list(table.index)[:3] == ["before", "spots", "after"]
    assert abs(table.loc["spots", "section_accuracy"] - 0.5) < 0.15
    assert found[1].obsm["integration_umap_spots"].shape == (found[1].n_obs, 2)


def test_of_tables_that_hold_no_counts_any_more_single_spots_say_nothing(sections):
    tables = [table.copy() for table in sections[0]]
    for table in tables:
        table.obsm["own"] = np.log1p(table.X.toarray()[:, :4])
        table.X = np.log1p(table.X.toarray())
    sp.tl.integration(tables, before="own")
    assert "spots" not in tables[0].uns["integration"]["table"].index


def test_counts_in_factors_are_those_of_the_fit(sections, tmp_path):
    """Oracle: the factors that a fit puts a section's counts in, by its own model."""
    from sphisto.genes.observations import observe
    from sphisto.io.slides import make_slide
    from sphisto.tl import _gathered

    tables = sections[0]
    found = _gathered.own(tables, "projection", "counts")
    slide = make_slide(sp.io.section(tables[0]))
    loadings = np.asarray(tables[0].varm["projection_one_loadings"], dtype=np.float32)
    model = sp.genes.model.GeneModel(tuple(tables[0].var_names), loadings, int((loadings < 0).any(axis=0).sum()))
    seen = observe(slide, model, np.ones(tables[0].n_obs, bool), sp.config.FitConfig().genes)
    expected = seen.plain / seen.plain.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.square(found[: tables[0].n_obs]), expected, atol=2e-3)
