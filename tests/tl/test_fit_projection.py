from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

import sphisto as sp
from sphisto.train.settings import with_devices

KEY = "projection"


def fit(adata, path, **options):
    sp.tl.fit_projection(adata, store=path, **{"max_epochs": 2, "device": "cpu", **options})
    return adata


def raster(store, name, scale=0):
    return sp.get.raster(store, name, scale=scale).values


# --- what is written --------------------------------------------------------------------------------------------------


def test_the_store_holds_what_the_documentation_says(fitted, store):
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    assert set(sdata.images) == {
        "toy_image",
        "projection",
        "projection_factors",
        "projection_sd",
        "projection_reconstruction",
    }
    assert set(sdata.labels) == {"toy_tissue", "projection_tissue"}
    assert set(sdata.shapes) == {"toy_spots"}
    table = sdata.tables["table"]
    assert list(table.obs_names) == list(fitted.obs_names)
    pictures = table.uns["spatial"]["toy"]["images"]  # a small one, which scanpy and squidpy draw
    np.testing.assert_array_equal(pictures["hires"], fitted.uns["spatial"]["toy"]["images"]["hires"])
    assert set(pictures) == {"hires"}
    for adata in (table, fitted):
        record = adata.uns[KEY]
        assert record["unit"] == "counts per spot area"
        assert Path(record["store"]) == store
        assert Path(record["model"]).exists()
        assert set(record["seconds"]) == {"prepare", "factors", "image", "joint", "write"}
        assert list(record["history"]["phase"]) == ["image", "joint", "joint", "joint"]
        assert adata.varm[f"{KEY}_loadings"].shape == (adata.n_vars, adata.obsm[f"{KEY}_fitted"].shape[1])
    circles = sdata.shapes["toy_spots"]
    np.testing.assert_allclose(np.column_stack([circles.geometry.x, circles.geometry.y]), fitted.obsm["spatial"])
    np.testing.assert_allclose(circles["radius"], 24 * 0.55 / 2 / 2)  # px of 2 um


def test_the_table_can_be_written_and_read_as_h5ad(fitted, tmp_path):
    import anndata

    fitted.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.uns[KEY]["history"]["loss"], fitted.uns[KEY]["history"]["loss"])


def test_the_mean_of_a_raster_over_a_spot_is_its_fitted_value(fitted, store):
    params = fitted.uns[KEY]["params"]
    radius = params["spot_um"] / params["fullres_um_per_px"] / 2
    over_spots = sp.tl.aggregate(store, fitted.obsm["spatial"], radius=radius)
    expected = fitted.obsm[f"{KEY}_fitted"] @ fitted.varm[f"{KEY}_loadings"].T
    np.testing.assert_allclose(over_spots.X, expected, rtol=1e-3, atol=1e-4)


def test_gene_rasters_are_factors_times_loadings(fitted, store):
    genes = fitted.uns[KEY]["params"]["genes"]
    loadings = fitted[:, genes].varm[f"{KEY}_loadings"]
    expected = np.tensordot(loadings, raster(store, "projection_factors"), axes=1)
    np.testing.assert_allclose(raster(store, KEY), expected, rtol=1e-3, atol=1e-5)


def test_rasters_are_nan_outside_tissue_only(store):
    tissue = raster(store, "toy_tissue").astype(bool)
    for name in (KEY, "projection_factors"):
        np.testing.assert_array_equal(
            np.isnan(raster(store, name)), np.broadcast_to(~tissue, raster(store, name).shape)
        )
    assert np.nanmin(raster(store, KEY)) >= 0


def test_the_default_store_is_named_after_the_library(small_toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sp.tl.fit_projection(small_toy, max_epochs=1)
    assert small_toy.uns[KEY]["store"] == "toy.zarr"
    assert "written to toy.zarr" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.projection.pt", "toy.zarr"]


def test_copy_leaves_the_original_alone(small_toy, tmp_path):
    changed = sp.tl.fit_projection(small_toy, store=tmp_path / "a.zarr", max_epochs=1, copy=True)
    assert KEY in changed.uns
    assert KEY not in small_toy.uns


def test_markers_are_the_default_genes(small_toy, tmp_path):
    small_toy.var["marker"] = [name in ("nuclei_a", "class1_a") for name in small_toy.var_names]
    fit(small_toy, tmp_path / "a.zarr", max_epochs=1)
    assert set(small_toy.uns[KEY]["params"]["genes"]) == {"nuclei_a", "class1_a"}


def test_a_second_key_leaves_the_first_alone(fitted, store, tmp_path):
    import spatialdata as sd

    path = tmp_path / "toy.zarr"
    shutil.copytree(store, path)
    before = raster(path, KEY)
    fit(fitted, path, max_epochs=1, key_added="second", genes=["noise_a"])
    sdata = sd.read_zarr(path)
    assert {"projection", "second", "second_factors"} <= set(sdata.images)
    np.testing.assert_array_equal(raster(path, KEY), before)
    assert {"projection_loadings", "second_loadings"} <= set(sdata.tables["table"].varm)


def test_a_spatialdata_is_fitted_like_its_anndata(small_toy, store, tmp_path):
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    fit(sdata, tmp_path / "b.zarr", image="toy_image", max_epochs=1)
    fit(small_toy, tmp_path / "a.zarr", max_epochs=1)
    found = sdata.tables["table"]
    # pictures differ in memory layout: sums are rounded differently, and training lets such differences grow
    np.testing.assert_allclose(
        found.obsm["projection_fitted"], small_toy.obsm["projection_fitted"], rtol=1e-3, atol=1e-3
    )


def test_bins_and_values_that_are_no_counts(small_toy, tmp_path):
    small_toy.X = small_toy.X * 0.5
    fit(sp.io.section(small_toy, spot_shape="square", spot_um=50.0), tmp_path / "a.zarr")
    assert not small_toy.uns[KEY]["params"]["is_counts"]
    assert small_toy.uns[KEY]["unit"] == "value per spot"
    assert np.isfinite(small_toy.obsm["projection_fitted"]).all()


def test_empty_spots_are_said_and_not_learned_from(small_toy, tmp_path, caplog):
    counts = small_toy.X.toarray()
    counts[:3] = 0
    small_toy.X = counts
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        fit(small_toy, tmp_path / "a.zarr", max_epochs=1)
    assert "3 of" in caplog.text
    assert "hold no counts" in caplog.text


def test_spots_off_the_picture_are_said_and_spoil_nothing(small_toy, tmp_path, caplog):
    moved = small_toy.obsm["spatial"][:2] + 500
    small_toy.obsm["spatial"] = np.concatenate([moved, small_toy.obsm["spatial"][2:]])
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        fit(sp.io.section(small_toy, check=False), tmp_path / "a.zarr", max_epochs=1)
    assert "2 of 44 spots lie off the image; nothing is learned from them" in caplog.text
    tissue = raster(tmp_path / "a.zarr", "toy_tissue").astype(bool)
    assert np.isfinite(raster(tmp_path / "a.zarr", f"{KEY}_sd")[:, tissue]).all()
    assert np.isfinite(small_toy.var[f"{KEY}_dispersion"]).all()
    assert (small_toy.obsm[f"{KEY}_fitted"][:2] == 0).all()


def test_twenty_spots_one_gene_and_a_grey_picture(small_toy, tmp_path):
    some = small_toy[12:32, ["class1_a"]].copy()
    some.uns["spatial"]["toy"]["images"]["hires"] = some.uns["spatial"]["toy"]["images"]["hires"][..., 1]
    fit(some, tmp_path / "a.zarr", max_epochs=1)
    tissue = raster(tmp_path / "a.zarr", "toy_tissue").astype(bool)
    for name in (KEY, f"{KEY}_sd", f"{KEY}_factors"):
        assert np.isfinite(raster(tmp_path / "a.zarr", name)[:, tissue]).all()
    fitted = some.obsm[f"{KEY}_fitted"] @ some.varm[f"{KEY}_loadings"].T
    assert fitted.sum() == pytest.approx(some.X.sum(), rel=0.3)


# --- refused before anything is done ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"genes": ["nuclei_a", "Nrgn"]}, KeyError, "Found no gene 'Nrgn' among"),
        ({"genes": []}, ValueError, "empty list of genes"),
        ({"network": "resnet"}, ValueError, "expected one of 'unet', 'prototype'"),
        ({"device": "abacus"}, ValueError, "Found device='abacus'"),
        ({"rng": -1}, ValueError, "non-negative integer"),
        ({"max_epochs": 0}, ValueError, "Found max_epochs=0 in TrainConfig"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(small_toy, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        fit(small_toy, tmp_path / "a.zarr", **options)
    assert not list(tmp_path.iterdir())
    assert KEY not in small_toy.uns


def test_a_store_that_is_not_ours_is_left_alone(small_toy, tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not a store of sphisto; it is left alone"):
        fit(small_toy, tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "precious"


def test_a_place_where_nothing_can_be_written(small_toy):
    with pytest.raises(PermissionError, match="Cannot write in /proc"):
        fit(small_toy, "/proc/a.zarr")


# --- the prototype's network ------------------------------------------------------------------------------------------


def test_the_prototype_models_its_genes_only(small_toy, tmp_path):
    fit(small_toy, tmp_path / "a.zarr", network="prototype", genes=["class1_a", "nuclei_a"])
    assert raster(tmp_path / "a.zarr", "projection_factors").shape[0] == 2
    assert np.isnan(small_toy.varm["projection_loadings"]).all(axis=1).sum() == small_toy.n_vars - 2
    largest = small_toy[:, "nuclei_a"].X.max()
    assert np.nanmax(sp.get.gene_raster(tmp_path / "a.zarr", "nuclei_a").values) <= largest * 1.5
    with pytest.raises(KeyError, match="noise_a cannot be drawn: this projection models only 2 of"):
        sp.get.gene_raster(tmp_path / "a.zarr", "noise_a")


def test_the_prototype_trains_in_two_phases_and_draws_its_four_figures(small_toy, tmp_path):
    """Redrawn image, projected genes, measured genes, and genes on the UMAP of the spots."""
    import matplotlib.pyplot as plt

    genes = ["class1_a", "nuclei_a"]
    fit(small_toy, tmp_path / "a.zarr", network="prototype", genes=genes, max_epochs=4)
    history = small_toy.uns[KEY]["history"]
    assert list(history["phase"]) == ["image", "joint", "joint", "joint"]
    assert np.isnan(history["spot_loss"][0])
    assert np.isfinite(history["spot_loss"][1:]).all()
    explored = small_toy.copy()
    sp.pp.normalize(explored)
    sp.pp.explore(explored)
    drawn = {
        "reconstruction": sp.pl.reconstruction(small_toy, show=False),
        "projection": sp.pl.projection(small_toy, genes, show=False),
        "measured": sp.pl.measured(small_toy, genes, show=False),
        "umap": sp.pl.umap(explored, genes, show=False),
    }
    assert {name: len(axes) for name, axes in drawn.items()} == {
        "reconstruction": 2, "projection": 2, "measured": 2, "umap": 3,
    }  # fmt: skip
    shown = drawn["projection"][0].images[-1].get_array()
    np.testing.assert_allclose(
        np.nanmax(shown), np.nanmax(sp.get.gene_raster(tmp_path / "a.zarr", "class1_a").values), rtol=1e-5
    )
    plt.close("all")


# --- a real section ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_section_goes_through(real_section, tmp_path):
    name = "mob_st_1"
    adata = sp.io.read_visium(real_section(name), library_id=name)
    sp.tl.fit_projection(adata, store=tmp_path / "a.zarr", um_per_px=30, max_epochs=2, device="cpu")
    import spatialdata as sd

    assert name in sd.read_zarr(tmp_path / "a.zarr").tables["table"].uns["spatial"]
    fitted = adata.obsm["projection_fitted"].sum(axis=1)
    totals = np.asarray(adata.X.sum(axis=1)).ravel()
    assert fitted.sum() == pytest.approx(totals.sum(), rel=0.1)
    assert np.corrcoef(fitted, totals)[0, 1] > 0.5


def test_standard_deviations_and_skill_are_written(fitted, store):
    values, spread = (raster(store, name) for name in (KEY, f"{KEY}_sd"))
    inside = np.isfinite(values)
    np.testing.assert_array_equal(inside, np.isfinite(spread))
    assert (spread[inside] > 0).all()
    for name in ("pearson", "deviance_explained", "dispersion"):
        assert np.isfinite(fitted.var[f"{KEY}_{name}"]).all()


# --- several devices --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_devices_train_together_and_say_so(small_toy, tmp_path, monkeypatch):
    from sphisto.train import processes as ranks

    monkeypatch.setattr(ranks, "n_cores", lambda: 2)
    fit(small_toy, tmp_path / "toy.zarr", config=with_devices("fast", 2))
    found = small_toy.uns[KEY]
    assert sp.config.FitConfig.from_json(found["params"]["config"]).train.devices == 2
    assert np.isfinite(found["history"]["loss"]).all()
    assert np.isfinite(raster(tmp_path / "toy.zarr", "projection_factors")).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.projection.pt", "toy.zarr"]
    with pytest.raises(ValueError, match="devices=3 and 2 processor cores"):
        fit(small_toy, tmp_path / "other.zarr", config=with_devices("default", 3))


def test_genes_that_are_not_there_are_refused_before_the_image_is_read(small_toy, tmp_path, monkeypatch):
    from sphisto.tl import _fit_projection

    monkeypatch.setattr(_fit_projection, "make_slide", lambda *_, **__: pytest.fail("read the image"))
    for genes, error in ((["class1_a", "Nrgn"], KeyError), ([], ValueError)):
        with pytest.raises(error, match="Found no gene 'Nrgn' among|empty list of genes"):
            sp.tl.fit_projection(small_toy, store=tmp_path / "none.zarr", genes=genes)
    assert not list(tmp_path.iterdir())
