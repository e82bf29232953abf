from __future__ import annotations

import pytest

import sphisto as sp

KINDS = {
    "a.rds": "a file of R; .*Write its counts, coordinates and image from R as an AnnData",
    "a.RData": "a file of R; ",
    "a.h5seurat": "an object of Seurat; .*SeuratDisk::Convert",
    "a.cloupe": "a file of the Loupe Browser",
    "a.xlsx": "an Excel workbook",
    "a.zarr.zip": "a packed file; .*Unpack it",
    "a.csv.gz": "a packed file; .*Unpack it",
}


@pytest.mark.parametrize("name", KINDS)
def test_files_that_are_no_section_are_called_by_what_they_are(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name}' is {KINDS[name]}.*or give the folder of the run"):
        sp.io.section(tmp_path / name)


def test_counts_of_a_run_lead_to_its_folder(tmp_path):
    (tmp_path / "spatial").mkdir()
    (tmp_path / "filtered_feature_bc_matrix.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"Found the path of a table.* Give '{tmp_path}'\.$"):
        sp.io.section(tmp_path / "filtered_feature_bc_matrix.h5")


@pytest.mark.parametrize(("name", "reader"), [("a.h5ad", "anndata.read_h5ad"), ("a.loom", "scanpy")])
def test_tables_lead_to_their_reader(tmp_path, name, reader):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=f"Found the path of a table or store.*Read it with `{reader}`"):
        sp.io.section(tmp_path / name)
