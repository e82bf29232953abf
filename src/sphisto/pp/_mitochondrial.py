"""Which genes of a table are mitochondrial: as the user marked them, else by their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from sphisto._settings import logger
from sphisto.io.store.tables import flags, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame

MT = "mt"
_PREFIXES = ("MT-", "MT.")  # the second one is how R writes the first
_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}")


def marked(var: DataFrame) -> tuple[str, NDArray[np.bool_]] | None:
    """Name and values of the user's column of mitochondrial genes: ``mt``, or one of true and false called ``MT`` or ``Mt``."""
    from pandas.api.types import infer_dtype

    other = twin_of(var, MT)
    if MT not in var and other is not None and infer_dtype(var[other]) == "boolean":
        found = flags(var, other, "var")
        return None if found is None else (other, found)
    found = flags(var, MT, "var")
    return None if found is None else (MT, found)


def mitochondrial(adata: AnnData) -> NDArray[np.bool_]:
    """Return which genes are mitochondrial, and say so where it is not by their names."""
    named = _begin_so(adata.var_names)
    own = marked(adata.var)
    if own is not None:
        column, flagged = own
        if column != MT or not np.array_equal(flagged, named):
            logger.info(
                "var[%r] marks %d genes, their names %d: the column is used.", column, flagged.sum(), named.sum()
            )
        return flagged
    if not named.any() and are_ensembl(adata.var_names):
        return _of_ids(adata)
    return named


def are_ensembl(names: Iterable[str]) -> bool:
    """Whether most names are Ensembl's ids of genes."""
    matched = [_ENSEMBL.match(str(name)) is not None for name in names]
    return bool(matched) and 2 * sum(matched) > len(matched)


def _of_ids(adata: AnnData) -> NDArray[np.bool_]:
    """Find the genes by a column of symbols, as ids do not tell; without one say that none is known."""
    for column in adata.var:
        symbols = adata.var[column]
        found = _begin_so(symbols)
        if found.any() and 2 * symbols.nunique() > len(symbols):
            logger.info("Names of genes are Ensembl's ids: by var[%r] %d are mitochondrial.", column, found.sum())
            return found
    logger.warning(
        "Names of genes are Ensembl's ids, and no column of `var` holds symbols such as MT-CO1: no gene is taken for "
        "mitochondrial, and pct_counts_mt is 0. Mark them in `adata.var['mt']`."
    )
    return np.zeros(adata.n_vars, dtype=bool)


def _begin_so(names: Iterable[object]) -> NDArray[np.bool_]:
    return np.array([str(name).upper().startswith(_PREFIXES) for name in names], dtype=bool)
