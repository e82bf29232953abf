"""Some rows of a matrix that stays in its file, read run by run: the whole of it never lies in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray


def read_rows(read: Callable[[int, int], Any], rows: NDArray[np.intp], n_columns: int) -> sparse.csr_matrix:
    """Read some rows of a matrix, of which ``read(first, end)`` gives those from ``first`` to before ``end``.

    Rows are ascending; what is read may be sparse or dense.

    Returns
    -------
    (n, n_columns) csr.
    """
    gap = 64  # rows that are read although they are not wanted, rather than read what follows them apart
    at_once = 65_536  # rows
    if not len(rows):
        return sparse.csr_matrix((0, n_columns), dtype=np.float32)
    starts = np.flatnonzero(np.diff(rows, prepend=-gap - 2) > gap + 1)
    parts = []
    for first, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        at = first
        while at < end:
            upto = int(np.searchsorted(rows[at:end], rows[at] + at_once)) + at
            block = sparse.csr_matrix(read(int(rows[at]), int(rows[upto - 1]) + 1))
            wanted = rows[at:upto] - rows[at]
            parts.append(block if len(wanted) == block.shape[0] else block[wanted])
            at = upto
    return sparse.vstack(parts, format="csr")


def taken(adata: AnnData, rows: NDArray[np.intp]) -> AnnData:
    """Return some rows, ascending, of a table as one of their own in memory; of a table that stays in its file only they are read."""
    from anndata import AnnData

    matrix = adata.X if adata.isbacked else None
    if matrix is None or not hasattr(matrix, "to_memory"):  # dense in a file, too
        view = adata[rows]
        return view.to_memory() if adata.isbacked else view.copy()
    if matrix.format != "csr":
        view = adata[rows]
        return view.to_memory()
    return AnnData(
        read_rows(lambda first, end: matrix[first:end], rows, adata.n_vars),
        obs=adata.obs.iloc[rows].copy(),
        var=adata.var.copy(),
        uns=dict(adata.uns),
        obsm={name: np.asarray(values)[rows] for name, values in adata.obsm.items()},
        layers={name: values[rows] for name, values in adata.layers.items() if name is not None},
    )
