"""Results come back to the rows that they are of: in joined tables, with spots beside the tissue, and in a SpatialData."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sphisto as sp


def fit(data, path, **options):
    sp.tl.fit_projection(data, store=path, max_epochs=1, genes=["class0_a"], device="cpu", **options)


@pytest.fixture
def joined(small_toy):
    """Two sections in one table, the second with spots elsewhere and 20 of its spots only."""
    other = small_toy[::-1][:20].copy()
    other.obsm["spatial"] = other.obsm["spatial"] + 1.5
    both = ad.concat({"A": small_toy, "B": other}, label="library_id", index_unique="-", merge="same")
    both.uns["spatial"] = dict.fromkeys(("A", "B"), small_toy.uns["spatial"]["toy"])
    return both


def test_a_library_of_a_joined_table(joined, tmp_path):
    import spatialdata as sd

    own = np.array(joined.obs["library_id"] == "A")
    joined.obs["in_tissue"] = np.where(np.arange(joined.n_obs) == 3, 0, 1)
    own[3] = False
    fit(joined, tmp_path / "a.zarr", library_id="A")
    fitted = joined.obsm["projection_fitted"]
    np.testing.assert_array_equal(np.isfinite(fitted).all(axis=1), own)
    assert not np.isfinite(fitted[~own]).any()
    sdata = sd.read_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(sdata["table"].obs_names, joined.obs_names[own])
    np.testing.assert_array_equal(sdata["table"].obsm["projection_fitted"], fitted[own])
    assert list(sdata["table"].uns["spatial"]) == ["A"]
    xy = np.column_stack([sdata["A_spots"].geometry.x, sdata["A_spots"].geometry.y])
    np.testing.assert_allclose(xy, joined.obsm["spatial"][own])
    about = joined.uns["projection"]["params"]["section"]
    assert "1 are left out" in about["rows"]
    assert "obs['library_id']" in about["rows"]


def test_an_evaluation_of_one_library_leaves_the_others_alone(joined):
    own = np.array(joined.obs["library_id"] == "A")
    sp.tl.evaluate(joined, library_id="A", max_epochs=1, device="cpu")
    held_out = joined.obs["evaluation_held_out"].to_numpy()
    assert held_out.dtype == bool
    assert 0 < held_out[own].sum() < own.sum()
    assert not held_out[~own].any()


def test_the_table_of_a_spatialdata_gets_the_results(small_toy, tmp_path):
    import spatialdata as sd
    from spatialdata.models import Image2DModel, ShapesModel, TableModel

    picture = np.moveaxis(small_toy.uns["spatial"]["toy"]["images"]["hires"], -1, 0)
    xy, n = small_toy.obsm["spatial"], small_toy.n_obs
    shapes, images = {}, {}
    for name in ("A", "B"):
        shapes[name] = ShapesModel.parse(xy, geometry=0, radius=7.8, index=np.arange(n) + (n if name == "B" else 0))
        images[f"{name}_hires_image"] = Image2DModel.parse(picture, dims=("c", "y", "x"))
    table = ad.concat([small_toy, small_toy], index_unique="-")
    table.obs["region"] = pd.Categorical(["A"] * n + ["B"] * n)
    table.obs["spot_id"] = np.arange(2 * n)
    linked = TableModel.parse(table, region=["A", "B"], region_key="region", instance_key="spot_id")
    sdata = sd.SpatialData(images=images, shapes=shapes, tables={"table": linked})
    with pytest.raises(ValueError, match="several annotated regions: A, B"):
        fit(sdata, tmp_path / "b.zarr")
    fit(sdata, tmp_path / "b.zarr", library_id="B")
    fitted = sdata["table"].obsm["projection_fitted"]
    assert np.isfinite(fitted[n:]).all()
    assert np.isnan(fitted[:n]).all()
    assert sdata["table"].uns["projection"]["params"]["library_id"] == "B"


def test_a_section_whose_table_has_changed_is_refused(small_toy, tmp_path):
    section = sp.io.section(small_toy)
    sp.pp.qc(small_toy, min_genes=2, max_counts=float(np.median(np.asarray(small_toy.X.sum(axis=1)))))
    with pytest.raises(ValueError, match="has changed since .* it had 44 x 18 spots x genes"):
        fit(section, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_a_copy_leaves_the_table_as_it_is(small_toy, tmp_path):
    before = set(small_toy.obsm)
    section = sp.io.section(small_toy)
    changed = sp.tl.fit_projection(
        section, store=tmp_path / "a.zarr", max_epochs=1, genes="class0_a", device="cpu", copy=True
    )
    assert set(small_toy.obsm) == before
    assert "projection_fitted" in changed.obsm


def test_a_picture_alone_cannot_be_fitted(tmp_path):
    section = sp.io.section(np.zeros((50, 50, 3), np.uint8), image_um_per_px=1.0)
    with pytest.raises(ValueError, match="'image' is an image alone; expected an AnnData or SpatialData with counts"):
        fit(section, tmp_path / "a.zarr")
