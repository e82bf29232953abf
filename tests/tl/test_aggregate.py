from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp


def test_counts_are_the_integral_of_the_raster(fitted, store):
    """Oracle: a loop over whole pixels, on a square of whole pixels."""
    import geopandas as gpd
    import shapely

    square = gpd.GeoDataFrame(geometry=[shapely.box(30, 20, 60, 50)], index=["centre"])
    found = sp.tl.aggregate(store, square, genes=["nuclei_a", "noise_a"])
    raster = sp.get.gene_raster(store, ["nuclei_a", "noise_a"]).values[:, 20:50, 30:60]
    params = fitted.uns["projection"]["params"]
    spot_area = np.pi * (params["spot_um"] / params["um_per_px"] / 2) ** 2
    np.testing.assert_allclose(found.X[0], np.nansum(raster, axis=(1, 2)) / spot_area, rtol=1e-4)
    np.testing.assert_allclose(found.layers["density"][0], np.nanmean(raster, axis=(1, 2)), rtol=1e-4)
    assert found.obs["coverage"].iloc[0] == pytest.approx(np.isfinite(raster[0]).mean(), abs=1e-6)
    assert found.obs["area_um2"].iloc[0] == pytest.approx(900 * params["um_per_px"] ** 2)
    np.testing.assert_allclose(found.obsm["spatial"], [[45, 35]])
    assert list(found.obs_names) == ["centre"]
    assert list(found.var_names) == ["nuclei_a", "noise_a"]


def test_regions_that_tile_the_section_add_up_to_it(store):
    import geopandas as gpd
    import shapely

    boxes = [shapely.box(x, y, x + 16, y + 16) for y in range(0, 96, 16) for x in range(0, 112, 16)]
    parts = sp.tl.aggregate(store, gpd.GeoDataFrame(geometry=boxes))
    whole = sp.tl.aggregate(store, gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 112, 96)]))
    np.testing.assert_allclose(parts.X.sum(axis=0), whole.X[0], rtol=1e-4)


def test_what_lies_outside_tissue_or_picture_is_not_covered(store):
    tissue = sp.get.raster(store, "toy_tissue").values.astype(bool)
    y, x = np.argwhere(~tissue)[0]
    found = sp.tl.aggregate(store, np.array([[x + 0.5, y + 0.5], [112.0, 48.0]]), radius=0.4)
    assert found.obs["coverage"].iloc[0] == 0
    assert found.X[0].sum() == 0
    assert np.isnan(found.layers["density"][0]).all()
    assert found.obs["coverage"].iloc[1] <= 0.51


def test_labels_of_the_store_are_regions(store):
    tissue = sp.tl.aggregate(store, "toy_tissue")
    assert list(tissue.obs_names) == ["1"]
    assert tissue.obs["coverage"].iloc[0] == pytest.approx(1)


def test_all_genes_are_summed_unless_some_are_named(fitted, store):
    found = sp.tl.aggregate(store, np.array([[50.0, 50.0]]), radius=10)
    assert list(found.var_names) == list(fitted.var_names)
    with pytest.raises(KeyError, match="Found no gene 'Nrgn'"):
        sp.tl.aggregate(store, np.array([[50.0, 50.0]]), radius=10, genes="Nrgn")


def test_a_spatialdata_gives_the_same(store):
    import spatialdata as sd

    circles = np.array([[50.0, 50.0], [20.5, 70.0]])
    a, b = (sp.tl.aggregate(source, circles, radius=8.0).X for source in (store, sd.read_zarr(store)))
    np.testing.assert_array_equal(a, b)
