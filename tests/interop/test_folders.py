"""Sections given as the folder of a run: every kind of input, without the help of another library."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import sphisto as sp


@pytest.mark.parametrize("kind", ["visium", "visium 11 mm", "cytassist"])
@pytest.mark.parametrize("positions", ["tissue_positions_list.csv", "tissue_positions.csv", "tissue_positions.parquet"])
def test_spots_of_every_array(tmp_path, drawing, kind, positions):
    drawn = drawing.draw(kind)
    folder = drawing.run(tmp_path / "outs", drawn, positions=positions)
    for path in (folder, tmp_path, str(folder)):
        section = sp.io.section(path)
        drawing.check(section, drawn, drawn.hires, drawing.hires)
    assert section.library_id == "A"
    assert section.about["layout"] == "AnnData, uns[\"spatial\"]['A']"
    assert "images['hires'] from uns, tissue_hires_scalef 0.5; there are also 'lowres'" in section.about["image"]


def test_the_picture_that_was_given_to_space_ranger(tmp_path, drawing):
    drawn = drawing.draw("visium")
    section = sp.io.section(drawing.run(tmp_path / "outs", drawn), image=tmp_path / "A_fullres.tif")
    drawing.check(section, drawn, drawn.picture, 1.0)
    section = sp.io.section(tmp_path / "outs", image="lowres")
    drawing.check(section, drawn, drawn.lowres, drawing.lowres)
    assert "images['lowres'] as asked for" in section.about["image"]


@pytest.mark.parametrize("size", [2, 8, 16])
def test_bins_of_one_size(tmp_path, drawing, size):
    drawn = drawing.draw(f"hd {size}")
    folder = drawing.hd_run(tmp_path / "outs", [drawn])
    section = sp.io.section(folder / "binned_outputs" / f"square_{size:03d}um")
    drawing.check(section, drawn, drawn.hires, drawing.hires)
    section = sp.io.section(
        folder / "binned_outputs" / f"square_{size:03d}um", image=folder / "microscope_image" / "slide.tif"
    )
    drawing.check(section, drawn, drawn.picture, 1.0)


@pytest.mark.parametrize("where", ["", "outs", "outs/binned_outputs"])
def test_of_a_run_of_visium_hd_bins_of_8_um_are_taken(tmp_path, drawing, where):
    bins = {size: drawing.draw(f"hd {size}") for size in (8, 16)}
    drawing.hd_run(tmp_path / "outs", list(bins.values()))
    drawing.check(sp.io.section(tmp_path / where), bins[8], bins[8].hires, drawing.hires)
    drawing.check(sp.io.section(tmp_path / where, bin_um=16), bins[16], bins[16].hires, drawing.hires)


@pytest.mark.parametrize("bin_um", [2, 8])
def test_a_window_of_a_run_is_the_part_of_the_whole(tmp_path, drawing, bin_um):
    drawn = drawing.draw("hd 2")
    folder = drawing.hd_run(tmp_path / "outs", [drawn])
    whole = sp.io.section(folder, bin_um=bin_um)
    xy = whole.measured.centers[:, ::-1]
    low, high = xy[len(xy) // 3] - 1e-6, xy[-len(xy) // 5] - 1e-6  # through the centres of bins
    own = ((xy >= low) & (xy < high)).all(axis=1)
    cut = sp.io.section(folder, bin_um=bin_um, bbox=(*low, *high))
    assert cut.adata.obs_names.tolist() == whole.adata.obs_names[own].tolist()
    np.testing.assert_array_equal(cut.adata.X.toarray(), whole.adata.X[own].toarray())
    np.testing.assert_allclose(cut.measured.centers, whole.measured.centers[own], atol=1e-6)
    assert cut.adata.var.equals(whole.adata.var)
    assert cut.spot == whole.spot
    assert cut.measured.others.sum() + cut.measured.values.sum() == whole.measured.values.sum()
    with pytest.raises(
        ValueError, match="Found no spot or bin under tissue with its centre in bbox.*reach from x = [0-9]"
    ):
        sp.io.section(folder, bin_um=bin_um, bbox=(-90, -90, -80, -80))


@pytest.mark.parametrize("positions", ["tissue_positions.csv", "tissue_positions.parquet"])
def test_a_window_of_a_run_of_spots(tmp_path, drawing, positions):
    drawn = drawing.draw("visium")
    folder = drawing.run(tmp_path / "outs", drawn, positions=positions)
    whole = sp.io.section(folder)
    middle = float(np.median(drawn.xy[drawn.under, 0]))
    cut = sp.io.section(folder, bbox=(0, 0, middle, 1e6))
    own = whole.measured.centers[:, 1] < middle
    assert cut.adata.obs_names.tolist() == whole.adata.obs_names[own].tolist()
    np.testing.assert_array_equal(cut.adata.X.toarray(), whole.adata.X[own].toarray())


def test_larger_bins_are_summed_up_of_smaller_ones(tmp_path, drawing):
    drawn = drawing.draw("hd 2")
    folder = drawing.hd_run(tmp_path / "outs", [drawn])
    section = sp.io.section(folder)
    assert section.spot.um == 8
    assert section.about["array"] == "Visium HD, 8 um bins"
    block = drawn.places[drawn.under] // 4
    for place, center, counts in zip(
        section.adata.obs[["array_row", "array_col"]].to_numpy(),
        section.measured.centers,
        section.adata.X.toarray(),
        strict=True,
    ):
        own = (block == place).all(axis=1)
        np.testing.assert_array_equal(counts, drawn.counts[drawn.under][own].sum(axis=0))
        first = drawn.xy[(drawn.places // 4 == place).all(axis=1)]  # with the bins beside the tissue
        np.testing.assert_allclose(center, first.mean(axis=0)[::-1], atol=0.01)
    with pytest.raises(ValueError, match="Found bins of 2 um in .*expected bins of 5 um.*a multiple of 2 as `bin_um`"):
        sp.io.section(folder, bin_um=5)


def test_segmented_cells_of_visium_hd_are_refused(tmp_path, drawing):
    drawn = drawing.draw("hd 8")
    folder = drawing.hd_run(tmp_path / "outs", [drawn])
    drawing.cells(folder, drawn)
    drawing.refused(
        folder / "segmented_outputs", tmp_path / "written", "holds segmented cells.*Give the folder of one bin"
    )


def test_raw_counts_lose_what_lies_beside_the_tissue(tmp_path, drawing, caplog):
    drawn = drawing.draw("visium")
    section = sp.io.section(drawing.run(tmp_path / "outs", drawn, filtered=False))
    drawing.check(section, drawn, drawn.hires, drawing.hires)
    assert f"Raw counts: {drawn.under.sum()} of {len(drawn.under)} spots lie under tissue and were kept" in caplog.text


def test_sections_that_were_joined_are_refused(tmp_path, drawing):
    """``spaceranger aggr`` joins counts and writes no picture that is common to the sections."""
    folder = drawing.run(tmp_path / "outs", drawing.draw("visium"))
    shutil.rmtree(folder / "spatial")
    (folder / "spatial").mkdir()
    (folder / "aggregation.csv").write_text("library_id,molecule_h5,cloupe_file\nA,a.h5,a.cloupe\nB,b.h5,b.cloupe\n")
    drawing.refused(folder, tmp_path / "written", "several sections that `spaceranger aggr` joined.*A, B")


def test_cells_of_xenium_are_refused(tmp_path, drawing):
    folder = drawing.xenium(tmp_path / "outs")
    drawing.refused(folder, tmp_path / "written", "is a Xenium run, whose counts are those of cells; expected spots")


def test_other_folders_are_refused(tmp_path, drawing):
    """Such as counts of Spatial Transcriptomics, which other programs write, without a folder of positions and pictures."""
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "counts.tsv").touch()
    drawing.refused(
        tmp_path / "st", tmp_path / "written", "neither a Space Ranger run nor an OME-Zarr.*holds: counts.tsv"
    )
    drawing.refused(
        tmp_path / "gone", tmp_path / "written", "Found nothing at '.*gone'; expected the folder of a Space"
    )


def test_a_spatialdata_store_as_a_path_is_refused(tmp_path, drawing):
    import anndata as ad
    import spatialdata as sd

    sd.SpatialData(tables={"table": ad.AnnData(np.ones((3, 2)))}).write(tmp_path / "sdata.zarr")
    drawing.refused(tmp_path / "sdata.zarr", tmp_path / "written", "spatialdata.read_zarr")
