from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sphisto.io.rows import read_rows, taken


@pytest.fixture
def matrix(rng):
    return sparse.random(3000, 7, 0.2, format="csr", dtype=np.float32, random_state=1)


@pytest.mark.parametrize(
    "rows", [[0], [2999], [0, 1, 2], [5, 60, 200, 201, 2000], list(range(0, 3000, 3)), list(range(3000)), []]
)
def test_rows_are_those_of_the_whole(matrix, rows):
    rows = np.array(rows, dtype=np.intp)
    found = read_rows(lambda first, end: matrix[first:end], rows, 7)
    assert found.shape == (len(rows), 7)
    assert (found != matrix[rows]).nnz == 0


def test_little_is_read_that_is_not_wanted(matrix):
    read = []
    read_rows(lambda first, end: read.append((first, end)) or matrix[first:end], np.array([3, 10, 1000, 1001, 2500]), 7)
    assert read == [(3, 11), (1000, 1002), (2500, 2501)]


@pytest.mark.parametrize("kind", ["memory", "file", "dense file", "columns in a file"])
def test_a_table_of_some_rows_is_the_same_wherever_it_lies(matrix, tmp_path, kind):
    obs = pd.DataFrame({"n": np.arange(3000)}, index=[f"b{i}" for i in range(3000)])
    whole = ad.AnnData(matrix, obs=obs, obsm={"spatial": np.arange(6000.0).reshape(-1, 2)}, uns={"a": 1})
    whole.layers["twice"] = matrix * 2
    if kind != "memory":
        whole.X = {"file": matrix, "dense file": matrix.toarray(), "columns in a file": matrix.tocsc()}[kind]
        whole.write_h5ad(tmp_path / "x.h5ad")
        whole = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    rows = np.array([4, 5, 700, 2999])
    found = taken(whole, rows)
    assert not found.isbacked
    assert not found.is_view
    assert found.obs["n"].tolist() == rows.tolist()
    np.testing.assert_array_equal(sparse.csr_matrix(found.X).toarray(), matrix[rows].toarray())
    np.testing.assert_array_equal(found.layers["twice"].toarray(), 2 * matrix[rows].toarray())
    np.testing.assert_array_equal(found.obsm["spatial"], np.arange(6000.0).reshape(-1, 2)[rows])
    assert found.uns["a"] == 1
