"""Every kind of input that cannot be right, and what is said of it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from sphisto.io.intake import make_slide, read_section


def slide_of(data, **options):
    reading = {key: options.pop(key) for key in ("image", "image_scale", "library_id") if key in options}
    return make_slide(read_section(data, **reading), **options)


def library(adata):
    return adata.uns["spatial"]["toy"]


def test_a_visium_anndata_becomes_arrays(small_toy):
    slide = slide_of(small_toy)
    assert slide.name == "toy"
    assert slide.grid.shape == (96, 112) == slide.tissue.shape
    np.testing.assert_array_equal(slide.image, np.moveaxis(library(small_toy)["images"]["hires"], -1, 0))
    np.testing.assert_allclose(slide.spots.centers[:, ::-1], small_toy.obsm["spatial"])
    np.testing.assert_array_equal(slide.spots.values.toarray(), small_toy.X.toarray())
    assert slide.spots.is_counts
    # the toy's array is drawn at 24 um pitch and read as Visium's 100 um
    assert slide.grid.um_per_px == pytest.approx(2 * 100 / 24)
    assert slide.spot_area == pytest.approx(np.pi * (24 * 0.55 / 2 / 2) ** 2)


def test_the_fitted_area_of_a_spot_is_its_disc(small_toy):
    slide = slide_of(small_toy)
    np.testing.assert_allclose(slide.footprint().area, slide.spot_area, rtol=1e-6)


def test_scaled_pictures_keep_spots_in_place(small_toy):
    library(small_toy)["scalefactors"]["tissue_hires_scalef"] = 0.5
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] * 2
    slide = slide_of(small_toy)
    np.testing.assert_allclose(slide.grid.fullres_per_px, (2, 2))
    np.testing.assert_allclose(slide.spots.centers[:, ::-1] * 2, small_toy.obsm["spatial"])


def test_a_coarser_grid_averages_blocks(small_toy):
    native = slide_of(small_toy)
    coarse = slide_of(small_toy, um_per_px=3 * native.grid.um_per_px)
    assert coarse.grid.shape == (32, 37)
    blocks = native.image[:, :96, :111].astype(float).reshape(3, 32, 3, 37, 3).mean(axis=(2, 4))
    assert np.abs(coarse.image - blocks).max() <= 0.5
    np.testing.assert_allclose(coarse.spots.centers * 3, native.spots.centers)


@pytest.mark.parametrize("shape", ["rgba", "grey", "sixteen_bit", "float"])
def test_pictures_of_other_kinds_are_converted_and_said(small_toy, caplog, shape):
    rgb = library(small_toy)["images"]["hires"]
    changed = {
        "rgba": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "grey": rgb.mean(axis=2).astype(np.uint8),
        "sixteen_bit": rgb.astype(np.uint16) * 257,
        "float": rgb.astype(np.float32) / 255,
    }[shape]
    library(small_toy)["images"]["hires"] = changed
    with caplog.at_level(logging.INFO, logger="sphisto"):
        slide = slide_of(small_toy)
    assert slide.image.shape == (3, 96, 112)
    assert slide.image.dtype == np.uint8
    if shape != "grey":
        np.testing.assert_array_equal(slide.image, np.moveaxis(rgb, -1, 0))
    assert any("toy:" in record.message for record in caplog.records)


# --- refused ----------------------------------------------------------------------------------------------------------


def test_something_else_than_a_section_is_refused():
    with pytest.raises(TypeError, match="Found dict; expected an AnnData"):
        read_section({})


def test_no_coordinates(small_toy):
    del small_toy.obsm["spatial"]
    with pytest.raises(ValueError, match=r'Found no obsm\["spatial"\].*read_visium'):
        read_section(small_toy)


def test_coordinates_of_the_wrong_shape(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"][:, :1]
    with pytest.raises(ValueError, match=r"coordinates of shape \(\d+, 1\); expected \(spots, 2\)"):
        read_section(small_toy)


def test_coordinates_that_are_not_finite(small_toy):
    small_toy.obsm["spatial"][3, 0] = np.nan
    with pytest.raises(ValueError, match=r"Found 1 of \d+ spots without finite coordinates"):
        read_section(small_toy)


def test_no_picture(small_toy):
    library(small_toy)["images"] = {}
    with pytest.raises(ValueError, match="Found no tissue image.*Pass the picture as `image=`"):
        read_section(small_toy)


def test_one_spot(small_toy):
    with pytest.raises(ValueError, match=r"Found 1 spot\(s\); a projection needs at least two"):
        read_section(small_toy[:1].copy())


def test_several_libraries(small_toy):
    small_toy.uns["spatial"]["other"] = library(small_toy)
    with pytest.raises(ValueError, match="several libraries.*toy, other.*library_id"):
        read_section(small_toy)
    assert read_section(small_toy, library_id="other").library_id == "other"


def test_an_unknown_library(small_toy):
    with pytest.raises(KeyError, match="Found no library 'x' in uns.*toy"):
        read_section(small_toy, library_id="x")


@pytest.mark.parametrize("scale", [0.0, -1.0, 4.0, float("nan")])
def test_scale_factors_that_cannot_be_right(small_toy, scale):
    library(small_toy)["scalefactors"]["tissue_hires_scalef"] = scale
    with pytest.raises(ValueError, match="tissue_hires_scalef is .*above 0 and at most 1"):
        read_section(small_toy)


def test_spots_outside_the_picture(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + 60
    with pytest.raises(ValueError, match="toy: .*outside.*check=False"):
        slide_of(small_toy)


def test_the_lowres_picture_taken_for_full_resolution_names_the_scale_that_fits(small_toy):
    picture = library(small_toy)["images"]["hires"][::4, ::4]
    library(small_toy)["scalefactors"]["tissue_lowres_scalef"] = 0.25
    library(small_toy)["images"].pop("lowres", None)
    with pytest.raises(ValueError, match=r"tissue_lowres_scalef = 0.25 would fit \(`image_scale=0.25`\)"):
        slide_of(small_toy, image=picture)
    assert slide_of(small_toy, image=picture, image_scale=0.25).grid.shape == (24, 28)


def test_spots_off_tissue(small_toy):
    mask = np.zeros((96, 112), dtype=bool)
    mask[:20, :20] = True
    with pytest.raises(ValueError, match="toy: .*tissue"):
        slide_of(small_toy, tissue=mask)


def test_a_flipped_picture_is_named():
    import sphisto as sp

    adata = sp.datasets.toy(160, 240, pitch_um=20, rng=3)
    mask = np.zeros((160, 240), dtype=bool)  # a wedge: no two orientations agree
    for y in range(160):
        mask[y, : 40 + y] = True
    inside = mask[tuple(adata.obsm["spatial"][:, ::-1].astype(int).T)]
    adata = adata[inside].copy()
    slide_of(adata, tissue=mask)
    with pytest.raises(ValueError, match="flipped left-right"):
        slide_of(adata, tissue=mask[:, ::-1])


def test_a_mask_of_other_proportions(small_toy):
    with pytest.raises(ValueError, match=r"tissue mask measures \(50, 50\) px.*proportions differ"):
        slide_of(small_toy, tissue=np.ones((50, 50), dtype=bool))


def test_missed_spots_are_added_to_the_tissue_and_said(small_toy, caplog):
    mask = np.ones((96, 112), dtype=bool)
    y, x = small_toy.obsm["spatial"][0, ::-1].astype(int)
    mask[y - 6 : y + 7, x - 6 : x + 7] = False
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        slide = slide_of(small_toy, tissue=mask)
    assert slide.tissue[y, x]
    assert "1 of" in caplog.text
    assert "off the tissue" in caplog.text


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "1 NaN or infinite values in X"), (-1.0, "negative values in X.*layer=")]
)
def test_values_that_are_no_counts_are_refused(small_toy, value, message):
    small_toy.X = small_toy.X.copy()
    small_toy.X.data[0] = value
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy)


def test_values_that_are_not_integers_are_said(small_toy, caplog):
    small_toy.X = small_toy.X * 0.5
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        slide = slide_of(small_toy)
    assert not slide.spots.is_counts
    assert "Gaussian likelihood" in caplog.text


def test_counts_are_taken_from_their_layer(small_toy):
    small_toy.layers["counts"] = small_toy.X.copy()
    small_toy.X = small_toy.X * 0.5
    assert slide_of(small_toy).spots.is_counts
    with pytest.raises(KeyError, match="Found no layer 'raw'; the table has counts"):
        slide_of(small_toy, layer="raw")


def test_only_zeros(small_toy):
    small_toy.X = small_toy.X * 0
    with pytest.raises(ValueError, match="only zeros in X"):
        slide_of(small_toy)


def test_duplicated_genes(small_toy):
    small_toy.var_names = ["same", "same", *small_toy.var_names[2:]]
    with pytest.raises(ValueError, match=r"duplicated gene names \(same\).*var_names_make_unique"):
        slide_of(small_toy)


def test_no_genes(small_toy):
    with pytest.raises(ValueError, match="0 genes; nothing is left to fit"):
        slide_of(small_toy[:, :0].copy())


@pytest.mark.parametrize("name", ["a\0", "a\ud800"])
def test_gene_names_that_are_no_text(small_toy, name):
    small_toy.var_names = [name, *small_toy.var_names[1:]]
    with pytest.raises(ValueError, match=r"gene names that are no text \('a\\.*encoding"):
        slide_of(small_toy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: None, "Found no values in X"),
        (lambda counts: counts.toarray().astype(complex), "Found values of type complex128 in X"),
        (lambda counts: counts.toarray().astype(str).astype(object), "Found values of type object in X"),
        (lambda counts: counts.astype(np.float64) * 1e38, "NaN or infinite values in X as float32"),
    ],
    ids=["none", "complex", "words", "beyond float32"],
)
def test_tables_that_hold_no_numbers_to_fit(small_toy, change, message):
    small_toy.X = change(small_toy.X)
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy)


def test_a_table_that_stays_in_its_file(small_toy, tmp_path):
    import anndata

    small_toy.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    np.testing.assert_array_equal(slide_of(backed).spots.values.toarray(), small_toy.X.toarray())


@pytest.mark.parametrize("options", [{"um_per_px": -1}, {"um_per_px": "fine"}, {"um_per_px": np.nan}, {"spot_um": 0}])
def test_lengths_that_are_none(small_toy, options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=rf"Found {name}={value!r}; expected a finite number above 0"):
        slide_of(small_toy, **options)


def test_spots_of_an_unknown_shape(small_toy):
    with pytest.raises(ValueError, match="Found spot_shape='star'; expected 'disc' or 'square'"):
        slide_of(small_toy, spot_shape="star")


def test_spots_that_would_lie_on_each_other(small_toy):
    with pytest.raises(ValueError, match=r"spots of 5.5e\+04 um that lie 100 um apart.*in um \(not in pixels\)"):
        slide_of(small_toy, spot_um=55_000)


@pytest.mark.parametrize("value", ["10 px", None, np.nan, -3])
def test_a_spot_diameter_that_is_none_is_not_needed(small_toy, value):
    expected = slide_of(small_toy)
    library(small_toy)["scalefactors"]["spot_diameter_fullres"] = value
    assert slide_of(small_toy).grid == expected.grid


def test_positions_on_the_array_that_are_no_numbers_are_not_needed(small_toy):
    expected = slide_of(small_toy)
    small_toy.obs["array_row"] = "first"
    assert slide_of(small_toy).grid.um_per_px == pytest.approx(expected.grid.um_per_px, rel=0.02)


def test_a_stated_scale_that_is_none(small_toy):
    library(small_toy)["scalefactors"]["microns_per_pixel"] = "0.5 um"
    with pytest.raises(ValueError, match="Found microns_per_pixel='0.5 um'; expected a finite number"):
        slide_of(small_toy)


def test_coordinates_that_are_words(small_toy):
    small_toy.obsm["spatial"] = np.full((small_toy.n_obs, 2), "left")
    with pytest.raises(ValueError, match="coordinates that are no numbers .*'left'"):
        slide_of(small_toy)


@pytest.mark.parametrize("spatial", [{"toy": None}, ["toy"], {"toy": "picture.tif"}])
def test_a_layout_of_another_form(small_toy, spatial):
    small_toy.uns["spatial"] = spatial
    with pytest.raises(ValueError, match=r"Found uns\['spatial'\] of another form \((dict|list)\); expected a dict"):
        slide_of(small_toy)


def test_no_spot_on_the_picture_is_refused_unasked(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + 1e12
    with pytest.raises(ValueError, match=r"None of the 44 spots lies on the image, which measures 96 x 112 px"):
        slide_of(small_toy, check=False)


def test_no_counts_on_the_picture(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"].copy()
    small_toy.obsm["spatial"][3:] += 1000
    small_toy.X = np.asarray(small_toy.X.toarray()) * (np.arange(44) >= 3)[:, None]
    with pytest.raises(ValueError, match="The 3 of 44 spots that lie on the image hold no counts"):
        slide_of(small_toy, check=False)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((96, 112), np.nan), "mask of float64 with NaN; expected bool"),
        (np.full((96, 112), "tissue"), "mask of <U6 values; expected bool"),
        (np.zeros((0, 5), bool), r"mask of shape \(0, 5\)"),
    ],
)
def test_masks_that_are_none(small_toy, mask, message):
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy, tissue=mask)


def test_a_mask_of_the_picture_fits_a_much_coarser_grid(small_toy):
    mask = np.zeros((96, 112), bool)
    mask[:, 40:] = True
    native = slide_of(small_toy, tissue=mask).grid
    coarse = slide_of(small_toy, tissue=mask, um_per_px=20 * native.um_per_px, check=False, repair=False)
    assert coarse.grid.shape == (4, 5)
    np.testing.assert_array_equal(coarse.tissue, np.broadcast_to(np.arange(5) >= 2, (4, 5)))


# --- SpatialData ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sdata(small_toy):
    """The same section as a SpatialData: picture at half resolution, circles in full-resolution px."""
    import spatialdata as sd
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    half = library(small_toy)["images"]["hires"][::2, ::2]
    table = small_toy.copy()
    table.obs["region"], table.obs["spot"] = "toy_spots", np.arange(table.n_obs)
    table.obs["region"] = table.obs["region"].astype("category")
    del table.uns["spatial"]
    picture = Image2DModel.parse(half, dims=("y", "x", "c"), transformations={"global": Scale([2, 2], ("y", "x"))})
    circles = ShapesModel.parse(
        small_toy.obsm["spatial"], geometry=0, radius=7.8, transformations={"global": Identity()}
    )
    linked = TableModel.parse(table, region="toy_spots", region_key="region", instance_key="spot")
    return sd.SpatialData(images={"toy_hires": picture}, shapes={"toy_spots": circles}, tables={"t": linked})


def test_a_spatialdata_gives_the_same_slide(sdata, small_toy):
    slide, expected = slide_of(sdata), slide_of(small_toy)
    assert slide.name == "toy"
    np.testing.assert_allclose(slide.grid.fullres_per_px, (2, 2))
    np.testing.assert_allclose(slide.spots.centers * 2, expected.spots.centers)
    assert slide.grid.fullres_um_per_px == pytest.approx(expected.grid.fullres_um_per_px)
    assert (slide.spots.values != expected.spots.values).nnz == 0


def test_rows_of_the_table_follow_their_shapes(sdata, small_toy):
    turned = sdata.tables["t"][::-1].copy()
    del sdata.tables["t"]
    sdata.tables["t"] = turned
    np.testing.assert_allclose(slide_of(sdata).spots.centers * 2, slide_of(small_toy).spots.centers[::-1])


def test_squares_are_bins(sdata):
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    xy = np.column_stack([sdata.shapes["toy_spots"].geometry.x, sdata.shapes["toy_spots"].geometry.y])
    boxes = gpd.GeoDataFrame(geometry=shapely.box(*(xy - 5).T, *(xy + 5).T))
    table = sdata.tables["t"].copy()
    table.obs["region"] = "square_016um"
    table.obs["region"] = table.obs["region"].astype("category")
    table.uns["spatialdata_attrs"]["region"] = "square_016um"
    del sdata.tables["t"], sdata.shapes["toy_spots"]
    sdata.shapes["square_016um"] = ShapesModel.parse(boxes, transformations={"global": Identity()})
    sdata.tables["t"] = table
    slide = slide_of(sdata)
    assert (slide.spot.shape, slide.spot.um) == ("square", 16)
    assert slide.grid.fullres_um_per_px == pytest.approx(1.6)
    np.testing.assert_allclose(slide.footprint().area, 25, rtol=1e-6)  # 10 full-resolution px are 5 px of the picture


def test_a_spatialdata_without_table_or_image(sdata):
    picture = sdata.images.pop("toy_hires")
    with pytest.raises(ValueError, match="Found no image in a coordinate system of 'toy_spots'"):
        read_section(sdata)
    sdata.images["toy_hires"] = picture
    del sdata.tables["t"]
    with pytest.raises(ValueError, match="Found no table that annotates circles or squares"):
        read_section(sdata)


def test_turned_elements_are_refused(sdata):
    from spatialdata.transformations import Affine, set_transformation

    turn = Affine([[0, -1, 0], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    set_transformation(sdata.images["toy_hires"], turn, "global")
    with pytest.raises(ValueError, match="'toy_hires' lies in 'global' by more than a scale"):
        read_section(sdata)


def test_pixels_larger_than_cells_are_said_to_be(small_toy, caplog):
    native = slide_of(small_toy)
    assert "shows no cells" not in caplog.text
    slide_of(small_toy, um_per_px=native.spot.um / 2)
    assert "shows no cells" in caplog.text
