from __future__ import annotations

import shutil
from datetime import datetime

import pytest

from sphisto import __version__, _keys
from sphisto.io.store.summary import LibrarySummary, summarise


def test_summary_says_what_was_fitted(fitted, store):
    params = fitted.uns["projection"]["params"]
    found = summarise(store)
    assert (found.libraries, found.version) == ((LibrarySummary("toy", *fitted.shape),), __version__)
    assert found.format == 2
    assert list(found.projections) == ["projection"]
    about = found.projections["projection"]
    assert about["unit"] == _keys.UNIT
    assert about["params"]["genes"] == list(params["genes"])
    assert about["params"]["um_per_px"] == pytest.approx(params["um_per_px"])
    assert "history" not in about
    pearson = fitted.var[_keys.skill("projection")].dropna()
    assert found.skill["projection"] == pytest.approx(pearson.to_dict())
    assert datetime.fromisoformat(found.written["projection"]) <= datetime.now()
    rasters = {raster.name: raster for raster in found.rasters}
    assert set(rasters) == {
        "toy_image", "toy_tissue", "projection", "projection_factors", "projection_sd", "projection_reconstruction",
        "projection_tissue",
    }  # fmt: skip
    assert rasters["projection"].channels == tuple(params["genes"])
    assert rasters["projection"].levels[0] == (96, 112)
    assert rasters["projection"].um_per_px[0] == pytest.approx(params["um_per_px"])
    assert len(rasters["projection_factors"].channels) == fitted.varm["projection_loadings"].shape[1]


def test_values_are_plain_python(store):
    def kinds(value):
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return {type(value)}.union(*map(kinds, parts))

    assert kinds(summarise(store).projections) <= {bool, dict, float, int, list, str}


def test_neither_pixels_nor_counts_are_read(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    values = [folder for kind in ("images", "labels") for folder in (copy / kind).glob("*/*/c")]
    values += [copy / "tables" / "table" / part for part in ("X", "layers", "obsm", "varm")]
    values += [copy / "shapes"]
    assert len(values) > 5
    for folder in values:
        shutil.rmtree(folder, ignore_errors=True)
    assert summarise(copy) == summarise(store)


def test_a_store_without_table_has_no_spots(store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    shutil.rmtree(copy / "tables")
    found = summarise(copy)
    assert found.skill == {"projection": {}}
    assert (found.libraries, found.projections) == ((LibrarySummary("toy", None, None),), {"projection": {}})


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Found no store at"):
        summarise(tmp_path / "absent.zarr")
    with pytest.raises(ValueError, match="holds no projection of sphisto"):
        summarise(tmp_path)
