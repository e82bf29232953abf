"""What the table of a section holds: values to fit, and genes that can be told apart."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sphisto._checks import check_counts

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("sphisto")


def values_of(table: AnnData, layer: str | None) -> tuple[sparse.csr_array, bool]:
    """Return the (n, G) values to fit and whether they are counts."""
    if layer is None and "counts" in table.layers:
        layer = "counts"
    if layer is not None and layer not in table.layers:
        msg = f"Found no layer {layer!r}; the table has {', '.join(table.layers) or 'no layers'}."
        raise KeyError(msg)
    if table.n_vars == 0 or table.n_obs == 0:
        msg = f"Found a table of {table.n_obs} spots x {table.n_vars} genes; nothing is left to fit. Filter less."
        raise ValueError(msg)
    where = "X" if layer is None else f"layers[{layer!r}]"
    raw = table.X if layer is None else table.layers[layer]
    raw = raw.to_memory() if hasattr(raw, "to_memory") else raw  # of a table that stays in its file
    if raw is None or getattr(raw, "dtype", np.dtype(object)).kind not in "buif":
        found = "no values" if raw is None else f"values of type {getattr(raw, 'dtype', type(raw).__name__)}"
        msg = f"Found {found} in {where}; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        values = sparse.csr_array(raw).astype(np.float32)
    _refuse(values, where)
    problem = check_counts(values)
    if problem:
        logger.warning("%s holds no raw counts (%s): the fit uses a Gaussian likelihood.", where, problem)
    return values, problem is None


def _refuse(values: sparse.csr_array, where: str) -> None:
    if not np.isfinite(values.data).all():
        bad = int((~np.isfinite(values.data)).sum())
        msg = f"Found {bad} NaN or infinite values in {where} as float32; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg)
    if (values.data < 0).any():
        msg = (
            f"Found negative values in {where} (lowest {values.data.min():.3g}): scaled or centred data cannot be "
            'summed over pixels. Choose the layer with raw counts, for instance `layer="counts"`.'
        )
        raise ValueError(msg)
    if not values.data.any():
        msg = f"Found only zeros in {where}; expected counts. Choose the `layer` that holds them."
        raise ValueError(msg)


def gene_names(table: AnnData) -> tuple[str, ...]:
    """Return the names of the genes; refuse those that cannot be told apart or be written."""
    names = tuple(map(str, table.var_names))
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        msg = f"Found duplicated gene names ({', '.join(repeated[:5])}); run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    broken = [name for name in names if not _can_be_written(name)]
    if broken:
        msg = (
            f"Found gene names that are no text ({', '.join(map(ascii, broken[:5]))}): they hold surrogates or a null "
            "character. Read the table with the right encoding, or rename the genes."
        )
        raise ValueError(msg)
    return names


def _can_be_written(name: str) -> bool:
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)
