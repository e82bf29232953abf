"""Normalisation: comparable spots, with the raw counts kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sphisto._checks import check_counts
from sphisto._settings import logger
from sphisto.io.counts import in_memory, raw_counts, require_loaded
from sphisto.io.in_place import table_to_change
from sphisto.io.store.tables import become, is_record, require_own

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from spatialdata import SpatialData

    from sphisto.io.understood import Section


def normalize(adata: AnnData | SpatialData | Section, *, target_sum: float = 1e4, copy: bool = False) -> AnnData | None:
    """Scale every spot to the same total and take log(1 + x), keeping the raw counts in a layer.

    This is for exploring and plotting. :func:`sphisto.tl.fit_projection` works on raw counts: give it
    ``layer="counts"``.

    Parameters
    ----------
    adata
        Spots x genes with raw counts in ``X``, in any kind of matrix; one that is lazy is read into memory. Of a
        Section or a SpatialData with a single table that very table.
    target_sum
        Total of each spot before the logarithm. Change it only to match another table.
    copy
        Return a normalised copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy if ``copy=True``.

    Writes
    ------
    ``adata.X`` : float32, log(1 + counts of the spot scaled to ``target_sum``).
    ``adata.layers["counts"]`` : the raw counts, unless there are some in that layer already.
    ``adata.uns["log1p"]`` : as scanpy writes it; ``adata.uns["normalize"]`` : ``params``.

    Raises
    ------
    TypeError
        If ``adata`` holds no table, or several.
    ValueError
        If ``X`` is normalised already or holds no raw counts, ``target_sum`` is not positive, the table stays in its file
        or is lazy, or ``layers["counts"]`` or ``uns["normalize"]`` hold something else.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import sphisto as sp
    >>> adata = ad.AnnData(np.array([[1.0, 3.0], [10.0, 10.0]], dtype=np.float32))
    >>> sp.pp.normalize(adata, target_sum=100)
    >>> np.expm1(adata.X).round().tolist(), adata.layers["counts"].tolist()
    ([[25.0, 75.0], [50.0, 50.0]], [[1.0, 3.0], [10.0, 10.0]])
    """
    import scanpy as sc
    from anndata import AnnData

    if not (np.isfinite(target_sum) and target_sum > 0):
        msg = f"target_sum is {target_sum}, expected a positive number: the total of each spot."
        raise ValueError(msg)
    adata = table_to_change(adata)
    counts = _raw_counts(adata)
    require_own(
        adata.uns,
        "normalize",
        is_record(adata.uns.get("normalize")),
        where="uns",
        remedy="Rename or remove that entry.",
    )
    keep = not _has_counts(adata, counts)
    # scanpy normalises matrices of one kind alike in all its versions; sparse arrays it does not take in some
    bare = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    sc.pp.normalize_total(bare, target_sum=target_sum)
    sc.pp.log1p(bare)
    if copy:
        adata = adata.copy()
    elif adata.is_view:
        become(adata, adata.copy())
    if keep:
        adata.layers["counts"] = counts.copy()
    adata.X = bare.X.toarray() if isinstance(counts, np.ndarray) else type(counts)(bare.X)
    adata.uns["log1p"] = bare.uns["log1p"]
    adata.uns["normalize"] = {"params": {"target_sum": float(target_sum)}}
    logger.info(
        "normalised %d spots to %g counts each, log1p; raw counts are in layers['counts']", adata.n_obs, target_sum
    )
    return adata if copy else None


def _raw_counts(adata: AnnData) -> Any:
    """Return ``X`` in memory; refuse what is normalised already or is no raw counts."""
    require_loaded(adata)
    undo = 'Start again from raw counts: `adata.X = adata.layers["counts"].copy(); adata.uns.pop("log1p", None)`.'
    if "log1p" in adata.uns:
        msg = f'adata.uns["log1p"] marks adata.X as logarithms already, expected raw counts. {undo}'
        raise ValueError(msg)
    problem = check_counts(in_memory(adata.X, "adata.X"))
    if problem and "counts" in adata.layers:
        msg = f"adata.X {problem} and adata.layers has 'counts': it is normalised already, expected raw counts. {undo}"
        raise ValueError(msg)
    return raw_counts(adata)


def _has_counts(adata: AnnData, counts: Any) -> bool:
    """Whether the layer of raw counts is there already; it stays as it is, and what is none is refused."""
    if "counts" not in adata.layers:
        return False
    layer = in_memory(adata.layers["counts"], "layers['counts']")
    problem = check_counts(layer)
    if problem:
        msg = (
            f"adata.layers['counts'] {problem}; expected raw counts, or no layer of that name: those of adata.X are kept "
            "there. Rename or remove the layer."
        )
        raise ValueError(msg)
    if (sparse.csr_matrix(layer) != sparse.csr_matrix(counts)).nnz:
        logger.warning("adata.layers['counts'] is kept as it is, and holds other counts than adata.X. Remove it "
                       "(`del adata.layers['counts']`) to keep those of adata.X.")  # fmt: skip
    return True
