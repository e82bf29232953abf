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


@pytest.mark.parametrize("matrix", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_what_goes_is_what_a_count_by_hand_says(matrix):
    adata = table(matrix=matrix)
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
@pytest.mark.parametrize("matrix", [sparse.csr_matrix, np.asarray])
def test_only_raw_counts_are_taken(value, message, matrix):
    counts = np.ones((5, 6), np.float32)
    counts[3, 4] = value
    with pytest.raises(ValueError, match=rf"adata.X holds a.* {message}, expected raw counts"):
        pp.qc(ad.AnnData(matrix(counts)), min_genes=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_whole_numbers_of_any_dtype_are_counts(dtype):
    adata = ad.AnnData(np.ones((5, 6), dtype))
    pp.qc(adata, min_genes=1)
    assert adata.shape == (5, 6)
