"""Tables of loadings that lie in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphisto.io.paths import user_path

if TYPE_CHECKING:
    import os

    import pandas as pd

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def read_loadings(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read genes x programmes from a table whose first column names the genes and whose first row the programmes.

    ``path`` is a csv file, or one separated by tabs (tsv, txt), also compressed (``.gz``).
    """
    import pandas as pd

    file = user_path(path)
    if not file.is_file():
        msg = f"Found no file {file}; expected a table of loadings, genes x programmes."
        raise FileNotFoundError(msg)
    kind = file.with_suffix("").suffix if file.suffix.lower() == ".gz" else file.suffix
    if kind.lower() not in _SEPARATORS:
        msg = f"Found loadings in {file}; expected a name that ends in .csv or .tsv (or .csv.gz, .tsv.gz)."
        raise ValueError(msg)
    try:
        # a gene may be called NA
        frame = pd.read_csv(
            file, sep=_SEPARATORS[kind.lower()], converters={0: str}, keep_default_na=False, na_values=[""]
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        msg = f"{file} is no table of loadings: {error} Expected genes in the first column, and a column for each programme."
        raise ValueError(msg) from error
    if frame.shape[1] < 2:
        msg = (
            f"Found {frame.shape[1]} column in {file}; expected genes in the first one, and a column for each programme, "
            f"separated by {'commas' if kind.lower() == '.csv' else 'tabs'}."
        )
        raise ValueError(msg)
    return frame.set_index(frame.columns[0])
