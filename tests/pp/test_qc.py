from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sphisto import pp


def table(n_obs=60, n_vars=80, *, matrix=sparse.csr_matrix, rng=0):
    """Counts with empty spots, one crowded spot, rare genes and two mitochondrial ones."""
    counts = np.random.default_rng(rng).poisson(1.0, (n_obs, n_vars))
    counts[:5, 10:] = 0
    counts[5] *= 100
    counts[:, 3:6] = 0
    counts[7:9, 3] = counts[10:13, 4] = 1
    var = pd.DataFrame(index=[f"Gene{i}" for i in range(n_vars - 2)] + ["mt-Nd1", "MT.CO1"])
    obs = pd.DataFrame({"array_row": range(n_obs)}, index=[f"spot{i}" for i in range(n_obs)])
    adata = ad.AnnData(matrix(counts.astype(np.float32)), obs=obs, var=var)
    adata.obsm["spatial"] = np.arange(2.0 * n_obs).reshape(n_obs, 2)
    return adata


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_what_goes_is_what_a_count_by_hand_says(form):
    adata = table(matrix=form)
    counts = adata.X.toarray() if sparse.issparse(adata.X) else adata.X.copy()
    few = (counts > 0).sum(1) < 20
    many = counts.sum(1) > 500
    rare = (counts[~few & ~many] > 0).sum(0) < 3

    assert pp.qc(adata, min_genes=20, min_cells=3, max_counts=500) is None

    assert few.sum() == 5
    assert many.sum() == 1
    kept = counts[~few & ~many][:, ~rare]
    assert np.array_equal(adata.X.toarray() if sparse.issparse(adata.X) else adata.X, kept)
    assert adata.uns["qc"] == {
        "params": {"min_genes": 20, "min_cells": 3, "max_counts": 500},
        "removed": {"spots": 6, "spots_below_min_genes": 5, "spots_above_max_counts": 1, "genes": int(rare.sum())},
    }
    assert adata.obsm["spatial"].shape == (54, 2)
    assert adata.obs["array_row"].tolist() == np.flatnonzero(~few & ~many).tolist()


def small(form):
    counts = np.random.default_rng(0).poisson(1.0, (40, 12)).astype(np.float32)
    counts[:4] = counts[:, 3] = 0
    names = [f"g{i}" for i in range(11)] + ["mt-x"]
    obs = pd.DataFrame(index=[f"s{i}" for i in range(40)])
    return ad.AnnData(form(counts), obs=obs, var=pd.DataFrame(index=names), layers={"twice": form(2 * counts)})


@pytest.mark.filterwarnings("ignore:.*np.matrix")
@pytest.mark.parametrize("part", [slice(None), slice(2, 30)], ids=["whole", "view"])
def test_every_kind_of_matrix_gives_the_same_numbers(matrix, part):
    adata, expected = small(matrix)[part], small(sparse.csr_matrix)[part].copy()
    if part == slice(None):
        adata = small(matrix)
    pp.qc(adata, min_genes=5, max_counts=15)
    pp.qc(expected, min_genes=5, max_counts=15)
    assert not adata.is_view
    assert expected.shape != (40, 12)
    pd.testing.assert_frame_equal(adata.obs, expected.obs)
    pd.testing.assert_frame_equal(adata.var, expected.var)
    assert adata.uns["qc"] == expected.uns["qc"]
    assert np.array_equal(dense(adata.X), dense(expected.X))
    assert np.array_equal(dense(adata.layers["twice"]), 2 * dense(expected.X))


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, np.asarray])
def test_the_kind_of_matrix_stays(form):
    adata = small(form)
    kind = type(adata.X)
    pp.qc(adata, min_genes=5)
    assert type(adata.X) is kind


def dense(x):
    x = x.compute() if hasattr(x, "compute") else x
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


def test_raw_and_all_that_is_aligned_go_along():
    adata = small(sparse.csr_matrix)
    adata.raw = adata
    adata.obsm["spatial"], adata.varm["w"] = np.arange(80.0).reshape(40, 2), np.arange(12.0)[:, None]
    adata.obsp["near"] = sparse.eye_array(40, format="csr")
    counts = adata.X.toarray()
    kept = (counts > 0).sum(1) >= 5
    pp.qc(adata, min_genes=5)
    assert np.array_equal(adata.raw.X.toarray(), counts[kept])
    assert adata.raw.n_vars == 12
    assert adata.n_vars == 11
    assert np.array_equal(adata.obsm["spatial"][:, 0], 2 * np.flatnonzero(kept))
    assert adata.varm["w"].ravel().tolist() == [0, 1, 2, *range(4, 12)]
    assert adata.obsp["near"].shape == (kept.sum(),) * 2


def test_tables_that_cannot_be_changed_are_refused(tmp_path):
    small(sparse.csr_matrix).write_h5ad(tmp_path / "a.h5ad")
    for backed in (ad.read_h5ad(tmp_path / "a.h5ad", backed="r"), ad.read_h5ad(tmp_path / "a.h5ad", backed="r")[:20]):
        with pytest.raises(
            ValueError, match=r"stays in its file \(.*a.h5ad\).*Call `adata = adata.to_memory\(\)` first"
        ):
            pp.qc(backed, min_genes=5)
    loaded = ad.read_h5ad(tmp_path / "a.h5ad", backed="r").to_memory()
    pp.qc(loaded, min_genes=5)
    expected = pp.qc(small(sparse.csr_matrix), min_genes=5, copy=True)
    assert np.array_equal(loaded.X.toarray(), expected.X.toarray())


@pytest.mark.filterwarnings("ignore")
def test_a_table_with_lazy_columns_is_refused(tmp_path):
    small(sparse.csr_matrix).write_zarr(tmp_path / "a.zarr")
    lazy = ad.experimental.read_lazy(tmp_path / "a.zarr")
    with pytest.raises(ValueError, match=r"lazy table \(`obs` is a Dataset2D\).*to_memory"):
        pp.qc(lazy, min_genes=5)
    loaded = lazy.to_memory()
    pp.qc(loaded, min_genes=5)
    assert loaded.shape == pp.qc(small(sparse.csr_matrix), min_genes=5, copy=True).shape


def test_masked_values_are_refused():
    counts = np.ma.masked_equal(np.eye(6, dtype=np.float32) + 1, 2)
    with pytest.raises(ValueError, match=r"Found 6 masked values in adata.X.*filled"):
        pp.qc(ad.AnnData(counts), min_genes=1)


def test_counts_in_raw_are_pointed_to():
    adata = small(sparse.csr_matrix)
    adata.raw = adata
    adata.X = adata.X.log1p()
    with pytest.raises(
        ValueError, match=r"adata.X holds a value .* they are in adata.raw.*`adata = adata.raw.to_adata"
    ):
        pp.qc(adata, min_genes=5)
    counts = adata.raw.to_adata()
    pp.qc(counts, min_genes=5)
    assert counts.shape == pp.qc(small(sparse.csr_matrix), min_genes=5, copy=True).shape


def test_mitochondrial_genes_are_those_that_the_user_marked(caplog):
    adata = small(sparse.csr_matrix)
    adata.var["mt"] = pd.array([True, None] + [False] * 10, dtype="boolean")
    counts = adata.X.toarray()
    with caplog.at_level(logging.INFO, logger="sphisto"):
        pp.qc(adata, min_genes=5)
    assert "var['mt'] marks 1 genes, their names 1: the column is used" in caplog.text
    assert adata.obs["total_counts_mt"].tolist() == counts[(counts > 0).sum(1) >= 5, 0].tolist()
    adata.var["mt"] = "no"
    with pytest.raises(ValueError, match=r"Found var\['mt'\] of type .*; expected true and false"):
        pp.qc(adata, min_genes=5)


def test_a_column_of_another_case_is_taken_for_the_users_or_refused(caplog):
    adata = small(sparse.csr_matrix)
    adata.var["MT"] = adata.var_names == "g0"
    counts = adata.X.toarray()
    with caplog.at_level(logging.INFO, logger="sphisto"):
        pp.qc(adata, min_genes=5)
    assert "var['MT'] marks 1 genes, their names 1: the column is used" in caplog.text
    assert adata.obs["total_counts_mt"].tolist() == counts[(counts > 0).sum(1) >= 5, 0].tolist()
    assert "mt" not in adata.var
    other = small(sparse.csr_matrix)
    other.var["Mt"] = "unknown"
    with pytest.raises(ValueError, match=r"Found var\['Mt'\], whose name differs in case only from var\['mt'\]"):
        pp.qc(other, min_genes=5)
    del other.var["Mt"]
    other.obs["Total_Counts"] = 1
    with pytest.raises(ValueError, match=r"Found obs\['Total_Counts'\], .* Rename or remove that column"):
        pp.qc(other, min_genes=5)
    assert other.shape == (40, 12)
    assert list(other.var) == []


def ensembl(adata):
    """Give genes Ensembl's ids for names; return their symbols."""
    symbols = list(adata.var_names)
    adata.var_names = [f"ENSMUSG{i:011d}.2" for i in range(adata.n_vars)]
    return symbols


def test_mitochondrial_genes_are_found_by_symbols_where_names_are_ids(caplog):
    adata, expected = small(sparse.csr_matrix), small(sparse.csr_matrix)
    adata.var["class"] = "MT-like"  # the same of all: no symbols
    adata.var["SYMBOL"] = ensembl(adata)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        pp.qc(adata, min_genes=5)
    pp.qc(expected, min_genes=5)
    assert "by var['SYMBOL'] 1 are mitochondrial" in caplog.text
    assert adata.obs["total_counts_mt"].max() > 0
    assert adata.obs["total_counts_mt"].tolist() == expected.obs["total_counts_mt"].tolist()


def test_ids_that_tell_no_mitochondrial_genes_are_warned_of(caplog):
    adata = small(sparse.csr_matrix)
    adata.var["SYMBOL"] = [name.removeprefix("mt-") for name in ensembl(adata)]
    pp.qc(adata, min_genes=5)
    assert "no gene is taken for mitochondrial" in caplog.text
    caplog.clear()
    panel = small(sparse.csr_matrix)[:, :11].copy()  # symbols, none of them mitochondrial
    pp.qc(panel, min_genes=5)
    assert "mitochondrial" not in caplog.text


def test_an_entry_of_the_users_is_not_overwritten():
    adata = small(sparse.csr_matrix)
    adata.uns["qc"] = "passed by Anna"
    with pytest.raises(ValueError, match=r"Found uns\['qc'\], which sphisto did not write"):
        pp.qc(adata, min_genes=5)
    assert adata.shape == (40, 12)
    del adata.uns["qc"]
    pp.qc(adata, min_genes=5)
    pp.qc(adata, min_genes=6)
    assert adata.uns["qc"]["params"]["min_genes"] == 6


TEXTS = ["object", "str", "string[python]", "string[pyarrow]", "category"]


@pytest.mark.parametrize("text", TEXTS)
def test_names_and_columns_of_every_type_of_text(text):
    adata = small(sparse.csr_matrix)
    adata.obs["note"] = pd.Series([f"n{i % 3}" for i in range(40)], index=adata.obs_names).astype(text)
    adata.obs["number"] = pd.array([None, *range(39)], dtype="Int64")
    if text != "category":
        adata.obs.index, adata.var.index = adata.obs.index.astype(text), adata.var.index.astype(text)
    expected = pp.qc(small(sparse.csr_matrix), min_genes=5, copy=True)
    pp.qc(adata, min_genes=5)
    assert list(adata.obs_names) == list(expected.obs_names)
    assert list(adata.obs["note"]) == [f"n{int(name[1:]) % 3}" for name in expected.obs_names]
    assert adata.obs["number"].tolist() == [int(name[1:]) - 1 for name in expected.obs_names]
    assert adata.var_names[adata.var["mt"]].tolist() == ["mt-x"]
    assert np.array_equal(adata.obs["pct_counts_mt"], expected.obs["pct_counts_mt"])


def test_measures_are_those_before_filtering():
    adata = table()
    counts = adata.X.toarray()
    pp.qc(adata, min_genes=20, max_counts=500)
    kept = adata.obs["array_row"].to_numpy()
    assert np.array_equal(adata.obs["total_counts"], counts[kept].sum(1))
    assert np.allclose(adata.obs["pct_counts_mt"], 100 * counts[kept, -2:].sum(1) / counts[kept].sum(1))
    assert adata.var_names[adata.var["mt"]].tolist() == ["mt-Nd1", "MT.CO1"]
    names = {"Gene0": 0, "Gene20": 20}
    assert [adata.var["n_cells_by_counts"][name] for name in names] == [
        (counts[:, i] > 0).sum() for i in names.values()
    ]


def test_a_copy_leaves_the_table_alone():
    adata = table()
    out = pp.qc(adata, min_genes=20, copy=True)
    assert adata.shape == (60, 80)
    assert "qc" not in adata.uns
    assert "total_counts" not in adata.obs
    assert out.n_obs == 55


def test_a_view_and_repeated_names_are_fine():
    adata = table()
    adata.var_names = ["Twice", "Twice", *adata.var_names[2:]]
    part = adata[:50]
    pp.qc(part, min_genes=20)
    assert part.n_obs == 45
    assert adata.n_obs == 60


def test_it_says_what_went(caplog):
    with caplog.at_level(logging.INFO, logger="sphisto"):
        pp.qc(table(), min_genes=20, max_counts=500)
    assert "left out 6 spots (5 with fewer than 20 genes, 1 with more than 500 counts)" in caplog.text


def test_the_record_can_be_written(tmp_path):
    adata = table()
    pp.qc(adata, min_genes=20, max_counts=float("inf"))
    adata.write_h5ad(tmp_path / "qc.h5ad")
    assert ad.read_h5ad(tmp_path / "qc.h5ad").uns["qc"]["removed"]["spots"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "The table has 80 genes, so no spot can have min_genes=200"),
        ({"min_genes": 79}, "60 of 60 have fewer than min_genes=79 genes"),
        ({"min_genes": 0, "max_counts": 3}, r"60 more than max_counts=3 counts .* raise max_counts"),
        ({"min_genes": 20, "min_cells": 61}, "No gene is found in min_cells=61 spots: .* in 4. of the 55 spots kept"),
    ],
)
def test_nothing_is_changed_if_nothing_would_be_left(arguments, message):
    adata = table()
    with pytest.raises(ValueError, match=message):
        pp.qc(adata, **arguments)
    assert adata.shape == (60, 80)
    assert list(adata.obs) == ["array_row"]
    assert list(adata.var) == []
    assert not adata.uns


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"not finite \(nan\)"),
        (np.inf, r"not finite \(inf\)"),
        (-1.0, r"negative value \(-1\)"),
        (0.5, r"not a whole number \(0.5\)"),
    ],
)
@pytest.mark.parametrize("form", [sparse.csr_matrix, np.asarray])
def test_only_raw_counts_are_taken(value, message, form):
    counts = np.ones((5, 6), np.float32)
    counts[3, 4] = value
    with pytest.raises(ValueError, match=rf"adata.X holds a.* {message}, expected raw counts"):
        pp.qc(ad.AnnData(form(counts)), min_genes=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_whole_numbers_of_any_dtype_are_counts(dtype):
    adata = ad.AnnData(np.ones((5, 6), dtype))
    pp.qc(adata, min_genes=1)
    assert adata.shape == (5, 6)
