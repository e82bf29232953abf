"""Sections as other programs leave them: understood with the right values, or refused with words that help."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.io.sections import as_section
from sphisto.io.slides import make_slide

SIDE = 16.0  # px of a bin of 8 um


def library(adata):
    return adata.uns["spatial"]["toy"]


def centers_of(adata, **options):
    return sp.io.section(adata, **options).measured.centers[:, ::-1]


@pytest.fixture
def hd(rng):
    """Bins of 8 um in the Visium layout, half a um per px."""
    row, col = (side.ravel() for side in np.mgrid[:20, :20])
    picture = np.full((88, 88, 3), 244, np.uint8)
    picture[3:-3, 3:-3] = rng.integers(90, 190, (82, 82, 3))
    names = [f"s_008um_{i + 500:05d}_{j + 700:05d}-1" for i, j in zip(row, col, strict=True)]
    obs = pd.DataFrame({"in_tissue": 1, "array_row": row + 500, "array_col": col + 700}, index=names)
    adata = ad.AnnData(1 + rng.poisson(3.0, (400, 5)), obs=obs, var=pd.DataFrame(index=list("ABCDE")))
    adata.obsm["spatial"] = np.column_stack([col + 1.5, row + 1.5]) * SIDE
    factors = {"spot_diameter_fullres": SIDE, "bin_size_um": 8.0, "microns_per_pixel": 0.5, "tissue_hires_scalef": 0.25}
    adata.uns["spatial"] = {"hd": {"images": {"hires": picture}, "scalefactors": factors}}
    return adata


# ---- bins and cells


@pytest.mark.parametrize("lost", [["bin_size_um"], ["microns_per_pixel"], ["bin_size_um", "microns_per_pixel"]])
@pytest.mark.parametrize("with_array", [True, False])
def test_bins_are_known_by_their_names(hd, lost, with_array):
    for name in lost:
        del hd.uns["spatial"]["hd"]["scalefactors"][name]
    if not with_array:
        del hd.obs["array_row"], hd.obs["array_col"]
    found = sp.io.section(hd[::3].copy())
    assert (found.spot.um, found.spot.shape) == (8, "square")
    assert (found.grid.fullres_um_per_px, found.grid.um_per_px) == (pytest.approx(0.5), pytest.approx(2))
    assert found.about["array"] == "Visium HD, 8 um bins"


def test_cells_made_of_bins_are_no_bins(hd, rng):
    cells = hd[:100].copy()
    cells.obs_names = [str(i) for i in range(100)]
    cells.obs["array_row"] = cells.obs["array_row"] + rng.uniform(-0.5, 0.5, 100)
    cells.obsm["spatial"] = cells.obsm["spatial"] + rng.uniform(-SIDE / 2, SIDE / 2, (100, 2))
    with pytest.raises(ValueError, match="on no lattice of bins.*They seem to be cells.*aggregate"):
        sp.io.section(cells)
    stated = sp.io.section(cells, spot_um=6)
    assert (stated.spot.um, stated.spot.shape, stated.grid.fullres_um_per_px) == (6, "disc", 0.5)


def test_a_spot_diameter_that_is_a_filler_is_no_scale(small_toy, rng):
    library(small_toy)["scalefactors"]["spot_diameter_fullres"] = 1
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + rng.normal(0, 4, (small_toy.n_obs, 2))
    del small_toy.obs["array_row"], small_toy.obs["array_col"]
    with pytest.raises(ValueError, match="spots of 1 px of unknown um.*give `spot_um`"):
        sp.io.section(small_toy)


# ---- places


@pytest.mark.parametrize(
    "columns", [("y", "x"), ("imagerow", "imagecol"), ("pxl_row_in_fullres", "pxl_col_in_fullres"), ("z", "Y", "X")]
)
def test_columns_of_places_are_told_by_their_names(small_toy, columns):
    xy = np.array(small_toy.obsm["spatial"])
    values = np.column_stack([np.zeros(len(xy))] * (len(columns) - 2) + [xy[:, 1], xy[:, 0]])
    small_toy.obsm["spatial"] = pd.DataFrame(values, index=small_toy.obs_names, columns=columns)
    np.testing.assert_array_equal(centers_of(small_toy), xy)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, lambda xy: xy.astype(str), np.asfortranarray])
def test_places_of_other_kinds(small_toy, form):
    xy = np.array(small_toy.obsm["spatial"])
    small_toy.obsm["spatial"] = form(xy)
    np.testing.assert_allclose(centers_of(small_toy), xy)


@pytest.mark.parametrize("turned", [False, True])
def test_an_array_that_repeats_the_places_is_none(small_toy, turned):
    small_toy.obs["array_row"], small_toy.obs["array_col"] = small_toy.obsm["spatial"].T[:: 1 if turned else -1]
    found = sp.io.section(small_toy, spot_um=55)
    assert found.grid.um_per_px == pytest.approx(100 / found.measured.pitch)


# ---- uns["spatial"]


@pytest.mark.parametrize("form", [str, np.array, lambda value: [value], np.atleast_1d])
def test_scale_factors_as_r_and_json_write_them(small_toy, form):
    expected = sp.io.section(small_toy)
    library(small_toy)["scalefactors"] = {key: form(value) for key, value in library(small_toy)["scalefactors"].items()}
    found = sp.io.section(small_toy)
    assert (found.grid, found.spot) == (expected.grid, expected.spot)
    assert make_slide(found).spots.centers.shape == (small_toy.n_obs, 2)


@pytest.mark.parametrize(
    ("part", "value"),
    [("scalefactors", [1.0]), ("scalefactors", "{}"), ("scalefactors", pd.Series({"tissue_hires_scalef": 1.0})),
     ("images", np.zeros((9, 9, 3))), ("images", [1]), ("metadata", "of 2021")],
    ids=["list", "text", "series", "array", "images", "metadata"],
)  # fmt: skip
def test_parts_of_a_library_that_are_no_dict(small_toy, part, value):
    library(small_toy)[part] = value
    with pytest.raises(ValueError, match=rf"of another form \({part} as {type(value).__name__}\); expected a dict"):
        sp.io.section(small_toy)


def test_a_library_without_its_name(small_toy):
    small_toy.uns["spatial"] = library(small_toy)
    with pytest.raises(ValueError, match="images, scalefactors without the name of their library"):
        sp.io.section(small_toy)


def test_a_picture_of_an_unknown_name_is_said(small_toy):
    library(small_toy)["images"]["full"] = library(small_toy)["images"].pop("hires")
    assert "('full' without a known scale factor)" in sp.io.section(small_toy).about["image"]


@pytest.mark.parametrize("image", ["fullres", "HIRES", ""])
def test_the_name_of_no_picture(small_toy, image):
    with pytest.raises(FileNotFoundError, match="no image of that name but 'hires', 'lowres'"):
        sp.io.section(small_toy, image=image)


@pytest.mark.parametrize("image", [{"hires": 1}, ["a.png", "b.png"]])
def test_what_is_no_picture(small_toy, image):
    with pytest.raises(TypeError, match=f"Found {type(image).__name__} in place of an image"):
        sp.io.section(small_toy, image=image)


def test_scales_that_are_text(small_toy):
    picture = library(small_toy)["images"]["hires"]
    found = sp.io.section(small_toy, image=picture[::2, ::2], image_scale="0.5")
    np.testing.assert_allclose(found.grid.fullres_per_px, (2, 2))
    with pytest.raises(ValueError, match="image_scale is 'half'; expected a finite number above 0"):
        sp.io.section(small_toy, image=picture, image_scale="half")


# ---- several libraries


def joined(small_toy, names, label="library_id"):
    parts = {}
    for i, name in enumerate(names):
        part = small_toy[: 30 + i].copy()
        part.obsm["spatial"] = part.obsm["spatial"] + 0.25 * i
        part.uns = {"spatial": {name: library(small_toy)}}
        parts[name] = part
    return ad.concat(parts, label=label, uns_merge="unique", index_unique="-", merge="same")


def test_libraries_with_numbers_for_names(small_toy):
    both = joined(small_toy, ["0", "1"])
    both.obs["library_id"] = both.obs["library_id"].astype(int)
    both.uns["spatial"] = {int(name): entry for name, entry in both.uns["spatial"].items()}
    for library_id in (1, "1", np.int64(1)):
        np.testing.assert_array_equal(sp.io.section(both, library_id=library_id).rows, np.arange(30, 61))
    np.testing.assert_array_equal(sp.io.section(both, library_id=0).rows, np.arange(30))


def test_rows_that_are_all_of_another_library(small_toy):
    both = joined(small_toy, ["A", "B"], label="sample")
    only = both[both.obs["sample"] == "B"].copy()
    assert sp.io.section(only, library_id="B").table.n_obs == 31
    with pytest.raises(ValueError, match=r"no row of 'A': obs\['sample'\] is B in all"):
        sp.io.section(only, library_id="A")


@pytest.mark.parametrize(
    ("name", "error"), [("", ValueError), (" ", ValueError), (["toy"], TypeError), (True, TypeError)]
)
def test_names_that_are_none(small_toy, name, error):
    small_toy.uns["spatial"]["other"] = library(small_toy)
    with pytest.raises(error, match="Found .*`library_id`.*expected the name of"):
        sp.io.section(small_toy, library_id=name)


# ---- paths


def test_paths_of_nothing(tmp_path):
    for path in ("", tmp_path / "gone", str(tmp_path / "gone.H5AD")):
        with pytest.raises(FileNotFoundError, match="Found nothing at .*; expected the folder of a Space Ranger run"):
            sp.io.section(path, image_um_per_px=1)
    with pytest.raises(ValueError, match=r"neither a Space Ranger run nor an OME-Zarr image.*holds: nothing"):
        sp.io.section(tmp_path)
    with pytest.raises(ValueError, match="Found the address 'https://x/a.tif'; expected a path on this machine"):
        sp.io.section("https://x/a.tif")
    (tmp_path / "a.H5AD").touch()
    with pytest.raises(ValueError, match="Read it with `anndata.read_h5ad`"):
        sp.io.section(tmp_path / "a.H5AD")


# ---- SpatialData


def in_um(small_toy, um: float, *, with_places: bool, shapes=None):
    """Shapes drawn in um, and a picture of ``um`` per px that lies under them."""
    import spatialdata as sd
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity, Scale

    xy = small_toy.obsm["spatial"] * um
    table = small_toy.copy()
    table.uns = {}
    table.obsm["spatial"] = xy
    if not with_places:
        del table.obsm["spatial"]
    table.obs["region"], table.obs["spot"] = pd.Categorical(["spots"] * len(xy)), np.arange(len(xy))
    circles = (
        ShapesModel.parse(xy, geometry=0, radius=2.0, transformations={"global": Identity()})
        if shapes is None
        else ShapesModel.parse(shapes(xy), transformations={"global": Identity()})
    )
    scale = {"global": Scale([um, um], ("x", "y"))}
    picture = Image2DModel.parse(library(small_toy)["images"]["hires"], dims=("y", "x", "c"), transformations=scale)
    linked = TableModel.parse(table, region="spots", region_key="region", instance_key="spot")
    return sd.SpatialData(images={"he": picture}, shapes={"spots": circles}, tables={"t": linked})


@pytest.mark.parametrize("with_places", [True, False])
def test_shapes_in_um_over_a_finer_picture(small_toy, with_places):
    expected = sp.io.section(small_toy)
    found = sp.io.section(in_um(small_toy, 0.25, with_places=with_places))
    np.testing.assert_allclose(found.measured.centers, expected.measured.centers)
    assert found.grid.um_per_px == pytest.approx(expected.grid.um_per_px)
    assert found.about["frame"].startswith("pixels of the image, the finest there are")


def test_spots_drawn_as_hexagons(small_toy):
    import geopandas as gpd
    import shapely

    def hexagons(xy):
        corners = 3 * np.exp(1j * np.pi / 3 * np.arange(6))
        return gpd.GeoDataFrame(
            geometry=[shapely.Polygon(np.column_stack([x + corners.real, y + corners.imag])) for x, y in xy]
        )

    with pytest.raises(
        ValueError, match="equal polygons in 'spots' that are no squares .*6 corners.*ShapesModel.parse"
    ):
        sp.io.section(in_um(small_toy, 1.0, with_places=True, shapes=hexagons))


def test_a_picture_that_a_spatialdata_lacks(small_toy):
    with pytest.raises(FileNotFoundError, match="Found no image file at 'hires', and in the data no image .* but 'he'"):
        sp.io.section(in_um(small_toy, 1.0, with_places=True), image="hires")


# ---- a section in hand


def test_a_section_keeps_what_it_measured(small_toy, caplog):
    found = sp.io.section(small_toy)
    counts, centers = found.measured.values.toarray(), found.measured.centers.copy()
    small_toy.X = small_toy.X * 2
    small_toy.obsm["spatial"] *= 3
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        same = as_section(found)
    np.testing.assert_array_equal(same.measured.values.toarray(), counts)
    np.testing.assert_array_equal(same.measured.centers, centers)


def test_a_folder_takes_a_picture_as_a_table_does(tmp_path, small_toy):
    """Known by its size, or by the um per px that are stated."""
    import json

    from PIL import Image

    outs = tmp_path / "outs"
    (outs / "spatial").mkdir(parents=True)
    picture = library(small_toy)["images"]["hires"]
    factors = {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.5, "spot_diameter_fullres": 15.6}
    (outs / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    Image.fromarray(picture).save(outs / "spatial" / "tissue_hires_image.png")
    xy = small_toy.obsm["spatial"] * 2
    small_toy.obs_names = [f"{''.join('ACGT'[i // 4**k % 4] for k in range(4))}-1" for i in range(44)]
    rows = [
        f"{name},1,{row},{col},{y},{x}"
        for name, row, col, (x, y) in zip(
            small_toy.obs_names, small_toy.obs["array_row"], small_toy.obs["array_col"], xy, strict=True
        )
    ]
    (outs / "spatial" / "tissue_positions_list.csv").write_text("\n".join(rows))
    matrix = outs / "filtered_feature_bc_matrix"
    matrix.mkdir()
    from scipy.io import mmwrite

    mmwrite(matrix / "matrix.mtx", sparse.csr_matrix(small_toy.X).T.astype(int))
    (matrix / "barcodes.tsv").write_text("\n".join(small_toy.obs_names))
    (matrix / "features.tsv").write_text("\n".join(f"{g}\t{g}\tGene Expression" for g in small_toy.var_names))
    hires = outs / "spatial" / "tissue_hires_image.png"
    quarter = tmp_path / "quarter.png"
    Image.fromarray(picture[::2, ::2]).save(quarter)
    um = 100 / 24  # per full-resolution px
    for data in (outs, sp.io.read_visium(outs)):
        assert "taken to have its scale factor" in sp.io.section(data, image=hires).about["image"]
        found = sp.io.section(data, image=quarter, image_um_per_px=4 * um)
        assert found.grid.fullres_per_px == pytest.approx((4, 4), rel=1e-3)
        assert "of the um per px that were stated" in found.about["image"]
        np.testing.assert_allclose(found.measured.centers[:, ::-1], xy)


def test_coordinates_in_another_unit_are_refused(small_toy):
    """As German thousands in a table of positions are read: 1.234 for 1234."""
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] / 1000
    with pytest.raises(ValueError, match="px apart; expected x, y in full-resolution pixels.*thousands"):
        sp.io.section(small_toy)
