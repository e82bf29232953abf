from __future__ import annotations

import gzip
import logging

import pandas as pd
import pytest

from sphisto.io.positions import read_positions

HEAD = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
ROWS = [["AAAC-1", "1", "3", "5", "15.5", "150"], ["CCCG-1", "0", "2", "4", "20", "200.25"]]
EXPECTED = {"AAAC-1": (1, 3, 5, 15.5, 150), "CCCG-1": (0, 2, 4, 20, 200.25)}


def text(*rows, sep=",", end="\n", quote=""):
    """Rows as text; names in quotes, numbers not."""
    worded = [[f"{quote}{f}{quote}" if not f.replace(".", "").isdigit() else f for f in row] for row in rows]
    return end.join(map(sep.join, worded)) + end


def numbered(rows):
    return [[f"r{i}", *row] for i, row in enumerate(rows, 1)]


SAVED = {
    "Space Ranger 2": text(HEAD, *ROWS),
    "CRLF": text(HEAD, *ROWS, end="\r\n"),
    "another case": text([name.upper() for name in HEAD], *ROWS),
    "another order": text([*HEAD[1:], HEAD[0]], *[[*row[1:], row[0]] for row in ROWS]),
    "more columns": text([*HEAD, "cluster"], *[[*row, "a b"] for row in ROWS]),
    "empty lines": text(HEAD, *ROWS) + "\n\n,,,,,\n",
    "spaces": text(HEAD, *ROWS, sep=", "),
    "tabs": text(HEAD, *ROWS, sep="\t"),
    "semicolons and decimal commas": text(HEAD, *ROWS, sep=";").replace(".", ","),
    "decimal commas in quotes": text(HEAD, *ROWS).replace("15.5", '"15,5"').replace("200.25", '"200,25"'),
    "powers of ten": text(HEAD, *ROWS, sep=";").replace(".", ",").replace("15,5", "1,55E+01"),
    "Excel's separator": "sep=;\n" + text(HEAD, *ROWS, sep=";"),
    "a comment": "# of the run\n" + text(HEAD, *ROWS),
    "R's names": text([name.replace("_", ".") for name in HEAD], *ROWS),
    "Seurat's with barcodes": text(["barcode", "tissue", "row", "col", "imagerow", "imagecol"], *ROWS),
    "write.csv": text(["", *HEAD], *numbered(ROWS), quote='"'),
    "write.csv without row names": text(HEAD, *ROWS, quote='"'),
    "named row names": text(["id", *HEAD], *numbered(ROWS), quote='"'),
    "write.table": text(HEAD, *numbered(ROWS), sep=" ", quote='"'),
    "barcodes as row names": text(["", *HEAD[1:]], *ROWS, quote='"'),
    "write.table with barcodes as row names": text(HEAD[1:], *ROWS, sep="\t", quote='"'),
    "pandas index saved twice": text(["Unnamed: 0", *HEAD], *numbered(ROWS)),
    "Seurat": text(["", "tissue", "row", "col", "imagerow", "imagecol"], *ROWS, quote='"'),
    "R without header": text(["V1", "V2", "V3", "V4", "V5", "V6"], *ROWS),
    "R without header, barcodes as row names": text(["", "V2", "V3", "V4", "V5", "V6"], *ROWS),
    "truth in words": text(HEAD, [*ROWS[0][:1], "TRUE", *ROWS[0][2:]], [*ROWS[1][:1], "FALSE", *ROWS[1][2:]]),
    "floats": text(
        HEAD, ["AAAC-1", "1.0", "3.0", "5.0", "15.5", "150"], ["CCCG-1", "0.0", "2.0", "4.0", "2e1", "200.25"]
    ),
    "Space Ranger 1": text(*ROWS),
    "Space Ranger 1 with row names": text(*numbered(ROWS), quote='"'),
    "Space Ranger 1, quoted": text(*ROWS, quote='"'),
    "Space Ranger 1, CRLF": text(*ROWS, end="\r\n"),
}


def check(table):
    assert {name: tuple(row) for name, row in zip(table.index, table.itertuples(index=False), strict=True)} == EXPECTED
    assert list(table.columns) == HEAD[1:]
    assert [str(kind) for kind in table.dtypes] == ["int64"] * 3 + ["float64"] * 2


@pytest.mark.parametrize("saved", SAVED)
def test_positions_saved_by_other_programs_are_the_same(tmp_path, saved):
    (tmp_path / "tissue_positions.csv").write_bytes(SAVED[saved].encode())
    check(read_positions(tmp_path))


@pytest.mark.parametrize("saved", ["Space Ranger 1", "Space Ranger 2"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_byte_order_marks_and_packing_change_nothing(tmp_path, saved, encoding, packed):
    content = SAVED[saved].encode(encoding)
    name = "tissue_positions_list.csv"
    if packed:
        content, name = gzip.compress(content), f"{name}.gz"
    (tmp_path / name).write_bytes(content)
    check(read_positions(tmp_path))


@pytest.mark.parametrize("index", [None, "barcode"])
def test_parquet(tmp_path, index):
    table = pd.DataFrame(ROWS, columns=HEAD).astype(dict.fromkeys(HEAD[1:4], int) | dict.fromkeys(HEAD[4:], float))
    table = table.set_index(index) if index else table
    table.to_parquet(tmp_path / "tissue_positions.parquet")
    check(read_positions(tmp_path))
    (tmp_path / "tissue_positions.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        read_positions(tmp_path)


def test_incomplete_positions_are_left_out_and_it_is_said(tmp_path, caplog):
    (tmp_path / "tissue_positions.csv").write_text(text(HEAD, *ROWS, ["GGGT-1", "1", "", "4", "NA", "2"]))
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        check(read_positions(tmp_path))
    assert "1 of 3 positions are incomplete and were left out" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(["a", "b", "c", "d", "e", "f"], *ROWS), "The header of .* lacks the columns barcode, .*; found a, b, c"),
        (
            text(*[row[:5] for row in ROWS]),
            "The header of .* lacks the columns .*; found AAAC-1, 1, 3.*or these six columns",
        ),
        (
            text(HEAD, *ROWS, ["GGGT-1", "1"]),
            r"Found rows of 2 to 6 fields in .*expected a header \(barcode, in_tissue",
        ),
        (text([*HEAD, "Barcode"], *[[*row, "x"] for row in ROWS]), "names the columns barcode more than once"),
        (text(HEAD, ["AAAC-1", "maybe", "1", "1", "1", "1"]), "Found in_tissue='maybe' in .*; expected 1 or 0"),
        (text(HEAD, ["AAAC-1", "1", "1.5", "1", "1", "1"]), "Found array_row='1.5' in .*; expected whole numbers"),
        (text(HEAD, ["AAAC-1", "1", "1", "1", "x", "1"]), "Found pxl_row_in_fullres='x' in .*; expected numbers"),
        (text(HEAD, *ROWS, ROWS[0]), "names 1 barcodes more than once"),
        ("\n\n", "is empty; expected a header"),
        ("PK\x03\x04 and so on", "is an Excel workbook. Save the sheet as comma-separated text"),
    ],
)
def test_what_is_no_table_of_positions_is_named(tmp_path, content, message):
    (tmp_path / "tissue_positions.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_positions(tmp_path)


def test_no_positions(tmp_path):
    with pytest.raises(FileNotFoundError, match="Found no positions in .* Expected one of: tissue_positions.csv"):
        read_positions(tmp_path)
    (tmp_path / "tissue_positions.xlsx").touch()
    with pytest.raises(FileNotFoundError, match=r"it holds tissue_positions.xlsx; save it as one of these"):
        read_positions(tmp_path)
    (tmp_path / "tissue_positions.csv").write_bytes(b"barcode\xff\xe4")
    with pytest.raises(ValueError, match="is no text in UTF-8 or UTF-16"):
        read_positions(tmp_path)


def test_parquet_without_its_library_names_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "tissue_positions.parquet").touch()

    def missing(*_, **__):
        msg = "Unable to find a usable engine"
        raise ImportError(msg)

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(
        ImportError, match=r"is a parquet file, for which pandas needs pyarrow. Install it: `pip install pyarrow`"
    ):
        read_positions(tmp_path)
