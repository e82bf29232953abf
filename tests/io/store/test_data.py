from __future__ import annotations

import pandas as pd
import pytest
from anndata import AnnData

import sphisto as sp
from sphisto.io.store.data import store_of

READERS = {
    "raster": lambda data: sp.get.raster(data, "toy_image"),
    "gene_raster": lambda data: sp.get.gene_raster(data, "nuclei_a"),
    "aggregate": lambda data: sp.tl.aggregate(data, "toy_tissue"),
    "projection": lambda data: sp.pl.projection(data, "nuclei_a", show=False),
    "reconstruction": lambda data: sp.pl.reconstruction(data, show=False),
    "comparison": lambda data: sp.pl.comparison(data, "nuclei_a", show=False),
    "measured": lambda data: sp.pl.measured(data, "nuclei_a", show=False),
    "history": lambda data: sp.pl.history(data, show=False),
    "umap": lambda data: sp.pl.umap(data, "nuclei_a", show=False),
    "evaluation": lambda data: sp.pl.evaluation(data, show=False),
}


def section(**stores):
    table = AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["g"]))
    for key, store in stores.items():
        table.uns[key] = {"params": {}, "store": store}
    return table


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with two stores, as far as their paths go."""
    for name in ("a.zarr", "b.zarr"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_anndata_leads_to_its_store(here):
    with pytest.raises(KeyError, match=r"Did not find a projection in .uns\['projection'\]. Run `sphisto.tl.fit_proj"):
        store_of(section(), "projection")
    with pytest.raises(KeyError, match=r"Did not find a projection in .uns. Run"):
        store_of(section())
    assert store_of(section(projection="a.zarr"), "projection") == "a.zarr"
    assert store_of(section(first="a.zarr", second="a.zarr")) == "a.zarr"
    assert store_of("b.zarr", "projection") == "b.zarr"


def test_of_several_stores_one_must_be_named(here):
    both = section(first="a.zarr", second="b.zarr")
    assert store_of(both, "second") == "b.zarr"
    with pytest.raises(ValueError, match=r"2 stores: a.zarr, b.zarr. Give the path"):
        store_of(both)


def test_a_store_that_was_moved_need_not_be_made_again(here, monkeypatch):
    table = section(projection="a.zarr", other=str(here / "c.zarr"))
    with pytest.raises(
        FileNotFoundError, match=r"no store at .*c.zarr, where the table records .*give the path of the store"
    ):
        store_of(table, "other")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"no store at a.zarr from the working folder, .*elsewhere"):
        store_of(table, "projection")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("data", [None, 5, ["a.zarr"], pd.DataFrame({"a": [1]})], ids=lambda data: type(data).__name__)
def test_what_leads_to_no_store_is_refused(name, data):
    with pytest.raises(TypeError, match=r"expected the path of a store, the SpatialData .* or the AnnData"):
        READERS[name](data)


def test_path_spatialdata_and_anndata_give_the_same(fitted, store):
    import numpy as np
    import spatialdata as sd

    for name in ("raster", "gene_raster", "aggregate"):
        of_path, *others = (READERS[name](data) for data in (store, str(store), sd.read_zarr(store), fitted))
        for other in others:
            values = (of_path.X, other.X) if name == "aggregate" else (of_path.values, other.values)
            np.testing.assert_array_equal(*values)
