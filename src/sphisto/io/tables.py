"""What the table of a library says of several projections, kept while one of them is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray


def with_other_projections(table: AnnData, earlier: Path, keys: Sequence[str]) -> None:
    """Add to a table what an earlier one on disk says of some projections, by names of genes and spots.

    Raises
    ------
    ValueError
        If the table lacks genes that they model: their loadings would be lost.
    """
    if not keys or not earlier.is_dir():
        return
    import pandas as pd
    import zarr
    from anndata.io import read_elem

    group: Any = zarr.open_group(earlier, mode="r", use_consolidated=False)
    var, obs = read_elem(group["var"]), read_elem(group["obs"])
    genes, spots = (
        pd.Index(old.index).get_indexer(new) for old, new in ((var, table.var_names), (obs, table.obs_names))
    )
    for key in keys:
        if f"varm/{_keys.loadings(key)}" not in group:
            continue
        loadings = read_elem(group[f"varm/{_keys.loadings(key)}"])
        lost = np.setdiff1d(np.flatnonzero(~np.isnan(loadings).any(axis=1)), genes)
        if len(lost):
            msg = (
                f"The table lacks {len(lost)} genes ({', '.join(map(str, var.index[lost[:3]]))}, ...) of the projection "
                f"{key!r} in the same store, whose maps would lose them. Give a table with these genes, or choose "
                "another `store`."
            )
            raise ValueError(msg)
        table.varm[_keys.loadings(key)] = _reordered(loadings, genes)
        for name in set(_keys.in_var(key)) & set(var):
            table.var[name] = _reordered(var[name].to_numpy(), genes)
        for room, name, order in (("varm", _keys.by_method(key), genes), ("obsm", _keys.fitted(key), spots)):
            if f"{room}/{name}" in group:
                getattr(table, room)[name] = _reordered(read_elem(group[f"{room}/{name}"]), order)
        if f"uns/{key}" in group:
            table.uns[key] = read_elem(group[f"uns/{key}"])


def _reordered(values: Any, order: NDArray[np.intp]) -> NDArray[Any]:
    """Rows in another order; NaN where there is none."""
    rows = np.asarray(values)[order]
    if (order < 0).any():
        rows = rows.astype(np.result_type(rows, np.float32))
        rows[order < 0] = np.nan
    return rows
