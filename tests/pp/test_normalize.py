from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from sphisto import pp


def table(matrix=sparse.csr_matrix):
    return ad.AnnData(matrix(np.random.default_rng(0).poisson(2.0, (30, 20)).astype(np.float32)))


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("matrix", [sparse.csr_matrix, np.asarray])
@pytest.mark.parametrize("target_sum", [1e4, 50.0])
def test_totals_are_the_target_and_counts_are_kept(matrix, target_sum):
    adata = table(matrix)
    counts = dense(adata.X).copy()

    assert pp.normalize(adata, target_sum=target_sum) is None

    assert np.array_equal(dense(adata.layers["counts"]), counts)
    assert np.allclose(np.expm1(dense(adata.X)).sum(1), target_sum, rtol=1e-4)
    assert np.allclose(dense(adata.X), np.log1p(counts / counts.sum(1, keepdims=True) * target_sum), atol=1e-5)
    assert adata.uns["normalize"] == {"params": {"target_sum": target_sum}}


def test_whole_numbers_become_floats():
    adata = ad.AnnData(np.array([[1, 3], [2, 2]]))
    pp.normalize(adata, target_sum=4)
    assert np.allclose(adata.X, np.log1p([[1, 3], [2, 2]]))
    assert adata.layers["counts"].dtype.kind == "i"


def test_a_layer_that_is_there_stays():
    adata = table()
    adata.layers["counts"] = adata.X * 2
    twice = dense(adata.layers["counts"]).copy()
    pp.normalize(adata)
    assert np.array_equal(dense(adata.layers["counts"]), twice)


def test_a_copy_and_a_view_leave_the_table_alone():
    adata = table()
    counts = dense(adata.X).copy()
    out = pp.normalize(adata, copy=True)
    part = adata[:10]
    pp.normalize(part)
    assert np.array_equal(dense(adata.X), counts)
    assert "counts" not in adata.layers
    assert not adata.uns
    assert np.allclose(dense(part.X), dense(out.X)[:10])


def test_a_second_normalisation_is_refused():
    adata = table()
    pp.normalize(adata)
    once = dense(adata.X).copy()
    with pytest.raises(ValueError, match=r'uns\["log1p"\] says that adata.X holds logarithms already.*Start again'):
        pp.normalize(adata)
    del adata.uns["log1p"]
    with pytest.raises(ValueError, match="layers has 'counts': it is normalised already"):
        pp.normalize(adata)
    assert np.array_equal(dense(adata.X), once)


def test_the_advice_in_the_message_works():
    adata = table()
    pp.normalize(adata)
    once = dense(adata.X).copy()
    adata.X = adata.layers["counts"].copy()
    adata.uns.pop("log1p", None)
    pp.normalize(adata)
    assert np.array_equal(dense(adata.X), once)


def test_what_is_no_counts_is_refused():
    with pytest.raises(ValueError, match=r"adata.X holds a value that is not a whole number .*, expected raw counts"):
        pp.normalize(ad.AnnData(np.full((3, 3), 0.3)))
    for target_sum in (0, -1, np.nan):
        with pytest.raises(ValueError, match="target_sum is .*, expected a positive number"):
            pp.normalize(table(), target_sum=target_sum)
