"""Sections in a SpatialData as spatialdata-io's readers return them: every kind of input by every option."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import sphisto as sp

sdio = pytest.importorskip("spatialdata_io", reason="spatialdata-io is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated"),
    pytest.mark.filterwarnings("ignore:No full resolution image found"),
]


def visium(folder, name="A", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sdio.visium(folder, dataset_id=name, **options)


def visium_hd(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sdio.visium_hd(folder, **{"load_segmentations_only": False, **options})


@pytest.mark.parametrize("kind", ["visium", "visium 11 mm", "cytassist", "spatial transcriptomics"])
@pytest.mark.parametrize("fullres", [True, False])
def test_spots_of_every_array(tmp_path, drawing, kind, fullres):
    drawn = drawing.draw(kind)
    folder = drawing.run(tmp_path / "outs", drawn)
    sdata = visium(folder, **({"fullres_image_file": tmp_path / "A_fullres.tif"} if fullres else {}))
    section = sp.io.section(sdata)
    picture, scale = (drawn.picture, 1.0) if fullres else (drawn.hires, drawing.hires)
    drawing.check(section, drawn, picture, scale)
    assert section.library_id == "A"
    assert section.adata is sdata.tables["table"]
    assert section.about["layout"] == "SpatialData, table 'table', which annotates circles 'A'"
    others = ["A_hires_image"] * fullres + ["A_lowres_image"]
    assert f"'A_{'full' if fullres else 'hires'}_image', {scale:g} px per full-resolution px; there are also " \
        + ", ".join(map(repr, others)) in section.about["image"]  # fmt: skip
    assert section.about["frame"] == (
        "coordinate system 'A', where the shapes lie as obsm[\"spatial\"] of the table states"
    )


@pytest.mark.parametrize("positions", ["tissue_positions_list.csv", "tissue_positions.csv"])
def test_raw_counts_lose_what_lies_beside_the_tissue(tmp_path, drawing, positions):
    drawn = drawing.draw("visium")
    folder = drawing.run(tmp_path / "outs", drawn, positions=positions, filtered=False)
    section = sp.io.section(visium(folder, counts_file="raw_feature_bc_matrix.h5"))
    drawing.check(section, drawn, drawn.hires, drawing.hires, np.flatnonzero(drawn.under))
    assert f'{(~drawn.under).sum()} are left out, as obs["in_tissue"] is 0' in section.about["rows"]


def test_counts_in_raw_only(tmp_path, drawing, caplog):
    drawn = drawing.draw("visium")
    sdata = visium(drawing.run(tmp_path / "outs", drawn))
    table = sdata.tables["table"]
    table.raw = table.copy()
    table.X = table.X.multiply(0.5).tocsr()
    assert not sp.io.section(sdata).measured.is_counts
    assert "Raw counts are in .raw (6 genes): use `layer='raw'`" in caplog.text
    section = sp.io.section(sdata, layer="raw")
    drawing.check(section, drawn, drawn.hires, drawing.hires)
    assert section.about["values"] == "counts in .raw, of 6 genes"


@pytest.fixture(scope="module")
def hd_folder(tmp_path_factory, drawing):
    """A Visium HD run of bins of three sizes, with segmented cells and the microscope's picture."""
    folder = tmp_path_factory.mktemp("hd") / "outs"
    bins = [drawing.draw(f"hd {size}") for size in (2, 8, 16)]
    # all bins lie on one picture
    bins = [drawing.replace(each, picture=bins[1].picture) for each in bins]
    drawing.hd_run(folder, bins)
    drawing.cells(folder, bins[1])
    return folder, dict(zip((2, 8, 16), bins, strict=True))


@pytest.mark.parametrize("size", [2, 8, 16])
@pytest.mark.parametrize("squares", [True, False])
def test_bins_as_squares_and_as_circles(hd_folder, drawing, size, squares):
    folder, bins = hd_folder
    section = sp.io.section(visium_hd(folder, bin_size=size, bins_as_squares=squares), library_id=f"{size:03d}um")
    drawing.check(section, bins[size], bins[size].picture, 1.0)
    form, region = "squares" if squares else "circles", f"A_square_{size:03d}um"
    assert section.about["layout"] == (f"SpatialData, table 'square_{size:03d}um', which annotates {form} {region!r}")
    assert (
        "'A_full_image', 1 px per full-resolution px; there are also 'A_hires_image', 'A_lowres_image'"
        in (section.about["image"])
    )
    assert section.about["frame"].startswith("coordinate system 'A', where the shapes lie as obsm")


def test_of_several_bin_sizes_8_um_is_taken_or_the_one_that_is_named(hd_folder, drawing):
    folder, bins = hd_folder
    sdata = visium_hd(folder)
    section = sp.io.section(sdata)
    drawing.check(section, bins[8], bins[8].picture, 1.0)
    assert section.adata is sdata.tables["square_008um"]
    drawing.check(sp.io.section(sdata, bin_um=16), bins[16], bins[16].picture, 1.0)
    section = sp.io.section(sdata, library_id="square_016um")
    drawing.check(section, bins[16], bins[16].picture, 1.0)
    assert section.adata is sdata.tables["square_016um"]


def test_raw_bins_lose_those_beside_the_tissue(hd_folder, drawing):
    folder, bins = hd_folder
    sdata = visium_hd(folder, bin_size=8, filtered_counts_file=False)
    section = sp.io.section(sdata, library_id="square_008um")
    drawing.check(section, bins[8], bins[8].picture, 1.0, np.flatnonzero(bins[8].under))


def test_the_picture_of_cytassist_is_not_taken(tmp_path, drawing):
    import tifffile

    drawn = drawing.draw("hd 8")
    folder = drawing.hd_run(tmp_path / "outs", [drawn])
    tifffile.imwrite(folder / "spatial" / "cytassist_image.tiff", drawn.picture[:100, :100], photometric="rgb")
    sdata = visium_hd(folder, load_all_images=True)
    assert "A_cytassist_image" in sdata.images
    drawing.check(sp.io.section(sdata), drawn, drawn.picture, 1.0)


def test_bins_that_a_table_knows_as_labels_are_refused(tmp_path, drawing):
    """``annotate_table_by_labels=True`` ties the table to a raster of bins, which has no places in full resolution."""
    drawn = drawing.draw("hd 8")
    sdata = visium_hd(drawing.hd_run(tmp_path / "outs", [drawn]), annotate_table_by_labels=True)
    expected = "annotate labels only .'square_008um' annotates 'A_square_008um_labels'.*annotate_table_by_labels=False"
    drawing.refused(sdata, tmp_path / "written", expected)


def test_segmented_cells_are_refused(hd_folder, drawing, tmp_path):
    folder, _ = hd_folder
    sdata = visium_hd(folder, load_segmentations_only=True)
    assert set(sdata.tables) == {"cell_segmentations"}
    drawing.refused(
        sdata,
        tmp_path / "written",
        r"Found polygons of different sizes or forms in 'A_cell_segmentations'.*sphisto.tl.aggregate",
    )


def test_cells_of_xenium_are_refused(tmp_path, drawing):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = drawing.xenium(tmp_path / "outs")
        without = dict.fromkeys(["transcripts", "morphology_mip", "morphology_focus", "aligned_images"], False)
        labels = sdio.xenium(folder, **without)
        circles = sdio.xenium(folder, cells_as_circles=True, **without)
    drawing.refused(
        labels, tmp_path / "written", "annotate labels only .'table' annotates 'cell_labels'.*cells are no spots"
    )
    drawing.refused(circles, tmp_path / "written", "Found circles of different sizes or forms in 'cell_circles'")


@pytest.mark.parametrize("kind", ["visium", "hd 8"])
@pytest.mark.parametrize("keys", [("A", "B"), ("rat-1_day_2", "rat-2_day_2")])
def test_sections_that_were_joined_are_told_apart(tmp_path, drawing, kind, keys):
    """As ``spatialdata.concatenate`` joins them: it puts the key of each after the names of its elements."""
    import spatialdata as sd

    drawn = {key: drawing.draw(kind, "A", seed) for seed, key in enumerate(keys)}
    if kind == "visium":
        parts = {key: visium(drawing.run(tmp_path / key / "outs", each)) for key, each in drawn.items()}
    else:
        parts = {key: visium_hd(drawing.hd_run(tmp_path / key / "outs", [each])) for key, each in drawn.items()}
    joined = sd.concatenate(parts, concatenate_tables=True)
    (table,) = joined.tables.values()
    assert table.n_obs == sum(each.under.sum() for each in drawn.values())
    drawing.refused(joined, tmp_path / "written", "Found several annotated regions: .*Choose one with.*library_id=")
    first = 0
    for key, each in drawn.items():
        section = sp.io.section(joined, library_id=key)
        n = int(each.under.sum())
        picture, scale = (each.hires, drawing.hires) if kind == "visium" else (each.picture, 1.0)
        drawing.check(section, each, picture, scale, np.arange(first, first + n))
        assert section.about["rows"] == f"{n} of the table's {2 * n} rows"
        assert section.adata is table
        first += n


@pytest.mark.parametrize("kind", ["visium", "hd 8"])
def test_a_fit_writes_full_resolution_and_into_the_table_it_was_given(tmp_path, drawing, kind):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    drawn = drawing.draw(kind)
    if kind == "visium":
        sdata, name = visium(drawing.run(tmp_path / "outs", drawn)), "table"
    else:
        sdata, name = visium_hd(drawing.hd_run(tmp_path / "outs", [drawn])), "square_008um"
    table, store = sdata.tables[name], tmp_path / "x.zarr"
    sp.tl.fit_projection(sdata, store=store, max_epochs=1, genes=["Gene0"], device="cpu", rng=0)
    assert sdata.tables[name] is table
    params = table.uns["projection"]["params"]
    assert params["fullres_um_per_px"] == pytest.approx(drawn.um_per_px, rel=2e-3)
    assert (params["spot_um"], params["spot_shape"]) == (pytest.approx(drawn.spot_um), drawn.shape)
    assert table.obsm["projection_fitted"].shape[0] == table.n_obs == drawn.under.sum()
    written = sd.read_zarr(store)
    library = params["library_id"]
    spots = written[f"{library}_spots"]
    xy = np.column_stack([spots.geometry.centroid.x, spots.geometry.centroid.y])
    system = get_transformation(spots, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(xy @ system[:2, :2].T + system[:2, 2], drawn.xy[drawn.under], atol=1e-6)
    image = written[f"{library}_image"]
    finest = image if hasattr(image, "data") and hasattr(image, "dims") else next(iter(image["scale0"].values()))
    scale = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))
    height, width = np.array(finest.sizes["y"]) * scale[1, 1], np.array(finest.sizes["x"]) * scale[0, 0]
    np.testing.assert_allclose([height, width], drawn.picture.shape[:2], atol=2 * scale[0, 0])
    # the store is a section again, of the same numbers
    again = sp.io.section(written)
    np.testing.assert_allclose(again.measured.centers[:, ::-1], drawn.xy[drawn.under], atol=1e-6)
    assert again.spot.shape == drawn.shape
    assert again.spot.um == pytest.approx(drawn.spot_um, rel=1e-3)
    assert again.grid.fullres_um_per_px == pytest.approx(drawn.um_per_px, rel=2e-3)
