from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
import zarr
from anndata import AnnData
from spatialdata.models import Image2DModel, Labels2DModel, TableModel

from sphisto.io.store import elements
from sphisto.io.store.elements import add_element, make_blank


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "work" / "store"
    path.mkdir(parents=True)
    make_blank(path, {"mine": {"a": 1}})
    return path


def read(store):
    zarr.consolidate_metadata(store)
    return sd.read_zarr(store)


def labels(value):
    return Labels2DModel.parse(np.full((4, 6), value, dtype=np.uint8), dims=("y", "x"))


def table(n):
    return TableModel.parse(AnnData(np.full((n, 2), n, dtype=np.float32)))


def test_elements_are_added_one_by_one(store):
    add_element(
        store, "images", "picture", Image2DModel.parse(np.ones((3, 4, 6), dtype=np.uint8), dims=("c", "y", "x"))
    )
    add_element(store, "labels", "one", labels(1))
    add_element(store, "labels", "two", labels(2))
    add_element(store, "tables", "table", table(2))
    found = read(store)
    assert found.attrs["mine"] == {"a": 1}
    assert sorted(name for _, name, _ in found.gen_elements()) == ["one", "picture", "table", "two"]
    assert int(found["two"].max()) == 2
    assert json.loads((store / "labels" / "zarr.json").read_text())["attributes"]["ome"]["labels"] == ["one", "two"]
    assert [path.name for path in store.parent.iterdir()] == ["store"]


def test_an_element_takes_the_place_of_one_of_its_name(store):
    add_element(store, "tables", "table", table(2))
    add_element(store, "tables", "table", table(3))
    assert read(store)["table"].shape == (3, 2)


def test_what_a_killed_run_left_is_no_hindrance(store):
    left = elements._beside(store)
    (left / "images" / "half").mkdir(parents=True)
    add_element(store, "labels", "one", labels(1))
    assert not left.exists()
    assert [name for _, name, _ in read(store).gen_elements()] == ["one"]


def test_a_table_may_annotate_what_is_in_the_store_already(store):
    adata = AnnData(np.ones((2, 2), dtype=np.float32))
    adata.obs["region"] = pd.Categorical(["one", "one"])
    adata.obs["id"] = [1, 2]
    add_element(store, "labels", "one", labels(1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The table is annotating")
        linked = TableModel.parse(adata, region="one", region_key="region", instance_key="id")
        add_element(store, "tables", "table", linked)
    assert read(store)["table"].uns["spatialdata_attrs"]["region"] == "one"
