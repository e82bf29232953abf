from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import io as scipy_io
from scipy import sparse

from sphisto.io import read_visium
from sphisto.io.spaceranger import _bins_to_read
from sphisto.io.spaceranger_folder import is_spaceranger_folder

DATA = Path(__file__).parents[3] / "shared" / "data"
COUNTS = np.array([[1, 0, 2, 5], [0, 3, 0, 6], [4, 0, 0, 7]])  # spots x features
BARCODES = ["AAAC-1", "CCCG-1", "GGGT-1"]
FEATURES = pd.DataFrame(
    {"id": ["E1", "E2", "E3", "P1"], "name": ["Actb", "Snap25", "Gfap", "CD3"], "type": ["Gene Expression"] * 4}
)
POSITIONS = pd.DataFrame(
    {
        "barcode": ["TTTT-1", "GGGT-1", "CCCG-1", "AAAC-1"],  # another order than the counts, one spot more
        "in_tissue": [0, 1, 1, 1],
        "array_row": [0, 1, 2, 3],
        "array_col": [0, 3, 4, 5],
        "pxl_row_in_fullres": [10, 30.5, 20, 15],
        "pxl_col_in_fullres": [100, 300, 200.25, 150],
    }
)
FACTORS = {
    "spot_diameter_fullres": 89.4,
    "tissue_hires_scalef": 0.17,
    "fiducial_diameter_fullres": 144.4,
    "tissue_lowres_scalef": 0.05,
}


def write_h5(path, *, counts=COUNTS, barcodes=BARCODES, features=FEATURES, **attributes):
    matrix = sparse.csr_matrix(counts)
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"] = matrix.data.astype(np.int32), matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array(counts.shape[::-1], dtype=np.int32)
        described = group.create_group("features")
        described["id"] = features["id"].to_numpy().astype("S")
        described["name"] = features["name"].to_numpy().astype("S")
        described["feature_type"] = features["type"].to_numpy().astype("S")
        described["genome"] = np.array(["mm10"] * len(features), dtype="S")


def write_mtx(folder, features=FEATURES):
    folder.mkdir()
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        scipy_io.mmwrite(file, sparse.coo_matrix(COUNTS.T))
    with gzip.open(folder / "features.tsv.gz", "wt") as file:
        features.to_csv(file, sep="\t", header=False, index=False)
    with gzip.open(folder / "barcodes.tsv.gz", "wt") as file:
        file.write("\n".join(BARCODES) + "\n")


def write_spatial(folder, *, version=2, positions=POSITIONS, images=("hires", "lowres")):
    spatial = folder / "spatial"
    spatial.mkdir(parents=True)
    if version == 1:
        positions.to_csv(spatial / "tissue_positions_list.csv", header=False, index=False)
    elif version == 2:
        positions.to_csv(spatial / "tissue_positions.csv", index=False)
    else:
        positions.to_parquet(spatial / "tissue_positions.parquet", index=False)
    (spatial / "scalefactors_json.json").write_text(json.dumps(FACTORS))
    for value, kind in enumerate(images):
        Image.fromarray(np.full((20, 30, 3), value, dtype=np.uint8)).save(spatial / f"tissue_{kind}_image.png")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "section_1" / "outs"
    write_spatial(folder)
    write_h5(folder / "filtered_feature_bc_matrix.h5")
    return folder


def check(adata, library_id):
    assert (adata.X.toarray() == COUNTS).all()
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert list(adata.obs_names) == BARCODES
    assert list(adata.var_names) == ["Actb", "Snap25", "Gfap", "CD3"]
    assert list(adata.var["gene_ids"]) == ["E1", "E2", "E3", "P1"]
    assert list(adata.var["feature_types"]) == ["Gene Expression"] * 4
    assert adata.obsm["spatial"].dtype == np.float64
    assert adata.obsm["spatial"].tolist() == [[150, 15], [200.25, 20], [300, 30.5]]  # x (column), then y (row)
    assert adata.obs["array_row"].tolist() == [3, 2, 1]
    assert adata.obs["array_col"].tolist() == [5, 4, 3]
    assert adata.obs["in_tissue"].tolist() == [1, 1, 1]
    assert list(adata.uns["spatial"]) == [library_id]
    assert adata.uns["spatial"][library_id]["scalefactors"] == FACTORS


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("matrix", ["h5", "prefixed h5", "mtx"])
def test_every_version_reads_the_same(tmp_path, version, matrix):
    folder = tmp_path / "section_1"
    write_spatial(folder, version=version)
    if matrix == "mtx":
        write_mtx(folder / "filtered_feature_bc_matrix")
    else:
        write_h5(folder / f"{'V1_Brain_' if matrix != 'h5' else ''}filtered_feature_bc_matrix.h5")
    check(read_visium(folder), "section_1")


def test_run_folder_and_outs_are_the_same(run):
    check(read_visium(run), "section_1")
    check(read_visium(str(run.parent)), "section_1")


def test_library_id_comes_from_the_caller_then_the_file_then_the_folder(run):
    attributes = {"chemistry_description": "Spatial 3' v1", "software_version": b"spaceranger-1.1.0"}
    write_h5(run / "filtered_feature_bc_matrix.h5", library_ids=np.array([b"V1_Adult"]), **attributes)
    adata = read_visium(run)
    check(adata, "V1_Adult")
    assert adata.uns["spatial"]["V1_Adult"]["metadata"] == {
        "chemistry_description": "Spatial 3' v1",
        "software_version": "spaceranger-1.1.0",
    }
    check(read_visium(run, library_id="mine"), "mine")


def test_the_full_resolution_picture_may_be_a_folder(run, tmp_path):
    (tmp_path / "full.zarr").mkdir()
    library = read_visium(run, image=tmp_path / "full.zarr").uns["spatial"]["section_1"]
    assert library["metadata"] == {"source_image_path": str(tmp_path / "full.zarr")}


def test_images_are_read_and_the_full_resolution_one_remembered(run, tmp_path):
    full = tmp_path / "full.tif"
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(full)
    library = read_visium(run, image=full).uns["spatial"]["section_1"]
    assert library["images"]["hires"].shape == (20, 30, 3)
    assert library["images"]["hires"].dtype == np.uint8
    assert (library["images"]["lowres"] == 1).all()
    assert library["metadata"] == {"source_image_path": str(full.resolve())}


def test_one_image_or_none_may_be_missing(run, caplog):
    (run / "spatial" / "tissue_hires_image.png").unlink()
    assert list(read_visium(run).uns["spatial"]["section_1"]["images"]) == ["lowres"]
    (run / "spatial" / "tissue_lowres_image.png").unlink()
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        assert read_visium(run).uns["spatial"]["section_1"]["images"] == {}
    assert "neither a hires nor a lowres tissue image" in caplog.text


def test_only_genes_are_kept_and_it_is_said(run, caplog):
    features = FEATURES.assign(type=["Gene Expression"] * 3 + ["Antibody Capture"])
    write_h5(run / "filtered_feature_bc_matrix.h5", features=features)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        adata = read_visium(run)
    assert list(adata.var_names) == ["Actb", "Snap25", "Gfap"]
    assert "1 features that are not genes (Antibody Capture) were left out" in caplog.text
    write_h5(run / "filtered_feature_bc_matrix.h5", features=FEATURES.assign(type="Antibody Capture"))
    with pytest.raises(ValueError, match="holds no features of type 'Gene Expression', only Antibody Capture"):
        read_visium(run)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("matrix", ["h5", "mtx"])
def test_genes_named_twice_get_numbers_and_it_is_said(tmp_path, matrix, caplog):
    folder = tmp_path / "section_1"
    write_spatial(folder)
    features = FEATURES.assign(name=["Actb", "Gfap", "Gfap", "CD3"])
    if matrix == "mtx":
        write_mtx(folder / "filtered_feature_bc_matrix", features)
    else:
        write_h5(folder / "filtered_feature_bc_matrix.h5", features=features)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        adata = read_visium(folder)
    assert list(adata.var_names) == ["Actb", "Gfap", "Gfap-1", "CD3"]
    assert "1 gene names occur more than once (Gfap): numbered" in caplog.text


def test_spots_without_a_position_are_dropped_and_it_is_said(run, caplog):
    POSITIONS.iloc[:3].to_csv(run / "spatial" / "tissue_positions.csv", index=False)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        adata = read_visium(run)
    assert list(adata.obs_names) == BARCODES[1:]
    assert (adata.X.toarray() == COUNTS[1:]).all()
    assert "1 of 3 spots have no position and were left out" in caplog.text


def test_of_raw_counts_the_spots_under_tissue_are_kept(run, caplog):
    (run / "filtered_feature_bc_matrix.h5").unlink()
    counts = np.concatenate([COUNTS, [[9, 9, 9, 9]]])
    write_h5(run / "raw_feature_bc_matrix.h5", counts=counts, barcodes=[*BARCODES, "TTTT-1"])
    with caplog.at_level(logging.INFO, logger="sphisto"):
        check(read_visium(run), "section_1")
    assert "Raw counts: 3 of 4 spots lie under tissue and were kept" in caplog.text
    write_h5(run / "raw_feature_bc_matrix.h5", counts=counts[3:], barcodes=["TTTT-1"])
    with pytest.raises(ValueError, match="None of the 1 spots of the raw counts lies under tissue"):
        read_visium(run)


def test_filtered_counts_decide_before_raw(run):
    write_h5(run / "raw_feature_bc_matrix.h5", counts=COUNTS * 2)
    check(read_visium(run), "section_1")


def test_missing_parts_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Found nothing at .*gone'. Expected the folder of a Space Ranger run"):
        read_visium(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"Found a file at .*filtered_feature_bc_matrix.h5'"):
        read_visium(run / "filtered_feature_bc_matrix.h5")
    with pytest.raises(FileNotFoundError, match=r"Found no image file at 'gone.tif' \(`image=`\)"):
        read_visium(run, image="gone.tif")
    (run / "spatial" / "scalefactors_json.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"Found no scale factors at .*scalefactors_json.json"):
        read_visium(run)
    (run / "spatial" / "tissue_positions.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Found no positions in .*spatial'. Expected one of: tissue_positions"):
        read_visium(run)
    (run / "filtered_feature_bc_matrix.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"Found no counts in .* \(it holds: spatial\)"):
        read_visium(run)


def test_broken_parts_are_named(run):
    counts = run / "filtered_feature_bc_matrix.h5"
    (run / "spatial" / "scalefactors_json.json").write_text("{oh")
    with pytest.raises(ValueError, match=r"scalefactors_json.json' is not valid JSON"):
        read_visium(run)
    POSITIONS.drop(columns="array_row").to_csv(run / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(
        ValueError, match=r"tissue_positions.csv' lacks the columns array_row; found barcode, in_tissue"
    ):
        read_visium(run)
    pd.concat([POSITIONS, POSITIONS[:1]]).to_csv(run / "spatial" / "tissue_positions.csv", index=False)
    with pytest.raises(ValueError, match=r"tissue_positions.csv' names 1 barcodes more than once"):
        read_visium(run)
    counts.write_bytes(counts.read_bytes()[8:])
    with pytest.raises(ValueError, match=r"filtered_feature_bc_matrix.h5' is not an HDF5 file"):
        read_visium(run)


def test_counts_and_positions_of_different_runs_are_refused(run):
    write_h5(run / "filtered_feature_bc_matrix.h5", barcodes=["AAAA-1", "CCCC-1", "GGGG-1"])
    with pytest.raises(ValueError, match=r"None of the 3 barcodes .* \(such as 'AAAA-1'\) .* \(such as 'TTTT-1'\)"):
        read_visium(run)


def test_barcodes_without_their_number_are_matched_and_it_is_said(run, caplog):
    write_h5(run / "filtered_feature_bc_matrix.h5", barcodes=[name[:4] for name in BARCODES])
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        adata = read_visium(run)
    assert list(adata.obs_names) == ["AAAC", "CCCG", "GGGT"]
    assert adata.obsm["spatial"].tolist() == [[150, 15], [200.25, 20], [300, 30.5]]
    assert "(such as AAAC) and of the positions (TTTT-1) are the same but for the number" in caplog.text
    write_h5(run / "filtered_feature_bc_matrix.h5")
    bare = POSITIONS.assign(barcode=POSITIONS["barcode"].str[:4])
    bare.to_csv(run / "spatial" / "tissue_positions.csv", index=False)
    check(read_visium(run), "section_1")


def test_several_counts_files_are_not_guessed_among(run):
    (run / "filtered_feature_bc_matrix.h5").unlink()
    for prefix in "ab":
        write_h5(run / f"{prefix}_filtered_feature_bc_matrix.h5")
    with pytest.raises(ValueError, match=r"several counts files .*a_filtered_feature_bc_matrix.h5, b_filtered"):
        read_visium(run)


def test_visium_hd_takes_one_bin_size(run):
    bins = run / "binned_outputs" / "square_008um"
    write_spatial(bins, version=3)
    write_h5(bins / "filtered_feature_bc_matrix.h5")
    check(read_visium(bins), "square_008um")
    check(read_visium(run / "binned_outputs"), "binned_outputs")


def test_of_visium_hd_without_counts_the_bins_there_are_are_named(run):
    for um in (2, 16):
        write_spatial(run / "binned_outputs" / f"square_{um:03d}um", version=3)
    for path in (run, run.parent, run / "binned_outputs"):
        with pytest.raises(ValueError, match=r"without counts of bins.*Found: '.*/square_002um', '.*/square_016um'"):
            read_visium(path)


@pytest.mark.parametrize(
    ("whole", "lacking", "side", "said"),
    [
        ((2, 16), 8, 2, "Found no counts in square_008um"), ((16,), 2, 16, "Found no counts in square_002um"),
        ((16,), None, 16, "Of bins of 16 um those of 16 um are read"),
    ],
)  # fmt: skip
def test_a_bin_size_that_is_missing_is_said(run, caplog, whole, lacking, side, said):
    for um in whole:
        bins = run / "binned_outputs" / f"square_{um:03d}um"
        write_spatial(bins, version=3)
        write_h5(bins / "filtered_feature_bc_matrix.h5")
    if lacking is not None:
        write_spatial(run / "binned_outputs" / f"square_{lacking:03d}um", version=3)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        folder, factor, read = _bins_to_read(run, None)
    assert folder.name == f"square_{side:03d}um"
    assert read == side * factor
    assert said in caplog.text


def test_bins_keep_what_their_scale_factors_say(tmp_path):
    bins = tmp_path / "binned_outputs" / "square_016um"
    barcodes = [f"s_016um_{row:05d}_{row:05d}-1" for row in range(300, 303)]
    positions = pd.DataFrame(
        {
            "barcode": barcodes[::-1],
            "in_tissue": [1, 1, 1],
            "array_row": [302, 301, 300],
            "array_col": [302, 301, 300],
            "pxl_row_in_fullres": [58.4, 29.2, 0.0],
            "pxl_col_in_fullres": [1058.4, 1029.2, 1000.0],
        }
    )
    write_spatial(bins, version=3, positions=positions)
    write_h5(bins / "filtered_feature_bc_matrix.h5", barcodes=barcodes)
    factors = {
        "spot_diameter_fullres": 29.2,
        "bin_size_um": 16.0,
        "microns_per_pixel": 0.548,
        "tissue_hires_scalef": 0.1,
    }
    (bins / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    adata = read_visium(bins)
    assert adata.uns["spatial"]["square_016um"]["scalefactors"] == factors
    assert adata.obsm["spatial"].tolist() == [[1000, 0], [1029.2, 29.2], [1058.4, 58.4]]
    assert adata.obs["array_row"].tolist() == [300, 301, 302]


def test_segmented_cells_are_refused(run):
    cells = run / "segmented_outputs"
    cells.mkdir()
    write_spatial(run / "binned_outputs" / "square_008um", version=3)
    (cells / "filtered_feature_cell_matrix.h5").touch()
    (cells / "spatial").mkdir()
    with pytest.raises(ValueError, match=r"holds segmented cells.*Give.*/square_008um'\).*tl.aggregate"):
        read_visium(cells)


@pytest.mark.parametrize("marked", ["positions", "list", "libraries", "barcodes"])
def test_joined_sections_are_refused(run, marked):
    names = {"libraries": "S1, S2", "list": "S1, S2", "positions": "S1, S2"}
    if marked == "positions":
        for name in ("S1", "S2"):
            (run / "spatial" / name).mkdir()
            (run / "spatial" / name / "scalefactors_json.json").write_text("{}")
        (run / "spatial" / "tissue_positions.csv").rename(run / "spatial" / "aggr_tissue_positions.csv")
    elif marked == "list":
        (run / "aggregation.csv").write_text(
            "library_id,molecule_h5\nS1,/a/S1/outs/molecule_info.h5\nS2,/a/S2/outs/m.h5\n"
        )
    elif marked == "libraries":
        write_h5(run / "filtered_feature_bc_matrix.h5", library_ids=np.array([b"S1", b"S2"]))
    else:
        write_h5(run / "filtered_feature_bc_matrix.h5", barcodes=["AAAC-1", "CCCG-1", "AAAC-2"])
    with pytest.raises(ValueError, match=r"spaceranger aggr.*[Gg]ive each section's own run") as caught:
        read_visium(run)
    assert names.get(marked, "-1, -2") in str(caught.value)
    assert ("/a/S1/outs, /a/S2/outs" in str(caught.value)) is (marked == "list")


def test_barcodes_joined_twice_are_refused(run):
    write_h5(run / "filtered_feature_bc_matrix.h5", barcodes=["AAAC-1", "CCCG-1", "AAAC-1"])
    with pytest.raises(ValueError, match="name 1 of 3 barcodes more than once"):
        read_visium(run)


@pytest.mark.parametrize("packed", [True, False])
def test_the_mtx_folder_may_be_unpacked_and_genes_may_be_called_na(tmp_path, packed):
    folder = tmp_path / "section_1"
    write_spatial(folder)
    matrix = folder / "raw_feature_bc_matrix"
    write_mtx(matrix, FEATURES.assign(name=["Actb", "NA", "NaN", "CD3"]))
    if not packed:
        for path in list(matrix.iterdir()):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    adata = read_visium(folder)
    assert list(adata.var_names) == ["Actb", "NA", "NaN", "CD3"]
    assert (adata.X.toarray() == COUNTS).all()
    (matrix / ("barcodes.tsv.gz" if packed else "barcodes.tsv")).write_text("AAAC-1\n")
    with pytest.raises(ValueError, match="4 features x 3 barcodes in .*, but 4 features and 1 barcodes"):
        read_visium(folder)
    (matrix / ("barcodes.tsv.gz" if packed else "barcodes.tsv")).unlink()
    with pytest.raises(FileNotFoundError, match="Found no barcodes.tsv in"):
        read_visium(folder)


def test_files_of_other_kinds_are_named(run):
    counts = run / "filtered_feature_bc_matrix.h5"
    read_visium(run).write_h5ad(counts)
    with pytest.raises(ValueError, match=r"filtered_feature_bc_matrix.h5' is an AnnData file \(h5ad\)"):
        read_visium(run)
    with h5py.File(counts, "w") as file:
        file["barcodes"] = [1]
    with pytest.raises(ValueError, match=r"lacks matrix/barcodes, .* \(it holds: barcodes\)"):
        read_visium(run)
    write_h5(counts)
    counts.write_bytes(counts.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="cannot be read .*Fetch it again"):
        read_visium(run)


def test_a_part_of_a_run_leads_to_the_run(run):
    (run / "raw_feature_bc_matrix").mkdir()
    (run / "raw_feature_bc_matrix" / "matrix.mtx").touch()
    with pytest.raises(FileNotFoundError, match=rf"Found a file at .* Give '{run}'"):
        read_visium(run / "filtered_feature_bc_matrix.h5")
    for part in ("spatial", "raw_feature_bc_matrix"):
        with pytest.raises(ValueError, match=rf"is a part of a run.* Give '{run}'"):
            read_visium(run / part)
    with pytest.raises(FileNotFoundError, match=rf"Found no counts.* Give one of: {run.parent}\."):
        read_visium(run.parent.parent)


def test_a_run_without_counts_is_not_led_to_its_pictures(run):
    (run / "filtered_feature_bc_matrix.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"Found no counts.*Put the counts of this section there\.$"):
        read_visium(run)


def test_packed_downloads_are_to_be_unpacked(run):
    (run / "filtered_feature_bc_matrix.h5").unlink()
    (run / "filtered_feature_bc_matrix.tar.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"Unpack filtered_feature_bc_matrix.tar.gz"):
        read_visium(run)


def test_paths_as_people_write_them(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    full = tmp_path / "full.tif"
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(full)
    for path in ("~/section_1", "section_1/", "./section_1/outs/", "section_1\\outs", Path("~/section_1/outs")):
        check(read_visium(path), "section_1")
    for image in ("full.tif", "~/full.tif", Path("section_1/../full.tif")):
        metadata = read_visium(run, image=image).uns["spatial"]["section_1"]["metadata"]
        assert metadata["source_image_path"] == str(full)
    (tmp_path / "~" / "section_1").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Found no counts in '~/section_1'"):
        read_visium("~/section_1")
    with pytest.raises(TypeError, match="Found a ndarray for a path"):
        read_visium(run, image=np.zeros((4, 4, 3)))


def test_scale_factors_as_other_programs_write_them(run, caplog):
    factors = {
        "tissue_hires_scalef": "0.17",
        "tissue_lowres_scalef": [0.05],
        "spot_diameter_fullres": float("nan"),
        "version": "a",
        "offset": -3,
        "flag": True,
    }
    (run / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors), encoding="utf-8-sig")
    with caplog.at_level(logging.INFO, logger="sphisto"):
        found = read_visium(run).uns["spatial"]["section_1"]["scalefactors"]
    assert found == {"tissue_hires_scalef": 0.17, "tissue_lowres_scalef": 0.05, "offset": -3}
    assert "expected numbers above 0, found spot_diameter_fullres = nan: left out" in caplog.text
    assert "version, flag are no numbers and were left out" in caplog.text


def test_files_with_the_prefix_of_an_archive_are_read(run):
    for path in [*(run / "spatial").iterdir(), run / "filtered_feature_bc_matrix.h5"]:
        path.rename(path.with_name(f"GSM1_A_{path.name}"))
    adata = read_visium(run)
    check(adata, "section_1")
    assert set(adata.uns["spatial"]["section_1"]["images"]) == {"hires", "lowres"}


def flat_of(run, *, packed=False, matrix=None):
    """All files of a run in its own folder, with the prefix of an archive, perhaps packed, as GEO holds them."""
    if matrix is not None:
        (run / "filtered_feature_bc_matrix.h5").unlink()
        write_mtx(run / "mtx")
    for path in [path for path in run.rglob("*") if path.is_file()]:
        content, name = path.read_bytes(), path.name.removesuffix(".gz")
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        path.unlink()
        as_packed = packed and path.suffix not in (".h5", ".png")
        (run / f"GSM1_A_{name}{'.gz' if as_packed else ''}").write_bytes(
            gzip.compress(content) if as_packed else content
        )
    for folder in ("spatial", "mtx"):
        if (run / folder).is_dir():
            (run / folder).rmdir()


@pytest.mark.parametrize("matrix", [None, "mtx"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_that_lie_flat_in_one_folder_are_read_and_it_is_said(run, caplog, packed, matrix):
    flat_of(run, packed=packed, matrix=matrix)
    assert not (run / "spatial").exists()
    assert is_spaceranger_folder(run)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        adata = read_visium(run)
    check(adata, "section_1")
    assert set(adata.uns["spatial"]["section_1"]["images"]) == {"hires", "lowres"}
    assert "has no folder `spatial`: positions, scale factors and images beside the counts are read" in caplog.text
    assert ("counts are read from GSM1_A_matrix.mtx" in caplog.text) == (matrix is not None)


def test_flat_files_of_two_sections_are_not_guessed_among(run):
    flat_of(run)
    for path in list(run.iterdir()):
        (run / path.name.replace("GSM1_A", "GSM2_B")).write_bytes(path.read_bytes())
    with pytest.raises(
        ValueError, match="Found several files .*GSM1_A_.*GSM2_B_.*several sections belong into a folder"
    ):
        read_visium(run)


def test_a_matrix_beside_its_folder_of_positions_is_read(tmp_path):
    write_mtx(tmp_path / "section_1")
    write_spatial(tmp_path / "section_1")
    check(read_visium(tmp_path / "section_1"), "section_1")


def test_packed_counts_and_a_lost_folder_are_named(run):
    counts = run / "filtered_feature_bc_matrix.h5"
    (run / f"{counts.name}.gz").write_bytes(gzip.compress(counts.read_bytes()))
    counts.unlink()
    with pytest.raises(FileNotFoundError, match=r"Found no counts.*Unpack filtered_feature_bc_matrix\.h5\.gz\."):
        read_visium(run)
    write_h5(counts)
    (run / "spatial").rename(run / "places")
    with pytest.raises(
        FileNotFoundError, match=r"Found no folder 'spatial' in .*it holds: .*places\).*copy the run's `spatial`"
    ):
        read_visium(run)


@pytest.mark.parametrize("part", ["filtered_feature_bc_matrix.h5", "spatial"])
def test_links_to_nowhere_are_named(run, part):
    (run / part).rename(run / "elsewhere")
    (run / part).symlink_to(run / "gone")
    with pytest.raises(
        FileNotFoundError, match=rf"{part}' is a link to '.*gone', where nothing is\. Is its disk mounted"
    ):
        read_visium(run)


def test_hidden_files_of_macos_are_passed_over(run):
    for path in [*(run / "spatial").iterdir(), run / "filtered_feature_bc_matrix.h5"]:
        moved = path.with_name(f"GSM1_{path.name}")
        path.rename(moved)
        moved.with_name(f"._{moved.name}").write_bytes(b"\0\5\x16\7")
    adata = read_visium(run)
    check(adata, "section_1")
    assert set(adata.uns["spatial"]["section_1"]["images"]) == {"hires", "lowres"}


def test_images_may_have_an_ending_in_capitals(run):
    hires = run / "spatial" / "tissue_hires_image.png"
    Image.open(hires).save(run / "spatial" / "tissue_hires_image.JPG", format="JPEG")
    hires.unlink()
    assert set(read_visium(run).uns["spatial"]["section_1"]["images"]) == {"hires", "lowres"}


def test_genes_of_several_genomes_are_kept_and_it_is_said(run, caplog):
    with h5py.File(run / "filtered_feature_bc_matrix.h5", "a") as file:
        file["matrix/features/genome"][0] = b"hg38"
    with caplog.at_level(logging.INFO, logger="sphisto"):
        check(read_visium(run), "section_1")
    assert "Genes of 2 genomes were kept: hg38, mm10" in caplog.text


def test_folders_of_space_ranger_are_known_by_their_parts(run, tmp_path):
    write_spatial(tmp_path / "hd" / "binned_outputs" / "square_008um", version=3)
    store = tmp_path / "store.zarr"
    (store / "images").mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for path in (run, str(run), run.parent, run / "spatial", tmp_path / "hd", tmp_path / "hd" / "binned_outputs"):
        assert is_spaceranger_folder(path)
    for path in (store, tmp_path / "empty", tmp_path, run / "filtered_feature_bc_matrix.h5", tmp_path / "gone", None):
        assert not is_spaceranger_folder(path)


@pytest.mark.parametrize(
    ("name", "library_id", "shape"),
    [
        ("mouse_brain_coronal", "V1_Adult_Mouse_Brain", (2698, 1597)),
        ("her2st_C2", "her2st_C2", (187, 15194)),
        ("mob_st_1", "MOB1", (379, 1000)),
        ("breast_visium_xenium", "CytAssist_FFPE_Human_Breast_Cancer", (709, 18085)),
    ],
)
def test_real_sections(name, library_id, shape):
    if not (DATA / name).is_dir():
        pytest.skip(f"the section {name} is not beside the repository")
    adata = read_visium(DATA / name)
    assert adata.shape == shape
    library = adata.uns["spatial"][library_id]
    height, width = library["images"]["hires"].shape[:2]
    x, y = adata.obsm["spatial"].T * library["scalefactors"]["tissue_hires_scalef"]
    assert 0 < x.min() < x.max() < width
    assert 0 < y.min() < y.max() < height
    assert (adata.X.data > 0).all()
