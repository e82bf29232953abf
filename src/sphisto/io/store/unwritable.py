"""What to say of a table that no store can hold: what is wrong with it, and what mends that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

_FRAMES = ("obs", "var")
_PARTS = ("obsm", "varm", "obsp", "varp", "uns", "layers")
# what SpatialData says before it names the entries: it calls a function by a name that is none
_PREAMBLE = re.compile(r"^Table contains invalid names\..*?To fix, run `[^`]*`\.\s*")
_CLASS = re.compile(r" (?:of|in|into) <class 'zarr[^']*'>")


def reason_of(error: Exception) -> str:
    """Return an error's words and notes, which name the entry, in one line."""
    words = " ".join(" ".join([str(error), *getattr(error, "__notes__", [])]).split()).rstrip(".")
    return _CLASS.sub("", _PREAMBLE.sub("", words))


def remedy_for(table: AnnData) -> str:
    """Return what the owner of a table that cannot be written can do: have names changed, or change what it holds."""
    if has_odd_names(table):
        return (
            "Rename what is named there: `spatialdata.sanitize_table(adata)` does it (names of columns and entries hold letters, "
            "digits, `_`, `-` and `.`, and no two differ in case only)."
        )
    nested = unhashable_columns(table)
    where = f" ({', '.join(nested)} hold lists, dicts or the like)" if nested else ""
    return (
        f"Convert or remove what is named there{where}: text, numbers, true and false and categories can be written, "
        "under names without slashes."
    )


def has_odd_names(table: AnnData) -> bool:
    """Whether a column or an entry has a name that SpatialData refuses, and that its ``sanitize_table`` mends."""
    from spatialdata import sanitize_name

    for part in (*_FRAMES, *_PARTS):
        names = [name for name in getattr(table, part) if name is not None]  # for anndata 0.13, X is the layer None
        mended = [sanitize_name(name, is_dataframe_column=part in _FRAMES) for name in names]
        if mended != names or len({name.lower() for name in mended}) < len(mended):
            return True
    return False


def unhashable_columns(table: AnnData) -> list[str]:
    """Columns of ``obs`` and ``var`` that hold lists, dicts or the like."""
    found = []
    for part in _FRAMES:
        frame = getattr(table, part)
        for name in frame:
            column = frame[name]
            if column.dtype == np.dtype(object) and any(value.__hash__ is None for value in column):
                found.append(f"{part}[{name!r}]")
    return found
