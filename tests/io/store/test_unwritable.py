from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from spatialdata import sanitize_table

from sphisto.io.store.unwritable import has_odd_names, reason_of, remedy_for, unhashable_columns


@pytest.fixture
def table():
    return ad.AnnData(np.ones((3, 2), np.float32), obs=pd.DataFrame({"kind": ["a", "b", "c"]}, index=list("xyz")))


def odd_column(table):
    table.obs["T cells"] = 0.1


def odd_entry(table):
    table.uns["leiden/colors"] = np.array(["red"])


def two_that_differ_in_case(table):
    table.obs["Kind"] = 1


def number_for_a_name(table):
    table.obs[5] = 1


@pytest.mark.parametrize("spoil", [odd_column, odd_entry, two_that_differ_in_case, number_for_a_name])
def test_names_that_spatialdata_mends_are_those_for_which_it_is_named(table, spoil):
    assert not has_odd_names(table)
    spoil(table)
    assert has_odd_names(table)
    assert "`spatialdata.sanitize_table(adata)`" in remedy_for(table)
    sanitize_table(table)
    assert not has_odd_names(table)


def test_values_are_converted_or_removed(table):
    table.obsm["types"] = pd.DataFrame({"B/plasma": 0.1}, index=table.obs_names)
    table.uns["model"] = {"a/b": object()}
    assert "sanitize_table" not in remedy_for(table)
    assert remedy_for(table).startswith("Convert or remove what is named there: text,")


def test_columns_of_lists_are_named(table):
    table.obs["parts"] = [[1], [2], None]
    table.var["about"] = [{}, {}]
    assert unhashable_columns(table) == ["obs['parts']", "var['about']"]
    assert "obs['parts'], var['about'] hold lists" in remedy_for(table)


def test_the_reason_names_the_entry_and_no_function_that_is_not_there():
    error = ValueError(
        "Table contains invalid names.\nFor renaming, please see\nhttps://example.org .\n\n"
        "To fix, run `spatialdata.utils.sanitize_table(adata)`.\n  obs/T cells: Name must be plain."
    )
    assert reason_of(error) == "obs/T cells: Name must be plain"
    other = TypeError("No method for <class 'object'> into <class 'zarr.core.group.Group'>")
    other.add_note("Error raised while writing key 'thing' of <class 'zarr.core.group.Group'> to /tables/table/uns")
    assert (
        reason_of(other) == "No method for <class 'object'> Error raised while writing key 'thing' to /tables/table/uns"
    )
