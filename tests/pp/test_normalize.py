from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from sphisto import pp


def table(form=sparse.csr_matrix):
    return ad.AnnData(form(np.random.default_rng(0).poisson(2.0, (30, 20)).astype(np.float32)))


def dense(x):
    return x.toarray() if sparse.issparse(x) else np.asarray(x)


@pytest.mark.parametrize("form", [sparse.csr_matrix, np.asarray])
@pytest.mark.parametrize("target_sum", [1e4, 50.0])
def test_totals_are_the_target_and_counts_are_kept(form, target_sum):
    adata = table(form)
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


@pytest.mark.parametrize("part", [slice(None), slice(2, 30)], ids=["whole", "view"])
def test_every_kind_of_matrix_gives_the_same_numbers(matrix, part):
    adata = table(matrix) if part == slice(None) else table(matrix)[part]
    expected = table()[part].copy()
    counts = dense(expected.X).copy()
    out = pp.normalize(adata, copy=True)
    pp.normalize(adata)
    pp.normalize(expected)
    assert not adata.is_view
    assert np.array_equal(dense(adata.X), dense(expected.X))
    assert np.array_equal(dense(out.X), dense(expected.X))
    assert adata.X.dtype == np.float32
    assert np.array_equal(dense(adata.layers["counts"]), counts)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asarray])
def test_the_kind_of_matrix_stays(form):
    adata = table(form)
    kind = type(adata.X)
    pp.normalize(adata)
    assert type(adata.X) is kind
    assert type(adata.layers["counts"]) is kind


def test_a_layer_that_is_there_stays(caplog):
    adata = table()
    adata.layers["counts"] = adata.X.copy()
    pp.normalize(adata, copy=True)
    assert "kept as it is" not in caplog.text
    adata.layers["counts"] = adata.X * 2
    twice = dense(adata.layers["counts"]).copy()
    pp.normalize(adata)
    assert np.array_equal(dense(adata.layers["counts"]), twice)
    assert "layers['counts'] is kept as it is, and holds other counts than adata.X" in caplog.text


def test_a_layer_of_that_name_without_counts_is_refused():
    adata = table()
    adata.layers["counts"] = adata.X * 0.5
    with pytest.raises(
        ValueError, match=r"adata.layers\['counts'\] holds a value that is not a whole .* Rename or remove"
    ):
        pp.normalize(adata)
    assert "log1p" not in adata.uns


def test_an_entry_of_the_users_is_not_overwritten():
    adata = table()
    adata.uns["normalize"] = [1, 2]
    with pytest.raises(ValueError, match=r"Found uns\['normalize'\], which sphisto did not write"):
        pp.normalize(adata)
    assert list(adata.uns) == ["normalize"]


def test_a_table_that_stays_in_its_file_is_refused(tmp_path):
    table().write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(ValueError, match=r"stays in its file .*to_memory"):
        pp.normalize(ad.read_h5ad(tmp_path / "a.h5ad", backed="r"))


def test_counts_in_raw_are_pointed_to_and_raw_stays():
    adata = table()
    adata.raw = adata
    counts = dense(adata.X).copy()
    pp.normalize(adata)
    assert np.array_equal(dense(adata.raw.X), counts)
    scaled = ad.AnnData(adata.X.copy())
    scaled.raw = ad.AnnData(counts)
    with pytest.raises(ValueError, match=r"expected raw counts: they are in adata.raw"):
        pp.normalize(scaled)


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
    with pytest.raises(ValueError, match=r'uns\["log1p"\] marks adata.X as logarithms already.*Start again'):
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
