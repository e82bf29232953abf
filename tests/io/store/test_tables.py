"""Names and values of a table, and what a store keeps of them."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from scipy import sparse

import sphisto as sp
from sphisto import _keys
from sphisto.io.slides import make_slide
from sphisto.io.store import write as building
from sphisto.io.store.tables import become, flags, link_columns, plain, require_free_key, require_own, twin_of

TEXTS = ["object", "str", "string[python]", "string[pyarrow]", pd.StringDtype("pyarrow", na_value=np.nan)]


@pytest.fixture
def written(small_toy_once, tmp_path, monkeypatch):
    """Write a table into a new store without pictures, return it as SpatialData reads it."""
    monkeypatch.setattr(building, "write_image", lambda *_: None)
    monkeypatch.setattr(building, "write_mask", lambda *_: None)
    monkeypatch.setattr(building, "_with_picture", lambda spatial, *_: dict(spatial))
    slide = make_slide(sp.io.section(small_toy_once.copy()))
    folder = tmp_path / "staging"
    folder.mkdir()
    building.write_slide(folder, slide, "projection")

    def write(table):
        building.write_table(folder, tmp_path / "none.zarr", slide, table, "projection")
        building.finish(folder)
        return sd.read_zarr(folder)["table"]

    return write


def lists(frame):
    """Columns as lists of plain values, None for what is missing."""
    return {
        name: [None if missing else value for value, missing in zip(frame[name], pd.isna(frame[name]), strict=True)]
        for name in frame
    }


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_text_of_every_type_is_read_back(small_toy, written, text):
    small_toy.obs.index, small_toy.var.index = small_toy.obs.index.astype(text), small_toy.var.index.astype(text)
    n = small_toy.n_obs
    words = pd.Series([f"w{i % 3}" for i in range(n)], index=small_toy.obs_names).astype(text)
    obs = small_toy.obs
    obs["all"] = words
    obs["some"] = words.where(np.arange(n) > 2)
    obs["unique"] = pd.Series(list(small_toy.obs_names), index=small_toy.obs_names).astype(text)
    obs["kinds"] = words.astype("category")
    obs["kinds_with_gaps"] = words.where(np.arange(n) > 2).astype("category")
    small_toy.obsm["frame"] = obs[["all", "some"]].copy()
    small_toy.var["symbol"] = pd.Series(list(small_toy.var_names), index=small_toy.var_names).astype(text)
    small_toy.uns["notes"] = {"words": words.array, "deep": {"frame": obs[["all"]].copy()}, "one": "word"}
    small_toy.raw = small_toy
    expected = lists(obs), lists(small_toy.var), lists(small_toy.obsm["frame"])
    before = obs.dtypes.to_dict()

    table = written(small_toy)

    assert list(table.obs_names) == list(small_toy.obs_names)
    assert list(table.var_names) == list(small_toy.var_names)
    found = lists(table.obs)
    assert {name: found[name] for name in expected[0]} == expected[0]
    assert lists(table.var) == expected[1]
    assert lists(table.obsm["frame"]) == expected[2]
    assert list(table.uns["notes"]["words"]) == list(words)
    assert list(table.uns["notes"]["deep"]["frame"]["all"]) == list(words)
    assert lists(table.raw.var) == expected[1]
    np.testing.assert_array_equal(table.X.toarray(), small_toy.X.toarray())
    assert small_toy.obs.dtypes.to_dict() == before, "the table in memory is changed"


def test_numbers_and_truth_of_every_type_are_read_back(small_toy, written):
    n = small_toy.n_obs
    gaps = np.arange(n) % 4 == 0
    columns = {
        "Int64": pd.array(np.arange(n), dtype="Int64"),
        "boolean": pd.array(gaps, dtype="boolean"),
        "Float64": pd.array(np.arange(n) / 2, dtype="Float64"),
        "int_arrow": pd.array(np.arange(n), dtype="int64[pyarrow]"),
        "float_arrow": pd.array(np.arange(n) / 2, dtype="float[pyarrow]"),
        "bool_arrow": pd.array(gaps, dtype="bool[pyarrow]"),
    }
    for name, column in columns.items():
        small_toy.obs[name] = column
        column = column.copy()
        column[gaps] = pd.NA
        small_toy.obs[f"{name}_gaps"] = column
    small_toy.obs["words_arrow"] = pd.Series(["w"] * n, index=small_toy.obs_names).astype(pd.ArrowDtype(_arrow_text()))
    expected = lists(small_toy.obs)
    found = lists(written(small_toy).obs)
    assert {name: found[name] for name in expected} == expected


def _arrow_text():
    import pyarrow

    return pyarrow.string()


def test_settings_of_anndata_stay(small_toy, written):
    before = ad.settings.allow_write_nullable_strings
    small_toy.obs["note"] = pd.array(["a"] * small_toy.n_obs, dtype="string")
    written(small_toy)
    assert ad.settings.allow_write_nullable_strings is before


def test_tables_of_every_kind_are_written(small_toy_once, written, tmp_path):
    import dask.array as da

    counts = small_toy_once.X.toarray()
    lazy = small_toy_once.copy()
    lazy.X = da.from_array(counts, chunks=(20, 5)).map_blocks(sparse.csr_matrix)
    small_toy_once.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    arrays = small_toy_once.copy()
    arrays.X = sparse.csr_array(arrays.X)
    for table in (lazy, backed, arrays, small_toy_once[:]):
        found = written(table).X
        np.testing.assert_array_equal(found.toarray(), counts)
    assert backed.X is not None


# ---- names


def test_columns_of_the_users_are_kept_beside_the_link(small_toy, written, caplog):
    small_toy.obs["region"] = pd.Categorical(
        ["cortex", "medulla"] * (small_toy.n_obs // 2) + ["cortex"] * (small_toy.n_obs % 2)
    )
    small_toy.obs["Spot_ID"] = [f"s{i}" for i in range(small_toy.n_obs)]
    with caplog.at_level(logging.INFO, logger="sphisto"):
        table = written(small_toy)
    assert (
        "obs['region'] is kept as it is: the store's table is linked to its spots by obs['sphisto_region']"
        in caplog.text
    )
    assert list(table.obs["region"].astype(str)) == list(small_toy.obs["region"].astype(str))
    assert list(table.obs["Spot_ID"]) == list(small_toy.obs["Spot_ID"])
    assert table.uns["spatialdata_attrs"] == {
        "region": "toy_spots", "region_key": "sphisto_region", "instance_key": "sphisto_spot_id",
    }  # fmt: skip
    assert set(table.obs["sphisto_region"]) == {"toy_spots"}
    assert table.obs["sphisto_spot_id"].tolist() == list(range(small_toy.n_obs))
    again = written(table)  # what was ours is ours again
    assert list(again.obs) == list(table.obs)
    assert again.uns["spatialdata_attrs"] == table.uns["spatialdata_attrs"]


def test_the_link_of_an_earlier_store_is_made_anew(small_toy, written):
    first = written(small_toy)
    assert first.uns["spatialdata_attrs"]["region_key"] == _keys.REGION
    second = written(first[::-1].copy())
    assert list(second.obs) == list(first.obs)
    assert second.obs["spot_id"].tolist() == list(range(small_toy.n_obs))
    assert list(second.obs_names) == list(small_toy.obs_names)[::-1]


def test_the_link_of_another_program_is_kept(small_toy):
    small_toy.obs["region"], small_toy.obs["spot_id"] = pd.Categorical(["theirs"] * small_toy.n_obs), 7
    small_toy.uns["spatialdata_attrs"] = {"region": "theirs", "region_key": "region", "instance_key": "spot_id"}
    assert link_columns(small_toy, "toy_spots") == ("sphisto_region", "sphisto_spot_id")
    assert set(small_toy.obs["spot_id"]) == {7}
    assert "spatialdata_attrs" not in small_toy.uns


def test_a_key_that_is_the_users_is_refused(small_toy, caplog):
    small_toy.uns["projection"] = {"params": {"by": "PCA"}}
    with pytest.raises(
        ValueError, match=r"Found uns\['projection'\], which sphisto did not .* Choose another `key_added`"
    ):
        require_free_key(small_toy, "projection")
    small_toy.uns["projection"] = {"params": {}, "store": "x.zarr"}
    small_toy.var["projection_pearson"] = 0.5
    require_free_key(small_toy, "projection")
    assert not caplog.text
    del small_toy.uns["projection"]
    require_free_key(small_toy, "projection")
    assert "var['projection_pearson'] will be replaced: the results of 'projection' have these names" in caplog.text


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([True, False], [True, False]),
        (pd.array([True, None], dtype="boolean"), [True, False]),
        (np.array([True, None], dtype=object), [True, False]),
        (pd.array([True, None], dtype="bool[pyarrow]"), [True, False]),
    ],
)
def test_columns_of_true_and_false(column, expected):
    found = flags(pd.DataFrame({"mt": column}), "mt", "var")
    assert found.dtype == bool
    assert found.tolist() == expected
    assert flags(pd.DataFrame({"mt": column}), "ribo", "var") is None


@pytest.mark.parametrize("column", [["yes", "no"], [1.0, 0.0], [1, 0], pd.Categorical(["True", "False"])])
def test_columns_of_something_else(column):
    with pytest.raises(ValueError, match=r"Found var\['mt'\] of type .*; expected true and false"):
        flags(pd.DataFrame({"mt": column}), "mt", "var")


@pytest.mark.parametrize(("held", "expected"), [(["Cluster"], "Cluster"), (["cluster"], None), ([5, "clusters"], None)])
def test_a_name_of_another_case_is_found(held, expected):
    assert twin_of(held, "cluster") == expected
    with pytest.raises(ValueError, match="cluster") if expected else nullcontext():
        require_own(dict.fromkeys(held), "cluster", own=True, where="uns", remedy="Rename it.")


def test_a_view_becomes_a_table_of_its_own():
    whole = ad.AnnData(np.arange(12.0).reshape(4, 3))
    part = whole[1:]
    become(part, part[:, 1:].copy())
    assert not part.is_view
    assert part.X.tolist() == [[4, 5], [7, 8], [10, 11]]
    assert whole.shape == (4, 3)


def test_what_is_plain_stays():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan], "c": pd.to_datetime(["2020-01-01", "2021-01-01"])})
    pd.testing.assert_frame_equal(plain(frame), frame)
    values = np.arange(3)
    assert plain({"x": {"y": values}})["x"]["y"] is values
    assert plain(np.array(["a", "b"], dtype=np.dtypes.StringDType())).dtype == object


@pytest.mark.parametrize("key", [None, 5])
def test_a_key_that_is_no_text_is_refused(small_toy, key):
    with pytest.raises(ValueError, match=f"Found key_added={key}; expected 1 to .* letters"):
        require_free_key(small_toy, key)
    with pytest.raises(TypeError, match=f"Found {key} as a name to write in obs; expected text.*`key_added`"):
        require_own(small_toy.obs, key, True, where="obs", remedy="")
