"""The table of spot positions in a run's ``spatial`` folder, as Space Ranger or another program saved it."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sphisto._settings import logger
from sphisto.io.paths import require_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
_SEURAT = {
    "tissue": "in_tissue",
    "row": "array_row",
    "col": "array_col",
    "imagerow": "pxl_row_in_fullres",
    "imagecol": "pxl_col_in_fullres",
}
_EXPECTED = f"expected a header ({', '.join(COLUMNS)}), or these six columns in this order without one"
_STEMS = ("tissue_positions", "tissue_positions_list")
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
_NAMES = [f"{stem}{suffix}" for stem in _STEMS for suffix in _SUFFIXES]
_TRUTH = {"1": 1, "true": 1, "t": 1, "yes": 1, "0": 0, "false": 0, "f": 0, "no": 0}
_MISSING = ("", "NA", "nan", "NaN")
_ASIDE = re.compile(
    r"\s*#|\s*\"?sep=.\"?\s*$", re.IGNORECASE
)  # comments, and the line by which Excel states the separator
_EXCEL = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def read_positions(spatial: Path, near: tuple[float, float, float, float] | None = None) -> pd.DataFrame:
    """Read the positions of all spots, by barcode: whole numbers but for the place in px, which is float64.

    Of a parquet file, in which there may be ten million, only those in the window ``near`` are read, if it is given:
    (x_min, y_min, x_max, y_max) in full-resolution px.
    """
    import pandas as pd

    path = _find(spatial)
    if path.suffix == ".parquet":
        try:
            raw = _read_parquet(path, near)
        except ImportError as error:
            msg = f"{str(path)!r} is a parquet file, for which pandas needs pyarrow. Install it: `pip install pyarrow`."
            raise ImportError(msg) from error
        except (ValueError, OSError) as error:
            msg = f"{str(path)!r} cannot be read as parquet ({error}). Copy it again from the run."
            raise ValueError(msg) from error
        raw = _named(raw if raw.index.name is None else raw.reset_index(), path)
    else:
        raw = _read_text(path)
    raw = raw.dropna(subset="barcode")
    places = ("pxl_row_in_fullres", "pxl_col_in_fullres")
    values = {"in_tissue": _truth(raw["in_tissue"], path)}
    values |= {name: _numbers(raw[name], path, whole=name not in places) for name in COLUMNS[2:]}
    known = np.all([np.isfinite(column) for column in values.values()], axis=0)
    if not known.all():
        logger.warning("%s: %d of %d positions are incomplete and were left out, and spots there with them. Complete those "
                       "of which `in_tissue` is 1.", path, (~known).sum(), len(known))  # fmt: skip
    index = pd.Index(raw["barcode"].astype(str).str.strip()[known], name="barcode")
    if not index.is_unique:
        msg = f"{str(path)!r} names {index.duplicated().sum()} barcodes more than once; each must have one place."
        raise ValueError(msg)
    types = {name: np.float64 if name in places else np.int64 for name in COLUMNS[1:]}
    return pd.DataFrame({name: values[name][known].astype(types[name]) for name in values}, index=index)


def _read_parquet(path: Path, near: tuple[float, float, float, float] | None) -> pd.DataFrame:
    """Read a parquet file, or of it the places in a window, if the columns have Space Ranger's names."""
    import pandas as pd

    if near is not None:
        y, x = COLUMNS[4:]
        x_min, y_min, x_max, y_max = near
        try:
            return pd.read_parquet(path, filters=[(x, ">=", x_min), (x, "<", x_max), (y, ">=", y_min), (y, "<", y_max)])
        except (ValueError, KeyError):  # columns of other names
            pass
    return pd.read_parquet(path)


def decoded(path: Path) -> str:
    """Text of a file that may be packed (gz), and may begin with a byte order mark, as Windows programs write them."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError) as error:
            msg = f"{str(path)!r} cannot be unpacked ({error}). Copy it again."
            raise ValueError(msg) from error
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    unmarked = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be" if content[:1] == b"\0" else "utf-8-sig"
    try:
        return content.decode("utf-16" if utf16 else unmarked)
    except UnicodeDecodeError as error:
        msg = f"{str(path)!r} is no text in UTF-8 or UTF-16 ({error}). Save it again as comma-separated text."
        raise ValueError(msg) from error


def visible(folder: Path, pattern: str) -> list[Path]:
    """Paths in a folder that fit a pattern, in order; not those hidden by a point, such as the ``._`` files of macOS."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def find_one(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these files that there is, else the only one with a prefix (``GSM1_tissue_positions.csv``)."""
    exact = next((folder / name for name in names if (folder / name).is_file()), None)
    if exact is not None or not folder.is_dir():
        return exact
    prefixed = [path for name in names for path in visible(folder, f"*[_.-]{name}") if path.is_file()]
    if len(prefixed) > 1:
        msg = f"Found several files in {str(folder)!r}: {', '.join(path.name for path in prefixed)}. Keep one; files of several sections belong into a folder each."
        raise ValueError(msg)
    return prefixed[0] if prefixed else None


def spatial_of(run: Path) -> Path:
    """Folder of a run's positions, scale factors and images: ``spatial``, or the run's own if they lie beside the counts."""
    spatial = require_target(run / "spatial")
    return run if not spatial.is_dir() and find_one(run, _NAMES) is not None else spatial


def _find(spatial: Path) -> Path:
    found = find_one(spatial, _NAMES)
    if found is not None:
        return found
    expected = "one of: tissue_positions.csv, tissue_positions_list.csv, tissue_positions.parquet"
    if not spatial.is_dir():
        holds = ", ".join(path.name for path in visible(spatial.parent, "*")[:10]) or "nothing"
        msg = (
            f"Found no folder {spatial.name!r} in {str(spatial.parent)!r}, and no positions beside the counts (it holds: {holds}). "
            f"Expected {expected}: copy the run's `spatial` there."
        )
        raise FileNotFoundError(msg)
    tables = [path.name for path in visible(spatial, "*position*") if path.is_file()]
    hint = f" (it holds {', '.join(tables)}; save it as one of these)" if tables else ""
    msg = f"Found no positions in {str(spatial)!r}{hint}. Expected {expected}."
    raise FileNotFoundError(msg)


def _read_text(path: Path) -> pd.DataFrame:
    """Read separated text: with a header or without, with row names or without."""
    import pandas as pd

    with path.open("rb") as file:
        if file.read(4) in _EXCEL:
            msg = f"{str(path)!r} is an Excel workbook. Save the sheet as comma-separated text (csv)."
            raise ValueError(msg)
    text = "\n".join(line for line in decoded(path).splitlines() if not _ASIDE.match(line))
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t ", key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))
    rows = [
        [field.strip() for field in row]
        for row in csv.reader(text.splitlines(), delimiter=separator)
        if any(field.strip() for field in row)
    ]
    if not rows:
        msg = f"{str(path)!r} is empty; {_EXPECTED}."
        raise ValueError(msg)
    header, rows = (rows[0], rows[1:]) if _is_header(rows[0]) else (None, rows)
    if not rows:
        msg = f"{str(path)!r} holds a header and no positions; expected a line for each spot."
        raise ValueError(msg)
    width = max(map(len, rows))
    if header is None:
        header = ["", *COLUMNS] if width == len(COLUMNS) + 1 else list(COLUMNS)
        shape = f"{width} columns without a header"
    else:
        header = ["", *header] if width == len(header) + 1 else header  # R's write.table leaves out that of row names
        shape = f"rows of {width} fields under a header of {len(header)}"
    if width > len(header) or any(len(row) != width for row in rows):
        narrow = min(map(len, rows))
        msg = f"Found {shape if narrow == width else f'rows of {narrow} to {width} fields'} in {str(path)!r}; {_EXPECTED}."
        raise ValueError(msg)
    table = pd.DataFrame(rows, columns=header[:width], dtype=object)
    table = table.replace(
        r"^(-?\d+),(\d+(?:[eE][-+]?\d+)?)$", r"\1.\2", regex=True
    )  # decimal commas, perhaps in quotes
    return _named(table.mask(table.isin(_MISSING)), path)


def _is_header(row: list[str]) -> bool:
    """Whether a row names columns: the last five fields of a spot are numbers or truth values."""
    return not all(
        re.fullmatch(r"[-+\d.,eE]+", field) or field in _MISSING or field.lower() in _TRUTH for field in row[-5:]
    )


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Give the columns Space Ranger's names, in whatever case or with whatever row names they were saved."""
    names = [str(name).strip().lower().replace(".", "_") for name in table.columns]  # points are R's
    if not set(names) & set(COLUMNS[1:]) and {"imagerow", "imagecol"} <= set(names):
        logger.info("%s: the columns are named as in Seurat: %s.", path, ", ".join(names))
        names = [_SEURAT.get(name, name) for name in names]
    if re.fullmatch(r"(v1)? v2 v3 v4 v5 v6", " ".join(names[-6:])):  # R's names for columns without any
        names[-6:] = COLUMNS
    row_names = [name for name in names if name in ("", "index", "rowname", "rownames") or name.startswith("unnamed")]
    if "barcode" not in names and row_names:  # barcodes as row names
        names[names.index(row_names[0])] = "barcode"
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        found = ", ".join(map(str, table.columns))
        msg = f"The header of {str(path)!r} lacks the columns {', '.join(missing)}; found {found}; {_EXPECTED}."
        raise ValueError(msg)
    twice = sorted({name for name in COLUMNS if names.count(name) > 1})
    if twice:
        msg = f"The header of {str(path)!r} names the columns {', '.join(twice)} more than once; {_EXPECTED}."
        raise ValueError(msg)
    return table.set_axis(names, axis=1)[list(COLUMNS)]


def _truth(column: pd.Series, path: Path) -> NDArray[np.float64]:
    """1 or 0, written as a number or in words; NaN where nothing is written."""
    if column.dtype.kind in "biuf":
        return _numbers(column.astype(np.float64), path, whole=True)
    words = column.astype(str).str.lower().str.replace(r"\.0+$", "", regex=True).map(_TRUTH).astype(np.float64)
    bad = column[(words.isna() & column.notna()).to_numpy()]
    if len(bad):
        msg = f"Found in_tissue={bad.iloc[0]!r} in {str(path)!r}; expected 1 or 0."
        raise ValueError(msg)
    return words.to_numpy()


def _numbers(column: pd.Series, path: Path, *, whole: bool) -> NDArray[np.float64]:
    """Values as float64, NaN where nothing is written."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = column.notna().to_numpy() & (np.isnan(values) | (whole & (values != np.rint(values))))
    if wrong.any():
        kind = "whole numbers" if whole else "numbers"
        msg = f"Found {column.name}={column[wrong].iloc[0]!r} in {str(path)!r}; expected {kind}."
        raise ValueError(msg)
    return values
