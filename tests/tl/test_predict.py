from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.store import read as stores


def test_the_fitted_slide_is_predicted_as_it_was_fitted(fitted, store, tmp_path):
    expected = sp.get.raster(store, "projection_factors").values
    sp.tl.predict(fitted.uns["projection"]["model"], fitted, store=tmp_path / "again.zarr", device="cpu")  # by its path
    found = sp.get.raster(tmp_path / "again.zarr", "projection_factors").values
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_a_picture_alone_gives_every_gene(fitted, tmp_path):
    import spatialdata as sd

    model = sp.tl.load(fitted)
    picture = fitted.uns["spatial"]["toy"]["images"]["hires"]
    path = tmp_path / "picture.zarr"
    section = sp.io.section(picture, image_um_per_px=model.um_per_px, library_id="new")
    sp.tl.predict(model, section, store=path, device="cpu")
    found = sp.get.gene_raster(path, ["noise_a", "class1_a"])
    tissue = sp.get.raster(path, "new_tissue").values.astype(bool)
    np.testing.assert_array_equal(np.isfinite(found.values[0]), tissue)
    assert sd.read_zarr(path).tables["table"].n_obs == 0
    assert not sd.read_zarr(path).shapes


def test_a_picture_of_another_resolution_is_brought_to_the_models(fitted, tmp_path):
    model = sp.tl.load(fitted)
    picture = fitted.uns["spatial"]["toy"]["images"]["hires"].repeat(2, axis=0).repeat(2, axis=1)
    section = sp.io.section(picture, image_um_per_px=model.um_per_px / 2)
    sp.tl.predict(model, section, store=tmp_path / "p.zarr", device="cpu")
    raster = sp.get.raster(tmp_path / "p.zarr", "projection_factors")
    assert raster.shape[1:] == (96, 112)
    assert raster.attrs["um_per_px"] == pytest.approx(model.um_per_px)


def test_genes_in_another_order_give_the_same(fitted, store, tmp_path):
    other = fitted[:, ::-1].copy()
    sp.tl.predict(sp.tl.load(fitted), other, store=tmp_path / "a.zarr", device="cpu")
    np.testing.assert_allclose(
        sp.get.gene_raster(tmp_path / "a.zarr", "nuclei_a").values,
        sp.get.gene_raster(store, "nuclei_a").values,
        rtol=1e-3,
        atol=1e-5,
    )
    np.testing.assert_array_equal(other.varm["projection_loadings"], fitted.varm["projection_loadings"][::-1])


def test_a_picture_without_scale_is_refused(fitted, tmp_path):
    with pytest.raises(ValueError, match="has no known scale; give .*image_um_per_px"):
        sp.tl.predict(sp.tl.load(fitted), np.zeros((50, 50, 3), np.uint8), store=tmp_path / "a.zarr")


def test_a_gene_that_a_section_lacks_is_told_by_the_others(fitted, store, tmp_path, caplog):
    """And is not one without counts; of the rest nothing changes much."""
    model = sp.tl.load(fitted)
    gene = model.genes[0]
    others = fitted[:, [name for name in fitted.var_names if name != gene]].copy()
    sp.tl.predict(model, others, store=tmp_path / "a.zarr", device="cpu")
    assert f"lacks 1 of the {fitted.n_vars} genes of the projection" in caplog.text
    found, expected = (sp.get.raster(path, "projection") for path in (tmp_path / "a.zarr", store))
    ratio = (found.mean(["y", "x"]) / expected.mean(["y", "x"])).values
    np.testing.assert_allclose(ratio, 1, atol=0.3)
    pair = [each.sel(c=gene).values[np.isfinite(expected.sel(c=gene).values)] for each in (found, expected)]
    assert np.corrcoef(*pair)[0, 1] > 0.8


def test_too_few_genes_in_common_are_refused(fitted, tmp_path):
    other = fitted[:, ["noise_a"]].copy()
    with pytest.raises(ValueError, match=r"The slide has 1 of the model's \d+ genes, which carry .* of its counts"):
        sp.tl.predict(sp.tl.load(fitted), other, store=tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_values_that_are_no_counts_are_refused_under_a_model_of_counts(fitted, tmp_path):
    other = fitted.copy()
    other.X = other.X * 0.37
    with pytest.raises(ValueError, match=r"no counts of 'toy'; expected raw counts, .*`layer`"):
        sp.tl.predict(sp.tl.load(fitted), other, store=tmp_path / "x.zarr")
    assert not list(tmp_path.iterdir())


def test_how_features_are_standardised_is_no_question_for_a_projection_of_one_section(fitted, tmp_path):
    with pytest.raises(ValueError, match="Found scaling='section' and a projection of one section"):
        sp.tl.predict(sp.tl.load(fitted), "not_read", store=tmp_path / "x.zarr", scaling="section")


def test_a_picture_alone_has_no_skill_and_is_warned_of(fitted, tmp_path, caplog):
    """One section teaches nothing of another; a section with spots is judged by its own."""
    model, table = sp.tl.load(fitted), tmp_path / "picture.zarr"
    section = sp.io.section(
        fitted.uns["spatial"]["toy"]["images"]["hires"], image_um_per_px=model.um_per_px, library_id="new"
    )
    sp.tl.predict(model, section, store=table, device="cpu")
    assert "has no spots, and the projection is of one section" in caplog.text
    assert np.isnan(stores.table(table).var["projection_pearson"]).all()
    with pytest.raises(ValueError, match="Found a slide without spots"):
        sp.pl.measured(table, "noise_a", show=False)
    other = sp.datasets.toy(96, 112, pitch_um=24, rng=77)
    sp.tl.predict(model, other, store=tmp_path / "other.zarr", device="cpu")
    own, of_the_fit = other.var["projection_pearson"], fitted.var["projection_pearson"]
    assert np.isfinite(own).any()
    assert not np.allclose(own, of_the_fit, equal_nan=True)


@pytest.mark.parametrize(("times", "said"), [(1.4, "is predicted at"), (1 / 1.4, "is predicted at"), (1, "")])
def test_pixels_of_another_size_are_warned_of(fitted, tmp_path, caplog, times, said):
    model = sp.tl.load(fitted)
    pixels = fitted.uns["spatial"]["toy"]["images"]["hires"]
    section = sp.io.section(pixels, image_um_per_px=times * model.um_per_px, library_id="new")
    sp.tl.predict(model, section, store=tmp_path / "a.zarr", device="cpu")
    assert ("is predicted at" in caplog.text) == bool(said)


def test_pixels_that_are_far_larger_are_refused(fitted, tmp_path):
    model = sp.tl.load(fitted)
    pixels = fitted.uns["spatial"]["toy"]["images"]["hires"]
    section = sp.io.section(pixels, image_um_per_px=3 * model.um_per_px, library_id="new")
    with pytest.raises(ValueError, match="um per px of 'new', the nearest to the .* of the projection"):
        sp.tl.predict(model, section, store=tmp_path / "a.zarr", device="cpu")
    assert not list(tmp_path.iterdir())


def test_the_path_of_a_store_is_no_model_and_its_models_are_named(fitted, store):
    with pytest.raises(FileNotFoundError, match=r"a store; expected what .* lie beside it: toy\.projection\.pt"):
        sp.tl.load(store)


def test_a_table_is_no_projection_and_is_told_how_to_load_it(fitted, tmp_path):
    with pytest.raises(
        TypeError, match=r"Found AnnData as `fitted`; expected a fitted projection.*sphisto\.tl\.load\(adata\)"
    ):
        sp.tl.predict(fitted, fitted, store=tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())
