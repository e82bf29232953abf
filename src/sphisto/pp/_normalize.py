"""Normalisation: comparable spots, with the raw counts kept."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from sphisto._checks import check_counts, require_counts

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger("sphisto")


def normalize(adata: AnnData, *, target_sum: float = 1e4, copy: bool = False) -> AnnData | None:
    """Scale every spot to the same total and take log(1 + x), keeping the raw counts in a layer.

    This is for exploring and plotting. :func:`sphisto.tl.fit_projection` works on raw counts: give it
    ``layer="counts"``.

    Parameters
    ----------
    adata
        Spots x genes with raw counts in ``X``.
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
    ``adata.layers["counts"]`` : the raw counts, unless that layer is there already.
    ``adata.uns["log1p"]`` : as scanpy writes it; ``adata.uns["normalize"]`` : ``params``.

    Raises
    ------
    ValueError
        If ``X`` is normalised already or holds no raw counts, or ``target_sum`` is not positive.

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

    if not (np.isfinite(target_sum) and target_sum > 0):
        msg = f"target_sum is {target_sum}, expected a positive number: the total of each spot."
        raise ValueError(msg)
    _check_raw(adata)
    if copy:
        adata = adata.copy()
    elif adata.is_view:
        adata._init_as_actual(adata.copy())
    if "counts" not in adata.layers:
        adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=target_sum)
    sc.pp.log1p(adata)
    adata.uns["normalize"] = {"params": {"target_sum": float(target_sum)}}
    logger.info(
        "normalised %d spots to %g counts each, log1p; raw counts are in layers['counts']", adata.n_obs, target_sum
    )
    return adata if copy else None


def _check_raw(adata: AnnData) -> None:
    """Raise if ``X`` is normalised already or is no raw counts."""
    undo = 'Start again from raw counts: `adata.X = adata.layers["counts"].copy(); adata.uns.pop("log1p", None)`.'
    if "log1p" in adata.uns:
        msg = f'adata.uns["log1p"] says that adata.X holds logarithms already, expected raw counts. {undo}'
        raise ValueError(msg)
    if "counts" in adata.layers and check_counts(adata.X):
        msg = (
            f"adata.X {check_counts(adata.X)} and adata.layers has 'counts': it is normalised already, expected raw "
            f"counts. {undo}"
        )
        raise ValueError(msg)
    require_counts(adata.X, "adata.X")
