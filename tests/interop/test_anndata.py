"""Sections in an AnnData as scanpy, squidpy and CELLxGENE lay them out: every kind of input by every reader."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest

import sphisto as sp

SECTIONS = ["visium", "visium 11 mm", "cytassist", "spatial transcriptomics", "hd 2", "hd 8", "hd 16"]
READERS = ["scanpy", "squidpy", "cellxgene"]


@pytest.fixture(params=READERS)
def reader(request):
    """Read the folder of a run as a library does, or as CELLxGENE gives it out again."""
    if request.param == "scanpy":
        import scanpy as sc

        if not hasattr(sc, "read_visium"):
            pytest.skip("this version of scanpy has no read_visium, which is deprecated")
        return as_scanpy
    if request.param == "squidpy":
        sq = pytest.importorskip("squidpy", reason="squidpy is not installed")
        return lambda path, **options: sq.read.visium(path, **options)
    return as_cellxgene


def as_scanpy(path, **options):
    import warnings

    import scanpy as sc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and many still use it
        options = {name.replace("counts_file", "count_file"): value for name, value in options.items()}
        return sc.read_visium(path, **options)


def as_cellxgene(path, **options):
    """Lay a section out as CELLxGENE's schema asks: all places of the array, raw counts in .raw, a flag in uns."""
    adata = as_scanpy(path, counts_file="raw_feature_bc_matrix.h5", **options)
    adata.raw = adata.copy()
    sums = np.asarray(adata.X.sum(axis=1))
    adata.X = adata.X.multiply(1e4 / sums).tocsr().log1p()
    (name, library), *_ = adata.uns["spatial"].items()
    kept = {factor: library["scalefactors"][factor] for factor in ("spot_diameter_fullres", "tissue_hires_scalef")}
    if "bin_size_um" in library["scalefactors"]:  # the schema knows no bins; who adds them states their side
        kept["bin_size_um"] = library["scalefactors"]["bin_size_um"]
    adata.uns["spatial"] = {
        "is_single": np.bool_(True),
        name: {"images": {"hires": library["images"]["hires"]}, "scalefactors": kept},
    }
    written = path.parent / "cellxgene.h5ad"
    adata.write_h5ad(written)
    return ad.read_h5ad(written)


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_kind_of_section_is_understood(tmp_path, drawing, reader, kind):
    drawn = drawing.draw(kind)
    adata = reader(drawing.run(tmp_path / "outs", drawn))
    whole = reader is as_cellxgene
    section = sp.io.section(adata, layer="raw" if whole else None)
    drawing.check(section, drawn, drawn.hires, drawing.hires, np.flatnonzero(drawn.under) if whole else None)
    assert section.library_id == "A"
    assert section.adata is adata
    assert section.about["layout"].startswith("AnnData, uns[\"spatial\"]['A']")
    assert ("flag is_single is no library" in section.about["layout"]) == whole
    others = "." if whole else "; there are also 'lowres'."
    assert f"images['hires'] from uns, tissue_hires_scalef 0.5{others}" in section.about["image"]
    assert section.about["frame"] == 'obsm["spatial"]: x, y in full-resolution px'
    n, beside = len(drawn.under), int((~drawn.under).sum())
    assert section.about["rows"] == (
        f'{n - beside} of {n} rows: {beside} are left out, as obs["in_tissue"] is 0'
        if whole
        else f"all {n - beside} of the table's {n - beside} rows"
    )


@pytest.mark.parametrize("kind", ["visium", "hd 8"])
def test_raw_counts_lose_what_lies_beside_the_tissue(tmp_path, drawing, reader, kind, caplog):
    drawn = drawing.draw(kind)
    adata = reader(drawing.run(tmp_path / "outs", drawn, filtered=False), **(
        {} if reader is as_cellxgene else {"counts_file": "raw_feature_bc_matrix.h5"}
    ))  # fmt: skip
    assert adata.n_obs == len(drawn.under)
    with caplog.at_level(logging.INFO, "sphisto"):
        section = sp.io.section(adata, layer="raw" if reader is as_cellxgene else None)
    drawing.check(section, drawn, drawn.hires, drawing.hires, np.flatnonzero(drawn.under))
    assert f"{(~drawn.under).sum()} of {len(drawn.under)} spots lie beside the tissue" in caplog.text


def test_counts_in_raw_only_are_named_and_taken_when_asked_for(tmp_path, drawing, reader, caplog):
    drawn = drawing.draw("visium")
    adata = reader(drawing.run(tmp_path / "outs", drawn))
    if reader is not as_cellxgene:
        adata.raw = adata.copy()
        adata.X = adata.X.multiply(1e4 / np.asarray(adata.X.sum(axis=1))).tocsr().log1p()
    section = sp.io.section(adata)
    assert not section.measured.is_counts
    assert section.about["values"] == "no counts in X, of 6 genes"
    assert "X holds no raw counts" in caplog.text
    assert "Raw counts are in .raw (6 genes): use `layer='raw'`" in caplog.text
    section = sp.io.section(adata, layer="raw")
    drawing.check(section, drawn, drawn.hires, drawing.hires, section.rows)
    assert section.about["values"] == "counts in .raw, of 6 genes"


def test_sections_that_were_joined_are_told_apart(tmp_path, drawing, reader):
    """As ``anndata.concat(label="library_id", uns_merge="unique")`` joins them."""
    parts, drawn = {}, {}
    for seed, name in enumerate("AB"):
        drawn[name] = drawing.draw("visium", name, seed)
        parts[name] = reader(drawing.run(tmp_path / name / "outs", drawn[name]))
        parts[name].uns["spatial"].pop("is_single", None)
    layer = "raw" if reader is as_cellxgene else None
    joined = ad.concat(parts, label="library_id", uns_merge="unique", index_unique="-")
    if reader is as_cellxgene:
        joined.uns["spatial"]["is_single"] = np.bool_(False)
    drawing.refused(joined, tmp_path / "written", "several libraries in uns.*: A, B. Choose one with `library_id`")
    for name, first in (("A", 0), ("B", parts["A"].n_obs)):
        section = sp.io.section(joined, library_id=name, layer=layer)
        rows = np.flatnonzero(drawn[name].under) if reader is as_cellxgene else np.arange(drawn[name].under.sum())
        drawing.check(section, drawn[name], drawn[name].hires, drawing.hires, first + rows)
        assert section.about["rows"].endswith("; the section's own by obs['library_id']")
    del joined.obs["library_id"]
    drawing.refused(joined, tmp_path / "written", "joined of several sections.*no column of obs states", library_id="A")


def test_the_picture_named_at_reading_is_taken(tmp_path, drawing):
    sq = pytest.importorskip("squidpy", reason="squidpy is not installed")
    drawn = drawing.draw("visium")
    folder = drawing.run(tmp_path / "outs", drawn)
    adata = sq.read.visium(folder, source_image_path=tmp_path / "A_fullres.tif")
    section = sp.io.section(adata)
    drawing.check(section, drawn, drawn.picture, 1.0)
    assert f"{tmp_path / 'A_fullres.tif'}, named at reading (source_image_path)" in section.about["image"]


def test_a_picture_named_at_reading_that_is_gone_is_said(tmp_path, drawing, caplog):
    sq = pytest.importorskip("squidpy", reason="squidpy is not installed")
    drawn = drawing.draw("visium")
    adata = sq.read.visium(drawing.run(tmp_path / "outs", drawn), source_image_path=tmp_path / "gone.tif")
    section = sp.io.section(adata)
    drawing.check(section, drawn, drawn.hires, drawing.hires)
    assert "images['hires'] is used; the full-resolution image source_image_path = " in caplog.text
    assert f"{str(tmp_path / 'gone.tif')!r} is not there" in section.about["image"]


def test_the_other_readers_do_not_read_bins_as_they_are_written(tmp_path, drawing, reader):
    """Space Ranger writes positions of bins as parquet, for which neither looks; ``sphisto.io.section`` does."""
    folder = drawing.run(tmp_path / "outs", drawing.draw("hd 8"), positions="tissue_positions.parquet")
    with pytest.raises(OSError, match="tissue_positions_list.csv"):
        reader(folder)


def test_cells_of_xenium_are_refused(tmp_path, drawing):
    """Nothing in such a table says where a picture lies, and cells are no spots."""
    import pandas as pd
    import scanpy as sc

    folder = drawing.xenium(tmp_path / "outs")
    adata = sc.read_10x_h5(folder / "cell_feature_matrix.h5")
    adata.obsm["spatial"] = pd.read_parquet(folder / "cells.parquet")[["x_centroid", "y_centroid"]].to_numpy()
    drawing.refused(adata, tmp_path / "written", "Found no tissue image with its scale factor in uns")
    picture = np.full((480, 480, 3), 128, np.uint8)
    drawing.refused(adata, tmp_path / "written", "Cannot determine how many um a pixel measures", image=picture)


def test_segmented_cells_of_visium_hd_are_refused(tmp_path, drawing):
    import json

    import scanpy as sc

    drawn = drawing.draw("hd 8")
    drawing.hd_run(tmp_path / "outs", [drawn])
    drawing.cells(tmp_path / "outs", drawn)
    own = tmp_path / "outs" / "segmented_outputs"
    adata = sc.read_10x_h5(own / "filtered_feature_cell_matrix.h5")
    outlines = json.loads((own / "cell_segmentations.geojson").read_text())["features"]
    adata.obsm["spatial"] = np.array([np.mean(f["geometry"]["coordinates"][0][:-1], axis=0) for f in outlines])
    factors = {"tissue_hires_scalef": drawing.hires, "microns_per_pixel": drawn.um_per_px}
    adata.uns["spatial"] = {"A": {"images": {"hires": drawn.hires}, "scalefactors": factors}}
    drawing.refused(adata, tmp_path / "written", "Cannot determine how large a spot is.*in no known array")


def test_sections_of_cellxgene_that_are_no_visium_are_refused(tmp_path, drawing):
    """Of other assays it keeps no picture: ``uns["spatial"]`` is the flag alone."""
    adata = ad.AnnData(np.ones((20, 3), np.float32), obsm={"spatial": np.random.default_rng(0).uniform(0, 99, (20, 2))})
    adata.uns["spatial"] = {"is_single": np.bool_(True)}
    drawing.refused(adata, tmp_path / "written", "Found no tissue image with its scale factor in uns")


def test_the_full_resolution_picture_that_cellxgene_may_hold_is_taken_unless_another_is_asked_for(tmp_path, drawing):
    drawn = drawing.draw("visium")
    adata = as_cellxgene(drawing.run(tmp_path / "outs", drawn))
    adata.uns["spatial"]["A"]["images"]["fullres"] = drawn.picture
    rows = np.flatnonzero(drawn.under)
    section = sp.io.section(adata, layer="raw")
    drawing.check(section, drawn, drawn.picture, 1.0, rows)
    assert "images['fullres'] from uns" in section.about["image"]
    assert "there are also 'hires'" in section.about["image"]
    drawing.check(sp.io.section(adata, layer="raw", image="hires"), drawn, drawn.hires, drawing.hires, rows)
