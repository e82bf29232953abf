"""Sections in the Visium layout and in SpatialData, and what is said of what is none."""

from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.intake import make_slide


def slide_of(data, **options):
    making = {key: options.pop(key) for key in ("um_per_px", "repair") if key in options}
    return make_slide(sp.io.section(data, **options), **making)


def library(adata):
    return adata.uns["spatial"]["toy"]


def test_something_else_than_a_section_is_refused():
    with pytest.raises(TypeError, match="Found dict; expected an AnnData"):
        sp.io.section({})


def test_no_coordinates(small_toy):
    del small_toy.obsm["spatial"]
    with pytest.raises(ValueError, match=r'Found no obsm\["spatial"\].*read_visium'):
        sp.io.section(small_toy)


def test_coordinates_of_the_wrong_shape(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"][:, :1]
    with pytest.raises(ValueError, match=r"coordinates of shape \(\d+, 1\); expected \(spots, 2\)"):
        sp.io.section(small_toy)


def test_coordinates_that_are_not_finite(small_toy):
    small_toy.obsm["spatial"][3, 0] = np.nan
    with pytest.raises(ValueError, match=r"Found 1 of \d+ spots without finite coordinates"):
        sp.io.section(small_toy)


def test_no_picture(small_toy):
    library(small_toy)["images"] = {}
    with pytest.raises(ValueError, match="Found no tissue image.*Pass the picture as `image=`"):
        sp.io.section(small_toy)


def test_several_libraries(small_toy):
    small_toy.uns["spatial"]["other"] = library(small_toy)
    with pytest.raises(ValueError, match="several libraries.*toy, other.*library_id"):
        sp.io.section(small_toy)
    assert sp.io.section(small_toy, library_id="other").library_id == "other"


def test_an_unknown_library(small_toy):
    with pytest.raises(KeyError, match="Found no library 'x' in uns.*toy"):
        sp.io.section(small_toy, library_id="x")


@pytest.mark.parametrize("scale", [0.0, -1.0, 4.0, float("nan")])
def test_scale_factors_that_cannot_be_right(small_toy, scale):
    library(small_toy)["scalefactors"]["tissue_hires_scalef"] = scale
    with pytest.raises(ValueError, match="tissue_hires_scalef is .*above 0 and at most 1"):
        sp.io.section(small_toy)


@pytest.mark.parametrize("value", ["10 px", None, np.nan, -3])
def test_a_spot_diameter_that_is_none_is_not_needed(small_toy, value):
    expected = slide_of(small_toy)
    library(small_toy)["scalefactors"]["spot_diameter_fullres"] = value
    assert slide_of(small_toy).grid == expected.grid


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
    with pytest.raises(
        ValueError, match=r"Found uns\['spatial'\] of another form \((dict with 'toy': \w+|list)\); expected a dict"
    ):
        slide_of(small_toy)


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
        sp.io.section(sdata)
    sdata.images["toy_hires"] = picture
    del sdata.tables["t"]
    with pytest.raises(ValueError, match="Found no table that annotates circles or squares"):
        sp.io.section(sdata)


def test_turned_elements_are_refused(sdata):
    from spatialdata.transformations import Affine, set_transformation

    turn = Affine([[0, -1, 0], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    set_transformation(sdata.images["toy_hires"], turn, "global")
    with pytest.raises(ValueError, match="'toy_spots' lies in 'toy_hires' by more than a scale.*Rotations"):
        sp.io.section(sdata)
