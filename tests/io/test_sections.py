"""Sections in the Visium layout and in SpatialData, and what is said of what is none."""

from __future__ import annotations

from dataclasses import replace
from html import escape

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.io.slides import make_slide


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


def test_coordinates_under_another_name_are_pointed_to(small_toy):
    xy = small_toy.obsm.pop("spatial")
    small_toy.obs["imagerow"], small_toy.obs["imagecol"] = xy[:, 1], xy[:, 0]
    for found, kept in (
        ("adata.obs['imagecol', 'imagerow'].to_numpy()", small_toy.copy()),
        ("adata.obsm['X_spatial']", small_toy),
    ):
        if "X_spatial" in found:
            small_toy.obsm["X_spatial"] = xy
        with pytest.raises(ValueError, match=r'Found no obsm\["spatial"\].*holds these, take it') as raised:
            sp.io.section(kept)
        line = str(raised.value).split("`")[1]
        assert line.replace("[[", "[").replace("]]", "]") == f'adata.obsm["spatial"] = {found}'
        exec(line, {"adata": kept})
        np.testing.assert_array_equal(kept.obsm["spatial"], xy)


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
    with pytest.raises(ValueError, match="Found no tissue image.*Pass the image as `image=`"):
        sp.io.section(small_toy)


def test_several_libraries(small_toy):
    small_toy.uns["spatial"]["other"] = library(small_toy)
    with pytest.raises(ValueError, match="several libraries.*toy, other.*library_id"):
        sp.io.section(small_toy)
    assert sp.io.section(small_toy, library_id="other").library_id == "other"


@pytest.mark.parametrize("column", ["library_id", "region"])
def test_rows_that_are_all_of_one_of_several_libraries_choose_it_and_it_is_said(small_toy, caplog, column):
    small_toy.uns["spatial"] = {"other": {}, "toy": library(small_toy)}
    small_toy.obs[column] = pd.Categorical(["toy"] * small_toy.n_obs, categories=["other", "toy"])  # of a joined table
    with caplog.at_level("INFO", logger="sphisto"):
        section = sp.io.section(small_toy)
    assert (section.library_id, len(section.rows)) == ("toy", small_toy.n_obs)
    assert caplog.text.count(f"All rows are of 'toy', by obs['{column}']") == 1
    small_toy.obs["sample"] = "other"
    with pytest.raises(ValueError, match="several libraries.*other, toy.*library_id"):
        sp.io.section(small_toy)


def test_an_unknown_library(small_toy):
    with pytest.raises(KeyError, match="Found no library 'x' in uns.*toy. Choose one of these as `library_id`"):
        sp.io.section(small_toy, library_id="x")


@pytest.mark.parametrize("scale", [0.0, -1.0, 4.0, float("nan")])
def test_scale_factors_that_cannot_be_right(small_toy, scale):
    library(small_toy)["scalefactors"]["tissue_hires_scalef"] = scale
    with pytest.raises(ValueError, match="tissue_hires_scalef is .*above 0 and at most 1"):
        sp.io.section(small_toy)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan, "fine"])
@pytest.mark.parametrize("image", [None, "hires", "array"])
def test_a_stated_scale_factor_that_cannot_be_right(small_toy, scale, image):
    given = np.zeros((10, 10, 3), np.uint8) if image == "array" else image
    with pytest.raises(ValueError, match="image_scale is .*; expected a finite number above 0"):
        sp.io.section(small_toy, image=given, image_scale=scale)


def finer_of(adata):
    """The image of a section twice as fine, with detail of its own."""
    twice = library(adata)["images"]["hires"].repeat(2, axis=0).repeat(2, axis=1).astype(int)
    return np.clip(twice - np.random.default_rng(1).integers(0, 9, twice.shape), 0, 255).astype(np.uint8)


def test_an_image_finer_than_the_coordinates_is_that_of_coordinates_as_fine(small_toy):
    image, doubled = finer_of(small_toy), small_toy.copy()
    doubled.obsm["spatial"] = doubled.obsm["spatial"] * 2
    slide, expected = slide_of(small_toy, image=image, image_scale=2), slide_of(doubled, image=image, image_scale=1)
    assert slide.grid.um_per_px == pytest.approx(expected.grid.um_per_px)
    assert slide.grid.fullres_per_px == (0.5, 0.5)
    np.testing.assert_allclose(slide.spots.centers, expected.spots.centers)
    np.testing.assert_allclose(slide.grid.to_fullres(slide.spots.centers)[:, ::-1], small_toy.obsm["spatial"])
    np.testing.assert_allclose(slide.footprint().area, expected.footprint().area)
    np.testing.assert_array_equal(np.asarray(slide.tissue), np.asarray(expected.tissue))
    with pytest.raises(ValueError, match="lie o(ff the tissue|utside the image)|follow the outline"):
        slide_of(small_toy, image=image, image_scale=8)


def test_results_of_an_image_finer_than_the_coordinates_lie_in_the_frame_of_the_coordinates(small_toy, tmp_path):
    import spatialdata as sd

    section = sp.io.section(small_toy, image=finer_of(small_toy), image_scale=2)
    sp.tl.fit_projection(section, store=tmp_path / "x.zarr", genes=["class0_a"], max_epochs=1, device="cpu")
    raster = sp.get.gene_raster(tmp_path / "x.zarr", "class0_a").squeeze()
    assert raster.shape == (192, 224)
    np.testing.assert_allclose([raster.x[0], raster.x[-1], raster.y[-1]], [0.25, 111.75, 95.75])
    window = sp.get.gene_raster(tmp_path / "x.zarr", "class0_a", bbox=(20, 30, 60, 50)).squeeze()
    np.testing.assert_allclose(window, raster.sel(x=slice(20, 60), y=slice(30, 50)), rtol=1e-5)
    # sums over squares of 50 um, 6 px of the coordinates, are those of pixels of half of one, a spot being 55 um wide
    squares = sp.tl.aggregate(tmp_path / "x.zarr", square_um=50)
    per_px = (50 / 12) ** 2 / (np.pi * 27.5**2)
    assert squares[:, "class0_a"].X.sum() == pytest.approx(float(np.nansum(raster)) * per_px, rel=0.02)
    again = sp.io.section(sd.read_zarr(tmp_path / "x.zarr"))
    assert again.grid == section.grid
    np.testing.assert_allclose(again.measured.centers, section.measured.centers)


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


@pytest.mark.parametrize("units", [1, 4])
def test_a_cropped_spatialdata_is_refused_with_the_window_that_gives_it(sdata, units):
    """Units of the shapes: full-resolution px, or four of them."""
    from shapely import box
    from spatialdata import bounding_box_query, polygon_query
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Scale

    places = np.array([[point.x, point.y] for point in sdata.shapes["toy_spots"].geometry])
    del sdata.shapes["toy_spots"]
    sdata.shapes["toy_spots"] = ShapesModel.parse(
        places / units, geometry=0, radius=7.8 / units, transformations={"global": Scale([units, units], ("x", "y"))}
    )
    low, high = [22, 20], [80, 70]  # of 112 x 96 full-resolution px
    ways = (
        bounding_box_query(
            sdata, axes=("x", "y"), min_coordinate=low, max_coordinate=high, target_coordinate_system="global"
        ),
        polygon_query(sdata, box(*low, *high), target_coordinate_system="global"),
    )
    centers = sp.io.section(sdata).measured.centers[:, ::-1]
    for cropped in ways:
        assert 2 < cropped["t"].n_obs < sdata["t"].n_obs
        with pytest.raises(ValueError, match="by a scale and a shift.*give the whole and a window") as raised:
            sp.io.section(cropped)
        window = tuple(map(int, str(raised.value).partition("bbox=(")[2].partition(")")[0].split(",")))
        assert window == (*low, *high)
        inside = sp.io.section(sdata, bbox=window)
        of_all = centers[((centers >= low) & (centers < high)).all(axis=1)]
        np.testing.assert_allclose(inside.measured.centers[:, ::-1], of_all)  # in the frame of the whole
    del cropped.images["toy_hires"]
    with pytest.raises(
        ValueError, match=r"Found no image.*cropped, give the whole and `sphisto.io.section\(whole, bbox="
    ):
        sp.io.section(cropped)


# What the summary says, and from what. Each case changes one thing that a decision rests on.


def stated_scale(adata):
    library(adata)["scalefactors"]["microns_per_pixel"] = 8.0


def no_places(adata):
    del adata.obs["array_row"], adata.obs["array_col"]


def counts_elsewhere(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0.5


def raw_only(adata):
    adata.raw = adata.copy()
    adata.X = adata.X * 0.5


def half_hires(adata):
    library(adata)["images"]["hires"] = library(adata)["images"]["hires"][::2, ::2]
    library(adata)["scalefactors"]["tissue_hires_scalef"] = 0.5


DECISIONS = {
    "layout": [
        ({}, lambda a: None, "AnnData, uns[\"spatial\"]['toy']"),
        ({}, lambda a: a.uns["spatial"].update(is_single=True), "['toy'] (the flag is_single is no library)"),
        ({"image": np.zeros((96, 112, 3), np.uint8)}, lambda a: a.uns.pop("spatial"), "AnnData without uns[\"spatial\"]"),
    ],
    "rows": [
        ({}, lambda a: None, "all 44 of the table's 44 rows"),
        ({}, lambda a: a.obs.__setitem__("in_tissue", [0] * 4 + [1] * 40), '40 of 44 rows: 4 are left out, as obs["in_tissue"] is 0'),
        ({}, lambda a: a.obs.insert(0, "library_id", ["toy"] * 30 + ["B"] * 14), "30 of the table's 44 rows; the section's own by obs['library_id']"),
    ],
    "values": [
        ({}, lambda a: None, "counts in X, of 18 genes"),
        ({}, counts_elsewhere, "counts in layers['counts'], of 18 genes"),
        ({"layer": "counts"}, counts_elsewhere, "counts in layers['counts'], of 18 genes"),
        ({}, raw_only, "no counts in X, of 18 genes"),
        ({"layer": "raw"}, raw_only, "counts in .raw, of 18 genes"),
    ],
    "array": [
        ({}, lambda a: None, "Visium"),
        ({}, no_places, "hexagonal, taken for Visium"),
        ({"spot_um": 70.0}, lambda a: (no_places(a), stated_scale(a), a.obsm.update(spatial=a.obsm["spatial"] * [1, 0.8])), "unknown"),
    ],
    "spots": [
        ({}, lambda a: None, "44 discs of 55 um, 100 um apart, from the spots of the Visium array"),
        ({"spot_um": 60.0}, lambda a: None, "44 discs of 60 um, 100 um apart, from the stated spot_um; else the spots of the Visium array"),
        ({"spot_um": 60.0, "spot_shape": "square"}, lambda a: None, "44 squares of 60 um, 100 um apart, from the stated spot_um and the stated spot_shape"),
    ],
    "scale": [
        ({}, lambda a: None, "8.333 um per full-resolution px, from the 100 um pitch of the Visium array"),
        ({}, no_places, "8.333 um per full-resolution px, from the 100 um pitch of a hexagonal arrangement of spots (taken for Visium)"),
        ({}, stated_scale, "8 um per full-resolution px, from the stated scale"),
        ({"image_um_per_px": 16.0}, half_hires, "8 um per full-resolution px, from the stated scale"),
    ],
    "frame": [({}, lambda a: None, 'obsm["spatial"]: x, y in full-resolution px')],
    "image": [
        ({}, lambda a: None, "96 x 112 px (y, x), 8.333 um per px: images['hires'] from uns, tissue_hires_scalef 1; there are also 'lowres'."),
        ({}, half_hires, "48 x 56 px (y, x), 16.67 um per px: images['hires'] from uns, tissue_hires_scalef 0.5;"),
        ({"image": "lowres"}, half_hires, "8.333 um per px: images['lowres'] as asked for, tissue_lowres_scalef 1; there are also 'hires'."),
        ({}, lambda a: library(a)["images"].pop("hires"), "images['lowres'] from uns, tissue_lowres_scalef 1."),
        ({"image": np.zeros((192, 224, 3), np.uint8)}, half_hires, "192 x 224 px (y, x), 8.333 um per px: the array that was given, taken for the full-resolution one."),
        ({"image": np.zeros((48, 56, 3), np.uint8)}, half_hires, "16.67 um per px: the array that was given, of the size of images['hires'] and taken to have its scale factor."),
        ({"image": np.zeros((32, 38, 3), np.uint8), "image_scale": 1 / 3}, half_hires, "25 um per px: the array that was given, image_scale=0.333333 as stated."),
    ],
    "tissue": [
        ({}, lambda a: None, "found in the image"),
        ({"tissue": np.ones((24, 28), bool)}, lambda a: None, "the mask of 24 x 28 px that was given"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "options", "change", "words"), [(name, *case) for name, cases in DECISIONS.items() for case in cases]
)
def test_each_decision_is_named_with_what_it_rests_on(small_toy, decision, options, change, words):
    change(small_toy)
    section = sp.io.section(small_toy, **options)
    assert words in section.about[decision]
    assert f"{decision:<6}  {section.about[decision]}" in repr(section)
    assert list(section.about) == list(DECISIONS)


def test_a_section_shows_itself_on_a_page_without_reading_pixels(small_toy):
    section = sp.io.section(small_toy)
    unread = replace(section, image=None, adata=None, about={**section.about, "image": "<img src=x.png>"})
    page = unread._repr_html_()
    for name, text in section.about.items():
        assert f">{name}</th>" in page
        assert name == "image" or f">{escape(text)}</td>" in page
    assert page.startswith("<div><strong>Section &#x27;toy&#x27;</strong>")
    assert "&lt;img src=x.png&gt;" in page
    assert "<img" not in page


def test_a_picture_alone_names_what_it_rests_on(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((40, 60, 3), 200, np.uint8)).save(tmp_path / "slide.png")
    section = sp.io.section(tmp_path / "slide.png", image_um_per_px=0.5)
    assert section.library_id == "slide"
    assert (section.grid.shape, section.grid.um_per_px) == ((40, 60), 0.5)
    assert dict(section.about) == {
        "layout": "an image alone, no spots",
        "scale": "0.5 um per px, as stated",
        "image": f"40 x 60 px (y, x), 0.5 um per px: {tmp_path / 'slide.png'}.",
        "frame": "pixels of the image",
        "tissue": "found in the image",
    }
    with pytest.raises(ValueError, match="is an image alone; expected an AnnData or SpatialData with counts"):
        section.require_spots()


def test_a_section_whose_table_was_filtered_since_is_refused(small_toy, tmp_path):
    section = sp.io.section(small_toy)
    small_toy._inplace_subset_obs(small_toy.obs_names[:30])
    message = "had 44 x 18 spots x genes and has 30 x 18. Call `sphisto.io.section` again, after all filtering"
    with pytest.raises(ValueError, match=message):
        sp.tl.fit_projection(section, store=tmp_path / "x.zarr", device="cpu")
    with pytest.raises(ValueError, match=message):
        sp.pp.check_alignment(section)
    assert not list(tmp_path.iterdir())


def test_what_a_section_decided_is_not_given_twice(small_toy, tmp_path):
    section = sp.io.section(small_toy)
    for option in ({"image": "lowres"}, {"library_id": "toy"}):
        with pytest.raises(ValueError, match="Section together with image= or library_id=.*where they are decided"):
            sp.tl.fit_projection(section, store=tmp_path / "x.zarr", device="cpu", **option)
    assert not list(tmp_path.iterdir())


def test_um_per_px_of_a_given_picture_says_how_it_lies_under_the_spots(small_toy):
    picture = library(small_toy)["images"].pop("hires")
    library(small_toy)["images"] = {}  # whose size would tell a scale, too
    um = 100 / 12  # of the full resolution, by the array
    section = sp.io.section(small_toy, image=picture[::2, ::2], image_um_per_px=2 * um)
    np.testing.assert_allclose(section.grid.fullres_per_px, (2, 2), rtol=1e-3)
    assert section.grid.fullres_um_per_px == pytest.approx(um, rel=1e-3)
    # within 2 % it is the full-resolution picture
    section = sp.io.section(small_toy, image=picture, image_um_per_px=1.01 * um)
    assert section.grid.fullres_per_px == (1, 1)
    assert section.grid.um_per_px == pytest.approx(um, rel=1e-3)
    # a finer one than the coordinates is laid under them as finely
    section = sp.io.section(small_toy, image=picture.repeat(2, axis=0).repeat(2, axis=1), image_um_per_px=um / 2)
    np.testing.assert_allclose(section.grid.fullres_per_px, (0.5, 0.5), rtol=1e-3)
    # with image_scale it is the scale of both that is stated
    section = sp.io.section(small_toy, image=picture[::2, ::2], image_scale=0.5, image_um_per_px=17.0)
    assert section.grid.um_per_px == pytest.approx(17.0)
    assert section.grid.fullres_um_per_px == pytest.approx(8.5)


def test_a_library_is_named_after_the_one_in_the_data_or_as_it_is_said(small_toy):
    assert sp.io.section(small_toy).library_id == "toy"
    small_toy.uns["spatial"] = {"my slide/1": library(small_toy)}
    assert sp.io.section(small_toy).library_id == sp.io.section(small_toy, library_id="my slide/1").library_id
    assert set(sp.io.section(small_toy).library_id) <= set("myslide1_-.")
    picture = small_toy.uns.pop("spatial")["my slide/1"]["images"]["hires"]
    assert sp.io.section(small_toy, image=picture).library_id == "library"
    assert sp.io.section(small_toy, image=picture, library_id="mine").library_id == "mine"


def test_a_named_picture_that_is_there_is_taken_and_one_that_is_gone_is_said(small_toy, tmp_path, caplog):
    from PIL import Image

    picture = np.repeat(np.repeat(library(small_toy)["images"]["hires"], 2, axis=0), 2, axis=1)
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] * 2
    library(small_toy)["scalefactors"] = {"tissue_hires_scalef": 0.5}
    library(small_toy)["metadata"] = {"source_image_path": str(tmp_path / "full.png")}
    section = sp.io.section(small_toy)
    assert "images['hires'] is used; the full-resolution image source_image_path = " in caplog.text
    assert "is not there" in section.about["image"]
    assert section.grid.fullres_per_px == (2, 2)
    Image.fromarray(picture).save(tmp_path / "full.png")
    section = sp.io.section(small_toy)
    assert f"{tmp_path / 'full.png'}, named at reading (source_image_path)" in section.about["image"]
    assert section.grid.fullres_per_px == (1, 1)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(section.image.rgb()), 0, -1), picture)


@pytest.mark.parametrize("kind", ["hires", "lowres"])
def test_a_reduced_image_that_was_named_as_the_full_one_is_not_taken_for_it(small_toy, tmp_path, caplog, kind):
    from PIL import Image

    hires = library(small_toy)["images"]["hires"]
    library(small_toy)["images"]["lowres"] = hires[::4, ::4]
    library(small_toy)["scalefactors"] |= {"tissue_hires_scalef": 0.25, "tissue_lowres_scalef": 0.0625}
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] * 4
    Image.fromarray(library(small_toy)["images"][kind]).save(tmp_path / "image.png")
    library(small_toy)["metadata"] = {"source_image_path": str(tmp_path / "image.png")}
    section = sp.io.section(small_toy)
    assert section.grid.fullres_per_px == (4, 4)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(section.image.rgb()), 0, -1), hires)
    said = f"is of the size of images['{kind}'], so not the full-resolution image"
    assert said in section.about["image"]
    assert said in caplog.text


@pytest.mark.parametrize("what", ["folder", "broken"])
def test_a_named_image_that_cannot_be_read_is_traced_to_its_entry(small_toy, tmp_path, what):
    path = tmp_path if what == "folder" else tmp_path / "full.tif"
    (tmp_path / "full.tif").write_text("no image")
    library(small_toy)["metadata"] = {"source_image_path": str(path)}
    with pytest.raises(ValueError, match=r"cannot be read \(source_image_path = .*`image='hires'`") as raised:
        sp.io.section(small_toy)
    assert str(path) in str(raised.value)
    assert sp.io.section(small_toy, image="hires").grid.fullres_per_px == (1, 1)


@pytest.mark.parametrize(
    "form",
    ["int", "bool", "float", "str", "category", "True and False", "boolean", "string"],
)
def test_spots_beside_the_tissue_in_any_form(small_toy, form):
    under = np.arange(small_toy.n_obs) % 4 != 0
    small_toy.obs["in_tissue"] = {
        "int": lambda: under.astype(int),
        "bool": lambda: under,
        "float": lambda: under.astype(float),
        "str": lambda: under.astype(int).astype(str),
        "category": lambda: pd.Categorical(under.astype(int).astype(str)),
        "True and False": lambda: np.where(under, "True", "False"),
        "boolean": lambda: pd.array(under, dtype="boolean"),
        "string": lambda: pd.array(np.where(under, "true", "false"), dtype="string"),
    }[form]()
    section = sp.io.section(small_toy)
    np.testing.assert_array_equal(section.rows, np.flatnonzero(under))
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"][under])
    assert "11 are left out" in section.about["rows"]


@pytest.mark.parametrize(("value", "found"), [(2, "2"), ("in", "in"), (np.nan, "nan"), (None, "none|nan")])
def test_a_column_in_tissue_of_another_meaning_is_refused(small_toy, value, found):
    small_toy.obs["in_tissue"] = small_toy.obs["in_tissue"].astype(object)
    small_toy.obs.iloc[3, small_toy.obs.columns.get_loc("in_tissue")] = value
    with pytest.raises(ValueError, match=rf"Found '({found})' in obs\[\"in_tissue\"\]; expected 1 .*and 0"):
        sp.io.section(small_toy)


def test_no_spot_under_tissue_is_refused(small_toy):
    small_toy.obs["in_tissue"] = False
    with pytest.raises(ValueError, match="None of the 44 spots lies under tissue"):
        sp.io.section(small_toy)


@pytest.fixture
def joined(small_toy):
    """Two sections in one table, of which spots of the second lie some px beside those of the first; no label."""
    other = small_toy[:20].copy()
    other.obsm["spatial"] = other.obsm["spatial"] + 1.5
    both = ad.concat([small_toy, other], index_unique="-")
    both.uns["spatial"] = {"toy": library(small_toy), "B": library(small_toy)}
    return both


@pytest.mark.parametrize(("label", "library_id"), [("library_id", None), ("library_id", "A"), ("sample", "A")])
def test_a_joined_table_whose_images_were_left_behind_names_how_to_keep_them(small_toy, label, library_id):
    other = small_toy.copy()
    other.uns["spatial"] = {"B": other.uns["spatial"]["toy"]}
    both = ad.concat({"A": small_toy, "B": other}, label=label, index_unique="-")
    with pytest.raises(
        ValueError, match=r"joined of several sections .*holds A, B\) without uns.*uns_merge=\"unique\""
    ):
        sp.io.section(both, library_id=library_id)
    with pytest.raises(ValueError, match=r"uns_merge=\"unique\"\)` keeps them"):
        sp.io.section(both[both.obs[label] == "A"].copy())


@pytest.mark.parametrize("column", ["library_id", "sample", "slide name"])
@pytest.mark.parametrize("dtype", ["category", "object", "string"])
def test_a_joined_table_by_a_label_of_any_name(joined, small_toy, column, dtype):
    joined.obs[column] = pd.Series(["toy"] * 44 + ["B"] * 20, index=joined.obs_names, dtype=dtype)
    section = sp.io.section(joined, library_id="B")
    np.testing.assert_array_equal(section.rows, np.arange(44, 64))
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"][:20] + 1.5)
    assert f"the section's own by obs[{column!r}]" in section.about["rows"]
    np.testing.assert_array_equal(np.isnan(section.spread(np.zeros(20))), np.arange(64) < 44)


def test_a_joined_table_without_a_label_is_refused(joined):
    with pytest.raises(
        ValueError, match="joined of several sections.*toy, B.*no column of obs states.*belong to 'toy'"
    ):
        sp.io.section(joined, library_id="toy")


def test_a_joined_table_whose_labels_have_other_names_is_refused(joined):
    joined.obs["library_id"] = ["first"] * 44 + ["second"] * 20
    with pytest.raises(ValueError, match=r"obs\['library_id'\] holds first, second"):
        sp.io.section(joined, library_id="toy")


def test_two_columns_that_tell_rows_must_agree(joined):
    joined.obs["sample"] = ["toy"] * 44 + ["B"] * 20
    joined.obs["batch"] = ["toy"] * 44 + ["B"] * 20
    assert len(sp.io.section(joined, library_id="toy").rows) == 44
    joined.obs["batch"] = ["toy"] * 40 + ["B"] * 24
    with pytest.raises(ValueError, match="several columns of obs that name the library 'toy'.*sample, batch"):
        sp.io.section(joined, library_id="toy")


def test_a_joined_table_that_knows_one_of_its_libraries(joined):
    """As ``anndata.concat(uns_merge="first")`` leaves it: spots share places on the array, so that it is joined."""
    joined.obs["sample"] = ["toy"] * 44 + ["B"] * 20
    del joined.uns["spatial"]["B"]
    np.testing.assert_array_equal(sp.io.section(joined).rows, np.arange(44))


def test_numbers_of_libraries_that_joining_made_floats(joined):
    joined.uns["spatial"] = {"1": library(joined), "2": library(joined)}
    joined.obs["library_id"] = [1.0] * 44 + [2.0] * 20
    np.testing.assert_array_equal(sp.io.section(joined, library_id=2).rows, np.arange(44, 64))


def test_a_word_of_another_column_that_is_the_name_of_the_library_cuts_no_rows(small_toy, caplog):
    """The section is called as a region of it."""
    small_toy.uns["spatial"]["tumor"] = small_toy.uns["spatial"].pop("toy")
    small_toy.obs["annotation"] = ["tumor", "stroma"] * 22
    with caplog.at_level("INFO", logger="sphisto"):
        assert len(sp.io.section(small_toy).rows) == 44
    assert "obs['annotation'] is not taken for the names of sections" in caplog.text
    del small_toy.obs["array_row"]
    with pytest.raises(
        ValueError, match=r"'tumor' in 22 of 44 rows of obs\['annotation'\].*else add `adata.obs\['library_id'\]"
    ):
        sp.io.section(small_toy)
    small_toy.obs["library_id"] = "tumor"
    assert len(sp.io.section(small_toy).rows) == 44


@pytest.mark.parametrize("flag", [True, 1, np.array(True)])
def test_flags_beside_the_libraries(small_toy, flag):
    small_toy.uns["spatial"]["is_single"] = flag
    assert "(the flag is_single is no library)" in sp.io.section(small_toy).about["layout"]


def change_table(sdata, **columns):
    """Give a SpatialData another table, as that of a view cannot be changed in place."""
    table = sdata.tables["t"].copy()
    for name, values in columns.items():
        table.obs[name] = values
    del sdata.tables["t"]
    sdata.tables["t"] = table
    return table


def test_spots_whose_shapes_are_gone_are_left_out(sdata, small_toy, caplog):
    sdata.shapes["toy_spots"] = sdata.shapes["toy_spots"].iloc[5:]
    section = sp.io.section(sdata)
    np.testing.assert_array_equal(section.rows, np.arange(5, 44))
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"][5:])
    assert "5 of 44 spots of the table have no shape in 'toy_spots' and are left out" in caplog.text
    assert section.about["rows"].endswith("; 5 have no shape in 'toy_spots' and are left out")


def test_a_table_of_which_no_spot_has_a_shape_is_refused(sdata):
    change_table(sdata, spot=np.arange(1000, 1044))
    with pytest.raises(ValueError, match="none of the 44 spots of the table .such as .*1000.* by 'spot'.*44 shapes"):
        sp.io.section(sdata)


def test_ids_may_be_numbers_on_one_side_and_words_on_the_other(sdata, small_toy):
    shapes = sdata.shapes["toy_spots"].iloc[::-1]
    shapes.index = shapes.index.astype(str)
    sdata.shapes["toy_spots"] = shapes
    section = sp.io.section(sdata)
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"])
    np.testing.assert_array_equal(section.rows, np.arange(44))


def test_shapes_with_one_id_are_refused(sdata):
    shapes = sdata.shapes["toy_spots"].copy()
    shapes.index = [0, 0, *range(2, 44)]
    sdata.shapes["toy_spots"] = shapes
    with pytest.raises(ValueError, match="Found 1 of 44 shapes of 'toy_spots' with the id of another"):
        sp.io.section(sdata)


@pytest.mark.parametrize("shift", [[0, 0], [500, 0]])
def test_pictures_of_several_sections_in_one_system_are_told_by_their_names(sdata, small_toy, shift):
    """Also where sections lie side by side in ``global``, by a translation."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale, Sequence, Translation, set_transformation

    beside = Sequence([Scale([2, 2], ("y", "x")), Translation(shift, ("x", "y"))])
    set_transformation(sdata.images["toy_hires"], beside, "global")
    set_transformation(sdata.shapes["toy_spots"], Translation(shift, ("x", "y")), "global")
    dark = np.zeros((3, 96, 112), np.uint8)
    here = {"global": Scale([1, 1], ("y", "x"))}
    sdata.images["other_hires_image"] = Image2DModel.parse(dark, dims=("c", "y", "x"), transformations=here)
    section = sp.io.section(sdata)
    assert "'toy_hires', 0.5 px per full-resolution px" in section.about["image"]
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"])
    assert section.grid.fullres_um_per_px == pytest.approx(100 / 12, rel=1e-3)


def test_pictures_of_which_no_name_says_whose_they_are_must_be_chosen(sdata):
    sdata.images["b"] = sdata.images.pop("toy_hires")
    assert "'b', 0.5 px per full-resolution px" in sp.io.section(sdata).about["image"]  # the only one
    sdata.images["a"] = sdata.images["b"]
    with pytest.raises(
        ValueError, match="several images in the coordinate systems of 'toy_spots', none with a name.*b, a"
    ):
        sp.io.section(sdata)
    assert "'b' as given, 0.5 px" in sp.io.section(sdata, image="b").about["image"]


@pytest.mark.parametrize("key", ["s1", "day-1_a", "x_image"])
def test_names_with_the_key_of_concatenate(sdata, small_toy, key):
    """``spatialdata.concatenate`` puts the key of each section after the names of its elements."""
    import spatialdata as sd

    both = sd.concatenate({key: sdata, "other": sd.deepcopy(sdata)}, concatenate_tables=True)
    section = sp.io.section(both, library_id=key)
    assert section.library_id == key
    np.testing.assert_array_equal(section.rows, np.arange(44))
    assert f"'toy_hires-{key}', 0.5 px" in section.about["image"]
    np.testing.assert_allclose(section.measured.centers[:, ::-1], small_toy.obsm["spatial"])


def test_circles_of_different_radius_are_cells(sdata, rng):
    shapes = sdata.shapes["toy_spots"].copy()
    shapes["radius"] = rng.uniform(3, 9, len(shapes))
    sdata.shapes["toy_spots"] = shapes
    with pytest.raises(ValueError, match="Found circles of different sizes or forms in 'toy_spots'.*outlines of cells"):
        sp.io.section(sdata)


@pytest.mark.parametrize("degrees", [0, 3, 20, 45, -30])
def test_turned_squares_are_bins_as_they_lie(sdata, degrees):
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    xy = np.column_stack([sdata.shapes["toy_spots"].geometry.x, sdata.shapes["toy_spots"].geometry.y])
    boxes = gpd.GeoSeries(shapely.box(*(xy - 5).T, *(xy + 5).T)).rotate(degrees)
    sdata.shapes["toy_spots"] = ShapesModel.parse(
        gpd.GeoDataFrame(geometry=boxes), transformations={"global": Identity()}
    )
    section = sp.io.section(sdata, spot_shape="square")
    assert section.spot.shape == "square"
    assert abs(section.spot.turn) == 45 if degrees == 45 else section.spot.turn == pytest.approx(degrees)
    np.testing.assert_allclose(section.measured.centers[:, ::-1], xy)


def test_a_store_is_a_section_again(fitted, store, small_toy, tmp_path):
    """What a store holds is understood as what it was made of, and can be fitted again."""
    import spatialdata as sd

    sdata = sd.read_zarr(store)
    section, first = sp.io.section(sdata), sp.io.section(small_toy)
    assert section.library_id == first.library_id == "toy"
    assert section.spot == first.spot
    np.testing.assert_allclose(section.measured.centers, first.measured.centers)
    assert (section.measured.values != first.measured.values).nnz == 0
    assert section.grid.fullres_um_per_px == pytest.approx(first.grid.fullres_um_per_px)
    assert "'toy_image', 1 px per full-resolution px" in section.about["image"]
    sp.tl.fit_projection(sdata, store=tmp_path / "again.zarr", max_epochs=1, device="cpu", genes=["class0_a"])
    again = sd.read_zarr(tmp_path / "again.zarr")
    assert set(again.images) >= {"toy_image", "projection"}
    params = again.tables["table"].uns["projection"]["params"]
    assert params["spot_um"] == 55
    assert params["um_per_px"] == pytest.approx(fitted.uns["projection"]["params"]["um_per_px"])


# ---- SpatialData of several sections, frames and links


def two_sections(sdata, first, second):
    """Two copies of a section in one SpatialData, under two names."""
    import spatialdata as sd
    from spatialdata.models import TableModel

    parts = {"images": {}, "shapes": {}, "tables": {}}
    for name in (first, second):
        table = sdata.tables["t"].copy()
        del table.uns["spatialdata_attrs"]
        table.obs["region"] = pd.Categorical([name] * table.n_obs)
        parts["images"][f"{name}_hires_image"] = sdata.images["toy_hires"]
        parts["shapes"][name] = sdata.shapes["toy_spots"]
        parts["tables"][f"{name}_table"] = TableModel.parse(
            table, region=name, region_key="region", instance_key="spot"
        )
    return sd.SpatialData(**parts)


@pytest.mark.parametrize(("first", "second"), [("A", "B"), ("S", "S_2")])
def test_the_picture_of_another_section_is_not_taken(sdata, first, second):
    both = two_sections(sdata, first, second)
    assert f"'{second}_hires_image'" in sp.io.section(both, library_id=second).about["image"]
    del both.images[f"{second}_hires_image"]
    with pytest.raises(ValueError, match=f"no image of '{second}'.*those of other sections: {first}_hires_image"):
        sp.io.section(both, library_id=second)
    assert "as given" in sp.io.section(both, library_id=second, image=f"{first}_hires_image").about["image"]


def test_library_id_is_a_whole_part_of_a_name(sdata):
    both = two_sections(sdata, "tumor_slide12", "control")
    assert "tumor_slide12" in sp.io.section(both, library_id="slide12").about["layout"]
    with pytest.raises(ValueError, match="Found no table for library_id='slide1'"):
        sp.io.section(both, library_id="slide1")


def test_a_section_may_be_called_cytassist(sdata):
    both = two_sections(sdata, "cytassist_brain", "other")
    assert "'cytassist_brain_hires_image'" in sp.io.section(both, library_id="cytassist_brain").about["image"]


def test_shapes_in_um_that_are_scaled_and_shifted_into_global(sdata, caplog):
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Scale, Sequence, Translation, set_transformation

    um = 100 / 12  # per full-resolution px
    xy = np.column_stack([sdata.shapes["toy_spots"].geometry.x, sdata.shapes["toy_spots"].geometry.y])
    shift = Translation([40, 0], ("x", "y"))
    there = Sequence([Scale([1 / um, 1 / um], ("x", "y")), shift])
    del sdata.shapes["toy_spots"]
    sdata.shapes["toy_spots"] = ShapesModel.parse(xy * um, geometry=0, radius=32.5, transformations={"global": there})
    set_transformation(sdata.images["toy_hires"], Sequence([Scale([2, 2], ("y", "x")), shift]), "global")
    del sdata.tables["t"].obsm["spatial"]
    section = sp.io.section(sdata)
    np.testing.assert_allclose(section.measured.centers[:, ::-1], xy)
    assert section.about["frame"] == "coordinate system 'global', without its shift by 40 and 0 (x and y)"
    assert "give other elements of the SpatialData to `sphisto.tl.aggregate` without that shift" in caplog.text


def test_a_picture_at_two_scales_is_refused(sdata):
    from spatialdata.transformations import Identity, set_transformation

    set_transformation(sdata.images["toy_hires"], Identity(), "run")
    set_transformation(sdata.shapes["toy_spots"], Identity(), "run")
    with pytest.raises(ValueError, match="different scales against 'toy_spots': 0.5 in 'global', 1 in 'run'"):
        sp.io.section(sdata)


def test_a_downscaled_frame_is_never_the_full_resolution(sdata, caplog):
    from spatialdata.transformations import Scale, set_transformation

    set_transformation(sdata.shapes["toy_spots"], Scale([0.25, 0.25], ("x", "y")), "toy_downscaled_hires")
    sdata.tables["t"].obsm["spatial"] = sdata.tables["t"].obsm["spatial"] * 0.25
    section = sp.io.section(sdata)
    assert section.grid.fullres_um_per_px == pytest.approx(100 / 12, rel=1e-3)
    assert "agrees with no full-resolution coordinate system of the shapes" in caplog.text


@pytest.mark.parametrize("column", ["region", "spot"])
def test_a_linking_column_that_is_gone(sdata, column):
    del sdata.tables["t"].obs[column]
    with pytest.raises(ValueError, match=f"Found no column '{column}' in obs.*TableModel.parse"):
        sp.io.section(sdata)


def test_two_tables_of_one_region_and_two_rows_of_one_shape(sdata):
    sdata.tables["norm"] = sdata.tables["t"].copy()
    with pytest.raises(ValueError, match="several tables that annotate 'toy_spots': 't', 'norm'"):
        sp.io.section(sdata)
    del sdata.tables["norm"]
    sdata.tables["t"].obs["spot"] = np.where(np.arange(44) == 3, 2, np.arange(44))
    with pytest.raises(
        ValueError, match="1 of 44 rows of the table that annotate a shape of 'toy_spots' which another"
    ):
        sp.io.section(sdata)


def test_drawn_squares_that_lie_apart_stay_squares(sdata):
    import geopandas as gpd
    import shapely
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    shapes = sdata.shapes.pop("toy_spots")
    xy = np.argwhere(np.ones((7, 7)))[: len(shapes)] * 12.0 + 10
    boxes = gpd.GeoDataFrame(geometry=shapely.box(*(xy - 2).T, *(xy + 2).T), index=shapes.index)
    sdata.shapes["toy_spots"] = ShapesModel.parse(boxes, transformations={"global": Identity()})
    for column in ("array_row", "array_col"):
        del sdata.tables["t"].obs[column]
    del sdata.tables["t"].obsm["spatial"]
    sdata.tables["t"].uns["spatial"] = {"toy": {"scalefactors": {"microns_per_pixel": 2.0}}}
    assert sp.io.section(sdata).spot == Spot(8, "square")
