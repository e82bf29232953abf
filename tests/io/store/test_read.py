from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import sphisto as sp
from sphisto.genes.model import GeneModel
from sphisto.io.slides import make_slide
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store import write as building


def test_a_path_that_is_not_ours_is_left_alone(tmp_path):
    taken = tmp_path / "taken.zarr"
    taken.mkdir()
    (taken / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="exists and is not a store of sphisto; it is left alone"):
        building.check_target(taken, "toy", "projection")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(FileExistsError, match="left alone"):
        building.check_target(file, "toy", "projection")
    building.check_target(tmp_path / "new.zarr", "toy", "projection")


def test_a_spatialdata_of_someone_else_is_not_ours(tmp_path):
    import spatialdata as sd

    sd.SpatialData().write(tmp_path / "other.zarr")
    with pytest.raises(FileExistsError, match="not a store of sphisto"):
        building.check_target(tmp_path / "other.zarr", "toy", "projection")
    with pytest.raises(ValueError, match="holds no projection of sphisto"):
        stores.mark(tmp_path / "other.zarr")


def test_names_of_another_library_or_program_are_left_alone(store, tmp_path):
    with pytest.raises(FileExistsError, match="holds a projection 'projection' of the library 'toy', not of 'other'"):
        building.check_target(store, "other", "projection")
    building.check_target(store, "other", "second")
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    (copy / "labels" / "Cells").mkdir()
    for library, key, taken in (
        ("toy", "cells", "Cells"),
        ("toy", "projection_sd", "projection_sd"),
        ("other", "toy_image", "toy_image"),
        ("projection", "second", "projection_tissue"),
        ("other", "TABLE", "table"),
    ):
        with pytest.raises(FileExistsError, match=f"holds the element '{taken}', which the projection '{key}'"):
            building.check_target(copy, library, key)
    with pytest.raises(
        ValueError, match="key_added='toy_image', which would name an element 'toy_image' of the library"
    ):
        building.check_target(copy, "toy", "toy_image")


@pytest.mark.parametrize("name", ["", "..", "../a", "a/b", "a b", "gène", ".a", "_a", "a" * 101, "a\n", "a\0"])
def test_names_that_cannot_be_those_of_files_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"Found key_added=.*expected 1 to 100 letters"):
        building.check_target(tmp_path / "new.zarr", "toy", name)
    with pytest.raises(ValueError, match=r"Found library_id=.*expected 1 to 100 letters"):
        building.check_target(tmp_path / "new.zarr", name, "projection")


def test_names_that_a_store_cannot_hold_are_changed():
    assert claims.element_name("V1 Mouse/Brain ä") == "V1_Mouse_Brain__"
    assert claims.element_name("../..") == "library"
    assert claims.element_name("_my_section") == "my_section"


def test_names_of_other_letters_stay_different(caplog):
    caplog.set_level(logging.INFO, logger="sphisto")
    names = ["肝", "肺", "肝1", "肺1", "печень"]
    found = [claims.element_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"(library|1)_[0-9a-f]{6}", name) for name in found)
    assert found == [claims.element_name(name) for name in names]
    assert f"The library is called {found[0]!r} in the store, because '肝' cannot" in caplog.text
    assert claims.element_name("が") == claims.element_name("か\u3099")  # one letter, or two as macOS writes it


def test_a_missing_store_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Found no store at .*fit_projection"):
        stores.library_id(tmp_path / "nothing.zarr")


def test_unknown_names_list_the_known(store):
    with pytest.raises(KeyError, match="Found no raster 'x' in the store; it holds 'projection', "):
        stores.raster(store, "x")
    with pytest.raises(KeyError, match="Found no projection 'y' in the store; it holds 'projection'"):
        stores.spot(store, "y")


def test_folder_and_object_say_the_same(store, fitted):
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    for source in (store, sdata):
        assert stores.library_id(source) == "toy"
        assert stores.raster(source, "projection_factors").shapes == [(96, 112)]
        raster = stores.raster(source, "projection")
        assert raster.channels == tuple(fitted.uns["projection"]["params"]["genes"])
        assert stores.table(source).shape == fitted.shape
        model = stores.factors(source, "projection")
        assert model.genes == tuple(fitted.var_names)
        np.testing.assert_array_equal(model.loadings, fitted.varm["projection_loadings"])
    with pytest.raises(ValueError, match="Found 1 pyramid levels; expected `scale` from 0 to 0"):
        raster.grid_at(1)


def test_contrasts_of_a_panel_are_told_from_factors_without_signs(small_toy, tmp_path):
    """Also in a store of before the attribute, which names them by channels, and after another projection came."""
    import spatialdata as sd
    import zarr

    slide, store = make_slide(sp.io.section(small_toy)), tmp_path / "panel.zarr"
    store.mkdir()
    loadings = np.full((small_toy.n_vars, 3), 0.1, dtype=np.float32)  # the last one adds to every gene of the panel

    def write(key, n_contrasts):
        building.write_slide(store, slide, key)
        building.create_rasters(
            store, slide, GeneModel(slide.spots.genes, loadings, n_contrasts), (), key, unit="a", background=1.0
        )
        small_toy.varm[f"{key}_loadings"] = loadings
        building.write_table(store, tmp_path / "none.zarr", slide, small_toy, key)
        building.finish(store)

    write("projection", 1)
    write("other", 0)
    about = stores.mark(store)["keys"]
    assert [about[key]["n_contrasts"] for key in ("projection", "other")] == [1, 0]
    root = zarr.open_group(store, mode="r+", use_consolidated=False)
    for old in (False, True):
        if old:
            about = {key: {name: entry[name] for name in ("library_id", "spot")} for key, entry in about.items()}
            root.attrs["sphisto"] = {**root.attrs["sphisto"], "keys": about}
        for source in (store, sd.read_zarr(store)):
            for key, n_contrasts in (("projection", 1), ("other", 0)):
                model = stores.factors(source, key)
                assert (model.n_factors, model.n_contrasts) == (3, n_contrasts)
                assert model.of([model.genes[0]]).n_contrasts == n_contrasts
                assert stores.spot(source, key) == slide.spot
    write("projection", 0)  # fitted anew
    assert stores.factors(store, "projection").n_contrasts == 0


def test_stores_are_read_by_the_paths_that_people_write(store, tmp_path, monkeypatch):
    """The home folder by its short name, by str and Path, and through links."""
    import sphisto as sp
    from sphisto.io.store.summary import summarise

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "my stores").symlink_to(store.parent, target_is_directory=True)
    expected = sp.get.raster(store, "projection")
    for written in (f"~/my stores/{store.name}", Path(f"~/my stores/{store.name}/")):
        np.testing.assert_array_equal(sp.get.raster(written, "projection"), expected)
        np.testing.assert_array_equal(sp.get.gene_raster(written, "nuclei_a"), sp.get.gene_raster(store, "nuclei_a"))
        circle = np.array([[50.0, 50.0]])
        found = sp.tl.aggregate(written, circle, radius=10)
        np.testing.assert_array_equal(found.X, sp.tl.aggregate(store, circle, radius=10).X)
        assert summarise(written).rasters == summarise(store).rasters
        assert summarise(written).libraries == summarise(store).libraries
        assert stores.table(written).n_obs == stores.table(store).n_obs
        skill, same = (stores.gene_column(path, "projection_pearson") for path in (written, store))
        assert list(skill) == list(same)
        np.testing.assert_array_equal(list(skill.values()), list(same.values()))
