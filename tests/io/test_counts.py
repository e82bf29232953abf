"""What a table may hold, and what is said of the rest."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

import sphisto as sp
from sphisto.io.counts import gene_names, in_memory, matrix_of, values_of
from sphisto.io.slides import make_slide


def slide_of(data, **options):
    making = {key: options.pop(key) for key in ("um_per_px", "repair") if key in options}
    return make_slide(sp.io.section(data, **options), **making)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "1 NaN or infinite values in X"), (-1.0, "negative values in X.*layer=")]
)
def test_values_that_are_no_counts_are_refused(small_toy, value, message):
    small_toy.X = small_toy.X.copy()
    small_toy.X.data[0] = value
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy)


def test_values_that_are_not_integers_are_said(small_toy, caplog):
    small_toy.X = small_toy.X * 0.5
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        slide = slide_of(small_toy)
    assert not slide.spots.is_counts
    assert "Gaussian likelihood" in caplog.text


def test_counts_are_taken_from_their_layer(small_toy):
    small_toy.layers["counts"] = small_toy.X.copy()
    small_toy.X = small_toy.X * 0.5
    assert slide_of(small_toy).spots.is_counts
    with pytest.raises(KeyError, match="Found no layer 'raw'; the table has counts"):
        slide_of(small_toy, layer="raw")


def test_only_zeros(small_toy):
    small_toy.X = small_toy.X * 0
    with pytest.raises(ValueError, match="only zeros in X"):
        slide_of(small_toy)


def test_duplicated_genes(small_toy):
    small_toy.var_names = ["same", "same", *small_toy.var_names[2:]]
    with pytest.raises(ValueError, match=r"duplicated gene names \(same\).*var_names_make_unique"):
        slide_of(small_toy)


def test_no_genes(small_toy):
    with pytest.raises(ValueError, match="0 genes; nothing is left to fit"):
        slide_of(small_toy[:, :0].copy())


@pytest.mark.parametrize("name", ["a\0", "a\ud800"])
def test_gene_names_that_are_no_text(small_toy, name):
    try:
        small_toy.var_names = [name, *small_toy.var_names[1:]]
    except UnicodeEncodeError:
        pytest.skip("the text of pandas 3 holds no surrogates")
    with pytest.raises(ValueError, match=r"gene names that are no text \('a\\.*encoding"):
        slide_of(small_toy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: None, "Found no values in X"),
        (lambda counts: counts.toarray().astype(complex), "Found values of type complex128 in X"),
        (lambda counts: counts.toarray().astype(str).astype(object), "Found values of type object in X"),
        (lambda counts: counts.astype(np.float64) * 1e38, "NaN or infinite values in X as float32"),
    ],
    ids=["none", "complex", "words", "beyond float32"],
)
def test_tables_that_hold_no_numbers_to_fit(small_toy, change, message):
    small_toy.X = change(small_toy.X)
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy)


COUNTS = np.random.default_rng(0).poisson(1.5, (25, 9)).astype(np.float32)


def table(form=sparse.csr_matrix, counts=COUNTS, **words):
    return ad.AnnData(form(counts), var=pd.DataFrame(index=[f"g{i}" for i in range(counts.shape[1])]), **words)


def counts_read(adata, layer=None):
    values, is_counts, _ = values_of(adata, layer)
    assert is_counts
    assert isinstance(values, sparse.csr_array)
    assert values.dtype == np.float32
    return values.toarray()


@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_matrix_holds_the_same_counts(matrix):
    adata = table(matrix, layers={"other": matrix(COUNTS + 1)})
    np.testing.assert_array_equal(counts_read(adata), COUNTS)
    np.testing.assert_array_equal(counts_read(adata, "other"), COUNTS + 1)
    np.testing.assert_array_equal(counts_read(adata[::2, 1:]), COUNTS[::2, 1:])
    np.testing.assert_array_equal(counts_read(adata[[5, 3]][:, [2, 0]]), COUNTS[[5, 3]][:, [2, 0]])


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray])
def test_a_table_that_stays_in_its_file(form, tmp_path):
    adata = table(form, layers={"other": form(COUNTS + 1)})
    adata.raw = adata
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert backed.isbacked
    for part in (slice(None), slice(3, 20), np.array([1, 4, 7])):
        view = backed if isinstance(part, slice) and part == slice(None) else backed[part]
        np.testing.assert_array_equal(counts_read(view), COUNTS[part])
        np.testing.assert_array_equal(counts_read(view, "other"), COUNTS[part] + 1)
        np.testing.assert_array_equal(counts_read(view, "raw"), COUNTS[part])
    assert backed.isbacked


@pytest.mark.filterwarnings("ignore")
def test_a_lazy_table_is_read_once_its_columns_are(tmp_path):
    table().write_zarr(tmp_path / "a.zarr")
    lazy = ad.experimental.read_lazy(tmp_path / "a.zarr")
    with pytest.raises(
        ValueError, match=r"lazy table \(`obs` is a Dataset2D\).*Call `adata = adata.to_memory\(\)` first"
    ):
        values_of(lazy, None)
    np.testing.assert_array_equal(counts_read(lazy.to_memory()), COUNTS)
    only_x = ad.AnnData(lazy.X, var=pd.DataFrame(index=list(lazy.var_names)))
    np.testing.assert_array_equal(counts_read(only_x), COUNTS)
    np.testing.assert_array_equal(counts_read(only_x[4:, ::2]), COUNTS[4:, ::2])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    counts=npst.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 6))),
    form=st.sampled_from([sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.lil_matrix, np.asarray]),
    dtype=st.sampled_from(["u1", "i2", "i8", "u8", "f4", "f8"]),
)
def test_no_number_is_changed(counts, form, dtype):
    read = in_memory(form(counts.astype(dtype)), "X")
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read.toarray() if sparse.issparse(read) else read, counts)


def test_the_table_is_left_as_it_is():
    doubled = sparse.csr_matrix((np.ones(4, np.float32), [1, 1, 0, 0], [0, 2, 4]), shape=(2, 2))
    adata = ad.AnnData(doubled)
    np.testing.assert_array_equal(counts_read(adata), [[0, 2], [2, 0]])
    assert adata.X.nnz == 4


def test_masked_values():
    adata = table(lambda counts: np.ma.masked_equal(counts, 3))
    with pytest.raises(ValueError, match=rf"Found {(COUNTS == 3).sum()} masked values in X.*filled\(0\)"):
        values_of(adata, None)


def test_arrays_that_no_one_can_read():
    class Elsewhere:
        def __array__(self, *args, **kwargs):
            msg = "it lies on another device"
            raise TypeError(msg)

    with pytest.raises(
        ValueError, match=r"Found values in X as .*Elsewhere, which cannot be read .*another device.*Convert"
    ):
        in_memory(Elsewhere(), "X")


def test_counts_beyond_the_precision_are_said(caplog):
    counts = COUNTS.astype(np.uint64)
    counts[0, 0] = 2**24
    np.testing.assert_array_equal(counts_read(table(np.asarray, counts)), counts)
    assert not caplog.text
    counts[0, 0] = 2**24 + 3
    assert counts_read(table(np.asarray, counts))[0, 0] == 2**24 + 4
    assert "X holds counts above 16777216, which are rounded to the precision of float32" in caplog.text


def test_a_layer_of_counts_without_counts_is_not_trusted(caplog):
    adata = table(layers={"counts": sparse.csr_matrix(COUNTS * 0.5)})
    np.testing.assert_array_equal(counts_read(adata), COUNTS)
    assert (
        "layers['counts'] holds a value that is not a whole number (0.5), and X holds raw counts: X is used"
        in caplog.text
    )
    values, is_counts, _ = values_of(adata, "counts")
    assert not is_counts
    np.testing.assert_array_equal(values.toarray(), COUNTS / 2)
    adata.X = adata.X * 0.25  # neither does: the layer is what the user calls counts
    np.testing.assert_array_equal(values_of(adata, None)[0].toarray(), COUNTS / 2)


# ---- .raw


def with_raw(scale=0.5):
    """Normalised values of some genes, in another order than the counts in raw."""
    adata = table()
    adata.raw = adata
    adata.X = adata.X * scale
    return adata[:, ["g7", "g2", "g3"]].copy()


def test_counts_of_raw_in_the_order_of_the_table(caplog):
    with caplog.at_level(logging.INFO, logger="sphisto"):
        np.testing.assert_array_equal(counts_read(with_raw(), "raw"), COUNTS[:, [7, 2, 3]])
    assert "6 of the 9 genes of .raw are not in var_names and are left out" in caplog.text
    np.testing.assert_array_equal(counts_read(with_raw()[3:9, ::-1], "raw"), COUNTS[3:9][:, [3, 2, 7]])


def test_counts_in_raw_are_pointed_to(caplog):
    assert not values_of(with_raw(), None)[1]
    assert "X holds no raw counts (holds a value that is not a whole number (0.5))" in caplog.text
    assert "Raw counts are in .raw (9 genes): use `layer='raw'`" in caplog.text
    for scale, found in ((-1, "negative values"), (0, "only zeros"), (np.nan, "NaN")):
        with pytest.raises(ValueError, match=rf"{found}.*Raw counts are in .raw \(9 genes\): use `layer='raw'`"):
            values_of(with_raw(scale), None)


def test_raw_without_counts_is_no_hint(caplog):
    adata = table()
    adata.X = adata.X * 0.5
    adata.raw = adata
    assert not values_of(adata, None)[1]
    assert not values_of(adata, "raw")[1]
    assert "use `layer='raw'`" not in caplog.text
    assert ".raw holds no raw counts" in caplog.text


def test_raw_that_does_not_fit():
    adata = with_raw()
    adata.var_names = ["g7", "gene2", "gene3"]
    with pytest.raises(
        ValueError, match=r"Found 2 of 3 genes \(gene2, gene3, ...\) that .raw lacks.*isin\(adata.raw.var"
    ):
        values_of(adata, "raw")
    kept = adata[:, adata.var_names.isin(adata.raw.var_names)].copy()
    np.testing.assert_array_equal(counts_read(kept, "raw"), COUNTS[:, [7]])
    with pytest.raises(KeyError, match=r"Found no layer 'count'; the table has raw \(that is, .raw\)"):
        matrix_of(adata, "count")


def test_a_layer_called_raw_is_that_layer():
    adata = with_raw()
    adata.layers["raw"] = adata.X * 4
    np.testing.assert_array_equal(counts_read(adata, "raw"), 2 * COUNTS[:, [7, 2, 3]])


def test_the_layout_of_cellxgene():
    """Counts in raw, log-normalised X, ids as names of genes and their symbols in a column."""
    ids = [f"ENSG{i:011}" for i in range(9)]
    var = pd.DataFrame({"feature_name": pd.Categorical([f"G{i}" for i in range(9)])}, index=ids)
    adata = ad.AnnData(sparse.csr_matrix(COUNTS), var=var)
    adata.raw = adata
    adata.X = adata.X.log1p()
    np.testing.assert_array_equal(counts_read(adata, "raw"), COUNTS)


@pytest.mark.parametrize("text", ["str", "string[python]", "string[pyarrow]"])
def test_names_of_every_type_of_text(text):
    adata = with_raw()
    adata.var.index = adata.var.index.astype(text)
    np.testing.assert_array_equal(counts_read(adata, "raw"), COUNTS[:, [7, 2, 3]])
    assert gene_names(adata) == ("g7", "g2", "g3")


def test_features_that_are_no_genes_are_warned_of(small_toy, caplog):
    small_toy.var["feature_types"] = ["Antibody Capture"] * 4 + ["Gene Expression"] * (small_toy.n_vars - 4)
    sp.io.section(small_toy)
    share = small_toy.X[:, :4].sum() / small_toy.X.sum()
    assert (
        f"4 of {small_toy.n_vars} features are no genes (Antibody Capture) and carry {100 * share:.0f} %" in caplog.text
    )
    for kinds in ("Gene Expression", "Antibody Capture"):  # all of one kind: there is nothing to distinguish
        caplog.clear()
        small_toy.var["feature_types"] = kinds
        sp.io.section(small_toy)
        assert "no genes" not in caplog.text
