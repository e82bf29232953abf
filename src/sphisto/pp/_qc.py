"""Quality control: which spots and genes are worth keeping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sphisto._settings import logger
from sphisto.io.counts import raw_counts
from sphisto.io.in_place import table_to_change
from sphisto.io.layouts import bin_um_of
from sphisto.io.store.tables import become, is_record, require_own
from sphisto.pp._mitochondrial import MT, marked, mitochondrial

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame
    from spatialdata import SpatialData

    from sphisto.io.understood import Section

_LEAST_GENES = 200


def qc(
    adata: AnnData | SpatialData | Section,
    *,
    min_genes: int | None = None,
    min_cells: int = 3,
    max_counts: float = 30_000,
    copy: bool = False,
) -> AnnData | None:
    """Measure the quality of spots and genes, and leave out poor spots and rare genes.

    The measures come from :func:`scanpy.pp.calculate_qc_metrics`. Spots go first, then genes are counted in the spots
    that stay.

    Parameters
    ----------
    adata
        Spots x genes with raw counts in ``X``, in any kind of matrix; one that is lazy is read into memory. Of a
        Section or a SpatialData with a single table that very table; make the Section again afterwards, as its spots change.
    min_genes
        Spots with fewer genes go: they lie beside the tissue or caught nothing. Default: 200; of bins of Visium HD 0, as
        each catches little, and without the poor ones the rates of the tissue would be too high. Lower it for panels of a
        few hundred genes.
    min_cells
        Genes found in fewer spots go: nothing can be learnt about them.
    max_counts
        Spots with more counts in all go. Raise it (``float("inf")``: no limit) for deeply sequenced sections.
    copy
        Return a filtered copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy if ``copy=True``.

    Writes
    ------
    ``adata.obs`` : ``n_genes_by_counts``, ``total_counts``, ``total_counts_mt``, ``pct_counts_mt`` and logarithms, as
    measured before filtering.
    ``adata.var`` : ``mt``, unless it or a column ``MT`` of true and false is there (the name begins with MT-, or MT. as R
    writes it; where names are Ensembl's ids, that in a column of symbols), ``n_cells_by_counts``, ``mean_counts``,
    ``pct_dropout_by_counts``, ``total_counts`` and logarithms, as measured before filtering.
    ``adata.uns["qc"]`` : ``params`` and ``removed``, the numbers of spots and genes that went, by reason.

    Raises
    ------
    TypeError
        If ``adata`` holds no table, or several.
    ValueError
        If ``X`` holds no raw counts, no spot or no gene would be left, the table stays in its file or is lazy, or
        ``uns["qc"]`` or ``var["mt"]`` hold something else, or a name differs in case only from one that would be written;
        ``adata`` is not changed then.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import sphisto as sp
    >>> counts = np.random.default_rng(0).poisson(1.0, (20, 30))
    >>> counts[0] = 0
    >>> adata = ad.AnnData(counts.astype(np.float32))
    >>> sp.pp.qc(adata, min_genes=5)
    >>> adata.n_obs, adata.uns["qc"]["removed"]["spots"]
    (19, 1)
    """
    from anndata import AnnData
    from scanpy.preprocessing import calculate_qc_metrics

    adata = table_to_change(adata)
    counts = raw_counts(adata)
    if min_genes is None:
        min_genes = 0 if _are_bins(adata) else _LEAST_GENES
    _check_size(adata.n_vars, min_genes)
    require_own(adata.uns, "qc", is_record(adata.uns.get("qc")), where="uns", remedy="Rename or remove that entry.")
    mt = mitochondrial(adata)
    own = marked(adata.var)
    column = MT if own is None else own[0]
    require_own(adata.var, column, own=True, where="var", remedy="Rename or remove that column.")
    # scanpy measures matrices of one kind alike in all its versions; sparse arrays it does not take in some
    bare = AnnData(sparse.csr_matrix(counts.astype(np.float32)), adata.obs[[]], adata.var[[]].assign(mt=mt))
    of_spots, of_genes = calculate_qc_metrics(bare, qc_vars=["mt"], percent_top=None, inplace=False)
    for part, measures in (("obs", of_spots), ("var", of_genes)):
        for name in measures:
            require_own(getattr(adata, part), name, own=True, where=part, remedy="Rename or remove that column.")
    few = of_spots["n_genes_by_counts"].to_numpy() < min_genes
    many = of_spots["total_counts"].to_numpy() > max_counts
    spots = ~(few | many)
    if not spots.any():
        raise ValueError(_no_spot(of_spots, few, many, min_genes, max_counts))
    found_in = np.asarray((bare.X[np.flatnonzero(spots)] > 0).sum(axis=0)).ravel()
    genes = found_in >= min_cells
    if not genes.any():
        msg = (
            f"No gene is found in min_cells={min_cells} spots: the most frequent one is found in {found_in.max()} "
            f"of the {spots.sum()} spots kept. Lower min_cells."
        )
        raise ValueError(msg)

    kept = adata[spots, genes].copy()
    if not isinstance(kept.X, type(counts)):  # lazy
        kept.X = counts[spots][:, genes]
    _add(kept.var, of_genes.assign(**{column: mt})[genes])
    _add(kept.obs, of_spots[spots])
    kept.uns["qc"] = {
        "params": {"min_genes": min_genes, "min_cells": min_cells, "max_counts": max_counts},
        "removed": _removed(few, many, genes),
    }
    _report(kept)
    if copy:
        return kept
    become(adata, kept)
    return None


def _are_bins(adata: AnnData) -> bool:
    """Whether the table's rows are bins of Visium HD, by the scale factors or their names."""
    libraries = adata.uns.get("spatial")
    entries = libraries.values() if isinstance(libraries, Mapping) else ()
    factors = [entry.get("scalefactors") for entry in entries if isinstance(entry, Mapping)]
    return (
        any(isinstance(each, Mapping) and "bin_size_um" in each for each in factors)
        or bin_um_of(adata.obs_names) is not None
    )


def _check_size(n_genes: int, min_genes: int) -> None:
    """Raise if the table has too few genes for any spot to pass."""
    if n_genes < min_genes:
        msg = (
            f"The table has {n_genes} genes, so no spot can have min_genes={min_genes}. Set min_genes well below the "
            "number of genes, for example to a tenth of it for a targeted panel."
        )
        raise ValueError(msg)


def _no_spot(
    of_spots: DataFrame, few: NDArray[np.bool_], many: NDArray[np.bool_], min_genes: int, max_counts: float
) -> str:
    """Return why no spot would be left, with the best values found."""
    most, least = of_spots["n_genes_by_counts"].max(), of_spots["total_counts"].min()
    return (
        f"No spot passes: {few.sum()} of {len(few)} have fewer than min_genes={min_genes} genes (the best has {most}), "
        f"{many.sum()} more than max_counts={max_counts:g} counts (the smallest has {least:g}). "
        "Lower min_genes or raise max_counts."
    )


def _add(table: DataFrame, columns: DataFrame) -> None:
    """Write the columns into the table row by row: names of genes may occur twice."""
    for name in columns:
        table[name] = columns[name].to_numpy()


def _removed(few: NDArray[np.bool_], many: NDArray[np.bool_], genes: NDArray[np.bool_]) -> dict[str, int]:
    """Return how many spots and genes were removed, and why; a spot may be removed for both reasons."""
    return {
        "spots": int((few | many).sum()),
        "spots_below_min_genes": int(few.sum()),
        "spots_above_max_counts": int(many.sum()),
        "genes": int((~genes).sum()),
    }


def _report(adata: AnnData) -> None:
    """Log what is left and what went."""
    params, removed = adata.uns["qc"]["params"], adata.uns["qc"]["removed"]
    logger.info(
        "qc kept %d spots and %d genes; left out %d spots (%d with fewer than %d genes, %d with more than %g counts) "
        "and %d genes found in fewer than %d spots",
        adata.n_obs,
        adata.n_vars,
        removed["spots"],
        removed["spots_below_min_genes"],
        params["min_genes"],
        removed["spots_above_max_counts"],
        params["max_counts"],
        removed["genes"],
        params["min_cells"],
    )
