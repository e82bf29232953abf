from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.genes.lognorm import expected_lognorm
from sphisto.io.store.stored_raster import StoredRaster


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


def test_odd_outlines_are_summed_over_the_area_they_cover(fitted, store):
    import geopandas as gpd
    import shapely

    bow = shapely.Polygon([(20, 20), (90, 80), (90, 20), (20, 80)])
    twice = shapely.MultiPolygon([shapely.box(20, 20, 60, 60), shapely.box(40, 20, 80, 60)])
    odd = gpd.GeoDataFrame(geometry=[bow, twice, shapely.Polygon(), None])
    plain = gpd.GeoDataFrame(geometry=[shapely.make_valid(bow), shapely.box(20, 20, 80, 60)])
    found, expected = sp.tl.aggregate(store, odd), sp.tl.aggregate(store, plain)
    np.testing.assert_allclose(found.X[:2], expected.X, rtol=1e-5)
    np.testing.assert_allclose(found.layers["density"][:2], expected.layers["density"], rtol=1e-5)
    um2 = fitted.uns["projection"]["params"]["um_per_px"] ** 2
    np.testing.assert_allclose(found.obs["area_um2"], [area * um2 for area in (2100, 2400, 0, 0)])
    tissue = sp.get.raster(store, "toy_tissue").values.astype(bool)
    assert found.obs["coverage"].iloc[1] == pytest.approx(tissue[20:60, 20:80].mean(), abs=1e-6)
    assert not found.X[2:].any()
    assert np.isnan(found.layers["density"][2:]).all()
    assert found.obs["coverage"][2:].isna().all()


def test_an_element_is_summed_where_it_lies(store):
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Scale

    half = {"global": Scale([2.0, 2.0], axes=("x", "y"))}
    element = ShapesModel.parse(gpd.GeoDataFrame(geometry=[shapely.box(10, 10, 45, 40)]), transformations=half)
    found = sp.tl.aggregate(store, element)
    expected = sp.tl.aggregate(store, gpd.GeoDataFrame(geometry=[shapely.box(20, 20, 90, 80)]))
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-5)
    np.testing.assert_allclose(found.obs["area_um2"], expected.obs["area_um2"])


def test_spots_of_the_store_are_regions(fitted, store):
    """Summed over its own spots, a raster gives what the fit says of them."""
    import spatialdata as sd

    params = fitted.uns["projection"]["params"]
    for source in (store, sd.read_zarr(store)):
        found = sp.tl.aggregate(source, "toy_spots", genes="nuclei_a")
        assert found.n_obs == fitted.n_obs
        radius = params["spot_um"] / params["um_per_px"] / 2
        same = sp.tl.aggregate(source, fitted.obsm["spatial"], radius=radius, genes="nuclei_a")
        np.testing.assert_allclose(found.X, same.X, rtol=1e-4)


def test_names_that_come_twice_get_a_number(store, caplog):
    import geopandas as gpd
    import shapely

    boxes = gpd.GeoDataFrame(geometry=[shapely.box(20, 20, 40, 40), shapely.box(30, 30, 50, 50)], index=["a", "a"])
    found = sp.tl.aggregate(store, boxes, genes="nuclei_a")
    assert list(found.obs_names) == ["a", "a-1"]
    assert "Names of regions that come more than once get a number: a." in caplog.text


def test_deviations_are_those_of_the_rasters_summed(fitted, store):
    """Oracle: a loop over whole pixels; genes that were not written as rasters have none."""
    import geopandas as gpd
    import shapely

    square = gpd.GeoDataFrame(geometry=[shapely.box(30, 20, 60, 50)])
    deviations = sp.get.raster(store, "projection_sd")
    written = [str(name) for name in deviations["c"].values]
    other = next(name for name in fitted.var_names if name not in written)
    found = sp.tl.aggregate(store, square, genes=[other, *written])
    params = fitted.uns["projection"]["params"]
    spot_area = np.pi * (params["spot_um"] / params["um_per_px"] / 2) ** 2
    expected = np.nansum(deviations.values[:, 20:50, 30:60], axis=(1, 2)) / spot_area
    np.testing.assert_allclose(found.layers["sd"][0, 1:], expected, rtol=1e-4)
    assert np.isnan(found.layers["sd"][0, 0])


def test_logarithms_are_those_of_counts_on_average(fitted, store):
    circles = np.array([[50.0, 50.0], [20.5, 70.0]])
    found = sp.tl.aggregate(store, circles, radius=3.0)
    total = found.X.astype(float).sum(axis=1)
    target = found.uns["lognorm"]["target_sum"]
    usual = np.median(np.asarray(fitted.X.sum(axis=1)))
    assert target == pytest.approx(usual, rel=0.05)
    scatter = fitted.var["projection_dispersion"].to_numpy(float)
    np.testing.assert_allclose(found.layers["lognorm"], expected_lognorm(found.X, scatter, total, target), rtol=1e-4)
    assert (found.layers["lognorm"] < np.log1p(target * found.X / total[:, None])).all()
    some = sp.tl.aggregate(store, circles, radius=3.0, genes=["nuclei_a"], target_sum=100)
    assert some.uns["lognorm"]["target_sum"] == 100
    place = [list(fitted.var_names).index("nuclei_a")]
    expected = expected_lognorm(found.X[:, place], scatter[place], total, 100)
    np.testing.assert_allclose(some.layers["lognorm"], expected, rtol=1e-4)


def test_without_tissue_nothing_is_known(store):
    tissue = sp.get.raster(store, "toy_tissue").values.astype(bool)
    y, x = np.argwhere(~tissue)[0]
    found = sp.tl.aggregate(store, np.array([[x + 0.5, y + 0.5], [50.0, 50.0]]), radius=0.4)
    assert np.isnan(found.layers["lognorm"][0]).all()
    assert np.isfinite(found.layers["lognorm"][1]).all()


@pytest.mark.parametrize("target_sum", [0, -5, np.nan, np.inf])
def test_a_target_that_is_no_number_of_counts_is_refused(store, target_sum):
    with pytest.raises(ValueError, match="target_sum"):
        sp.tl.aggregate(store, np.array([[50.0, 50.0]]), radius=3, target_sum=target_sum)


def test_where_no_spot_is_known_no_deviation_is_claimed(fitted, tmp_path):
    model = sp.tl.load(fitted)
    section = sp.io.section(fitted.uns["spatial"]["toy"]["images"]["hires"], image_um_per_px=model.um_per_px)
    sp.tl.predict(model, section, store=tmp_path / "alone.zarr")
    found = sp.tl.aggregate(tmp_path / "alone.zarr", np.array([[50.0, 50.0]]), radius=10, genes=list(model.genes))
    assert np.isnan(found.layers["sd"]).all()
    assert (found.X > 0).all()
    assert np.isfinite(found.layers["lognorm"]).all()


def test_an_unknown_gene_is_refused_before_maps_are_read(store, monkeypatch):
    monkeypatch.setattr(StoredRaster, "read", lambda *_: pytest.fail("maps were read"))
    with pytest.raises(KeyError, match="Found no gene 'Nrgn'"):
        sp.tl.aggregate(store, np.array([[50.0, 50.0]]), radius=10, genes="Nrgn")


def block_sums(values, side):
    """Sums of (c, y, x) values over whole blocks of pixels, NaN as 0."""
    _, height, width = values.shape
    padded = np.pad(np.nan_to_num(values), ((0, 0), (0, -height % side), (0, -width % side)))
    return padded.reshape(len(values), padded.shape[1] // side, side, -1, side).sum(axis=(2, 4))


@pytest.mark.parametrize("side", [1, 4, 7, 200])
def test_bins_of_whole_pixels_are_sums_of_blocks(fitted, store, side):
    params = fitted.uns["projection"]["params"]
    genes = ["nuclei_a", "noise_a"]
    found = sp.tl.aggregate(store, square_um=side * params["um_per_px"], genes=genes)
    raster = sp.get.gene_raster(store, genes).values
    spot_area = np.pi * (params["spot_um"] / params["um_per_px"] / 2) ** 2
    sums, tissue = block_sums(raster, side) / spot_area, block_sums(np.isfinite(raster[:1]), side)[0]
    rows, columns = np.nonzero(tissue)
    assert list(found.obs_names) == [f"bin_{y}_{x}" for y, x in zip(rows, columns, strict=True)]
    np.testing.assert_array_equal(found.obs[["array_row", "array_col"]], np.stack([rows, columns], axis=1))
    np.testing.assert_allclose(found.X, sums[:, rows, columns].T, rtol=2e-3, atol=1e-6)  # rasters are rounded
    np.testing.assert_allclose(found.obs["coverage"], tissue[rows, columns] / side**2, rtol=1e-5)
    np.testing.assert_allclose(found.obs["area_um2"], (side * params["um_per_px"]) ** 2)
    centers = (np.stack([columns, rows], axis=1) + 0.5) * side
    np.testing.assert_allclose(found.obsm["spatial"], centers)
    assert np.isfinite(found.layers["sd"][:, 0]).all()  # of the gene that is a raster of its own


def test_bins_that_cut_pixels_are_true_in_area_and_are_squares(store):
    import geopandas as gpd
    import shapely

    um = sp.get.raster(store, "projection_tissue").attrs["um_per_px"]
    found = sp.tl.aggregate(store, square_um=6.3 * um)
    squares = [
        shapely.box(6.3 * x, 6.3 * y, 6.3 * (x + 1), 6.3 * (y + 1))
        for y, x in zip(found.obs["array_row"], found.obs["array_col"], strict=True)
    ]
    same = sp.tl.aggregate(store, gpd.GeoDataFrame(geometry=squares, index=found.obs_names))
    np.testing.assert_allclose(found.X, same.X, rtol=1e-4, atol=1e-6)
    for layer in ("density", "sd", "lognorm"):
        np.testing.assert_allclose(found.layers[layer], same.layers[layer], rtol=1e-3, atol=1e-5)
    whole = sp.tl.aggregate(store, gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 112, 96)]))
    np.testing.assert_allclose(found.X.sum(axis=0), whole.X[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Found neither of `regions` and `square_um`"),
        ({"regions": "toy_tissue", "square_um": 16}, "Found both of `regions` and `square_um`"),
        ({"square_um": 16, "radius": 3}, "Found `radius` together with `square_um`"),
        ({"square_um": 0.5}, "square_um=0.5; expected at least a pixel of the raster, 8.333 um"),
        ({"square_um": -1}, "square_um"),
        ({"square_um": float("nan")}, "square_um"),
    ],
)
def test_bins_that_cannot_be_are_refused(store, given, words):
    with pytest.raises(ValueError, match=words):
        sp.tl.aggregate(store, **given)


def test_a_table_of_bins_that_may_not_fit_into_memory_is_said(store, caplog, monkeypatch):
    from sphisto.tl import _aggregate

    monkeypatch.setattr(_aggregate._say_large, "__kwdefaults__", {"many_gb": 0.0})
    sp.tl.aggregate(store, square_um=100)
    assert "Name fewer `genes`, or take a larger `square_um`." in caplog.text
