"""What a table may hold, and what is said of the rest."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from sphisto.io.intake import make_slide
from sphisto.io.section import read_section


def slide_of(data, **options):
    reading = {key: options.pop(key) for key in ("image", "image_scale", "library_id") if key in options}
    return make_slide(read_section(data, **reading), **options)


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
    small_toy.var_names = [name, *small_toy.var_names[1:]]
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


def test_a_table_that_stays_in_its_file(small_toy, tmp_path):
    import anndata

    small_toy.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(slide_of(backed).spots.values.toarray(), small_toy.X.toarray())
