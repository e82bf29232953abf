from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sphisto.genes.loadings import Loadings
from sphisto.io.loadings import read_loadings

TABLE = pd.DataFrame({"T cells": [0.5, 0, 2], "B": [1.0, 3, 0]}, index=["Mbp", "NA", "1"])


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.csv.gz", "a.TSV"])
def test_what_pandas_writes_is_read(tmp_path, name):
    TABLE.to_csv(tmp_path / name, sep="," if "csv" in name else "\t")
    found = Loadings.from_frame(read_loadings(tmp_path / name))
    assert found.genes == tuple(TABLE.index)
    assert found.programmes == tuple(TABLE.columns)
    np.testing.assert_allclose(found.values, TABLE / TABLE.sum())


def test_an_empty_cell_is_no_zero(tmp_path):
    (tmp_path / "a.csv").write_text("gene,T\nMbp,1\nPlp1,\n")
    with pytest.raises(ValueError, match="1 NaN or infinite values .* of 'Plp1' in 'T'"):
        Loadings.from_frame(read_loadings(tmp_path / "a.csv"))


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*a.csv; expected a table of loadings"):
        read_loadings(tmp_path / "a.csv")
    for name, text, words in (
        ("a.csv", "gene\tT\nMbp\t1\n", "1 column .* separated by commas"),
        ("a.tsv", "gene,T\nMbp,1\n", "1 column .* separated by tabs"),
        ("b.csv", "", "no table of loadings: No columns"),
        ("c.csv", "a,b\n1,2\n1,2,3\n", "no table of loadings: .*Expected 2 fields"),
        ("a.xlsx", "", r"ends in \.csv or \.tsv"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=words):
            read_loadings(tmp_path / name)
