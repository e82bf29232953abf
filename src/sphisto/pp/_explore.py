"""Exploration: clusters, a map of the spots and the genes that mark each cluster."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sphisto._checks import check_counts
from sphisto._rng import RNG, seed_of
from sphisto._settings import logger
from sphisto.io.counts import in_memory, require_loaded
from sphisto.io.in_place import table_to_change
from sphisto.io.store.tables import become, is_record, require_own
from sphisto.pp._mitochondrial import MT, marked

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.io.understood import Section


# which are written over, as by scanpy itself, but not beside names that differ in case only
_OF_SCANPY = {
    "obsm": ("X_pca", "X_umap"),
    "varm": ("PCs",),
    "obsp": ("connectivities", "distances"),
    "uns": ("pca", "neighbors", "umap", "rank_genes_groups"),
}


def explore(
    adata: AnnData | SpatialData | Section,
    *,
    n_top_genes: int = 2000,
    n_pcs: int = 30,
    n_neighbors: int = 15,
    resolution: float = 1.0,
    n_markers: int = 2,
    key_added: str = "cluster",
    rng: RNG = 0,
    copy: bool = False,
) -> AnnData | None:
    """Cluster the spots by expression, lay them out by UMAP and name the genes that mark each cluster.

    scanpy does the work: principal components, nearest neighbours, Leiden (igraph), UMAP, t-tests of each cluster
    against the rest. Each gene can mark only the cluster where its score is highest, and only if it is higher there
    than in the rest; mitochondrial genes (``var["mt"]``) mark none, they show the quality of a spot.

    Parameters
    ----------
    adata
        Spots x genes, log-normalised (:func:`sphisto.pp.normalize`), in any kind of matrix; one that is lazy is read into
        memory. Of a Section or a SpatialData with a single table that very table.
    n_top_genes
        With more genes than this, components use only the most variable ones.
    n_pcs
        Number of principal components; at most one less than spots and genes.
    n_neighbors
        Neighbours of each spot in the graph; at most one less than spots. Lower it for finer structure.
    resolution
        Higher gives more clusters.
    n_markers
        Marker genes of each cluster.
    key_added
        Column of ``adata.obs`` for the clusters.
    rng
        Seed, Generator, or None for a new seed. The same seed gives the same result.
    copy
        Return a copy and leave ``adata`` as it is.

    Returns
    -------
    None, or the copy if ``copy=True``.

    Writes
    ------
    ``adata.obs[key_added]`` : cluster of each spot, categorical.
    ``adata.obsm["X_pca"]``, ``adata.obsm["X_umap"]``, ``adata.obsp["connectivities"]``, ``adata.obsp["distances"]``,
    ``adata.varm["PCs"]`` : as scanpy writes them.
    ``adata.var["marker"]`` : bool, from which :func:`sphisto.tl.fit_projection` takes its default genes;
    ``adata.var["marker_of"]`` : the cluster each marks, "" for the others.
    ``adata.uns`` : ``explore`` (``params``, with the seed used), and ``pca``, ``neighbors``, ``umap``,
    ``rank_genes_groups`` and ``key_added`` by scanpy. With many genes also ``adata.var["highly_variable"]`` and what
    belongs to it.

    Raises
    ------
    TypeError
        If ``adata`` holds no table, or several.
    ValueError
        If ``X`` is not log-normalised, gene names occur twice, there are fewer than 4 spots or 2 genes, the table stays in
        its file or is lazy, or names that would be written hold something else or
        differ only in case from others.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import sphisto as sp
    >>> rates = np.full((60, 20), 10.0)
    >>> rates[:30, 0] = rates[30:, 1] = 100
    >>> adata = ad.AnnData(np.random.default_rng(0).poisson(rates).astype(np.float32))
    >>> sp.pp.normalize(adata)
    >>> sp.pp.explore(adata, resolution=0.3, n_markers=1)
    >>> sorted(adata.var_names[adata.var["marker"]])
    ['0', '1']
    """
    adata = table_to_change(adata)
    require_loaded(adata)
    values = in_memory(adata.X, "adata.X")
    _check_input(adata, values, n_pcs=n_pcs, n_neighbors=n_neighbors, n_markers=n_markers, n_top_genes=n_top_genes)
    _check_names(adata, key_added)
    seed = seed_of(rng)
    params = {
        "n_top_genes": n_top_genes,
        "n_pcs": n_pcs,
        "n_neighbors": n_neighbors,
        "resolution": resolution,
        "n_markers": n_markers,
        "key_added": key_added,
        "rng": seed,
    }
    explored = _bare(adata, values)
    _embed(explored, n_top_genes, n_pcs, n_neighbors, seed)
    _cluster(explored, resolution, key_added, seed)
    _mark(explored, n_markers, key_added)
    explored.uns["explore"] = {"params": params}
    if copy:
        adata = adata.copy()
    elif adata.is_view:
        become(adata, adata.copy())
    _take_over(adata, explored)
    return adata if copy else None


def _bare(adata: AnnData, values: Any) -> AnnData:
    """Return a table of the values and of what scanpy needs of them.

    scanpy treats matrices of one kind alike in all its versions, so that the result does not depend on it; and of a table
    with ``raw`` it would rank that.
    """
    from anndata import AnnData

    bare = AnnData(sparse.csr_matrix(values.astype(np.float32)), obs=adata.obs[[]].copy(), var=adata.var[[]].copy())
    own = marked(adata.var)
    if own is not None:
        bare.var[MT] = own[1]
    if "log1p" in adata.uns:
        bare.uns["log1p"] = dict(adata.uns["log1p"])
    return bare


def _take_over(adata: AnnData, explored: AnnData) -> None:
    """Write what was found of a bare table into the one it was made of."""
    for table, found in ((adata.obs, explored.obs), (adata.var, explored.var.drop(columns=MT, errors="ignore"))):
        for name in found:
            table[name] = found[name].array
    for part in ("obsm", "varm", "obsp"):
        getattr(adata, part).update(getattr(explored, part))
    adata.uns.update({name: entry for name, entry in explored.uns.items() if name != "log1p"})


def _check_names(adata: AnnData, key_added: str) -> None:
    """Refuse to write over columns of the user's."""
    record = adata.uns.get("explore")
    own = is_record(record)
    require_own(adata.uns, "explore", own, where="uns", remedy="Rename or remove that entry.")
    earlier = record["params"].get("key_added") if own else None
    require_own(adata.obs, key_added, earlier == key_added, where="obs",
                remedy="Give another `key_added`, or rename or remove that column.")  # fmt: skip
    for name in ("marker", "marker_of"):
        require_own(adata.var, name, own, where="var", remedy="Rename or remove that column.")
    for part, names in _OF_SCANPY.items():
        for name in names:
            require_own(getattr(adata, part), name, own=True, where=part, remedy="Rename or remove that entry.")


def _check_input(
    adata: AnnData, values: Any, *, least_spots: int = 4, most_log: float = 30.0, **at_least_one: int
) -> None:
    """Raise if the table is too small, not log-normalised, or a number is too small.

    Two groups of two need ``least_spots``; no logarithm of counts is larger than ``most_log``: it is log(1 + x) of
    1e13.
    """
    for name, value in at_least_one.items():
        if value < (0 if name == "n_markers" else 1):
            msg = f"{name} is {value}, expected at least {0 if name == 'n_markers' else 1}."
            raise ValueError(msg)
    if adata.n_obs < least_spots or adata.n_vars < 2:
        found = f"{adata.n_obs} spots and {adata.n_vars} genes"
        msg = f"The table has {found}, expected at least {least_spots} spots and 2 genes. Keep more of them."
        raise ValueError(msg)
    if not adata.var_names.is_unique:
        twice = list(adata.var_names[adata.var_names.duplicated()][:3])
        msg = f"Gene names occur more than once ({', '.join(twice)}, ...). Run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    highest = values.max()
    raw = "log1p" not in adata.uns and check_counts(values) is None
    if raw or not highest <= most_log:
        what = "raw counts" if raw else f"values up to {highest:g}"
        msg = f"adata.X holds {what}, expected log-normalised values. Run `sphisto.pp.normalize(adata)` first."
        raise ValueError(msg)


def _embed(adata: AnnData, n_top_genes: int, n_pcs: int, n_neighbors: int, seed: int, *, few: int = 50) -> None:
    """Write principal components, neighbours and UMAP, with numbers that fit a small table.

    With fewer spots than ``few``, UMAP's spectral start has too few eigenvectors.
    """
    import scanpy as sc

    variable = adata.n_vars > n_top_genes
    if variable:
        sc.pp.highly_variable_genes(adata, n_top_genes=n_top_genes)
    n_genes = int(adata.var["highly_variable"].sum()) if variable else adata.n_vars
    n_comps = min(n_pcs, adata.n_obs - 1, n_genes - 1)
    sc.pp.pca(adata, n_comps=n_comps, mask_var="highly_variable" if variable else None, random_state=seed)
    sc.pp.neighbors(adata, n_neighbors=min(n_neighbors, adata.n_obs - 1), use_rep="X_pca", random_state=seed)
    sc.tl.umap(adata, init_pos="random" if adata.n_obs < few else "spectral", random_state=seed)


def _cluster(adata: AnnData, resolution: float, key_added: str, seed: int) -> None:
    """Write the Leiden clusters."""
    import scanpy as sc

    sc.tl.leiden(
        adata,
        resolution=resolution,
        key_added=key_added,
        random_state=seed,
        flavor="igraph",
        n_iterations=2,
        directed=False,
    )
    logger.info("%d spots in %d clusters, see obs[%r]", adata.n_obs, adata.obs[key_added].nunique(), key_added)


def _mark(adata: AnnData, n_markers: int, key_added: str) -> None:
    """Write the marker genes of the clusters."""
    names, scores = _scores(adata, key_added)
    owner = np.full(adata.n_vars, "", dtype=object)
    for i, name in enumerate(names):
        own = np.flatnonzero((scores.argmax(0) == i) & (scores[i] > 0))
        owner[own[np.argsort(-scores[i, own], kind="stable")[:n_markers]]] = name
    adata.var["marker"] = owner != ""
    adata.var["marker_of"] = owner.astype(str)
    if len(names) < 2:
        logger.warning(
            "Fewer than two clusters have two spots, so no gene is a marker. Raise `resolution` to split them."
        )
        return
    without = [name for name in names if name not in owner]
    if without and n_markers:
        logger.info("no gene is highest in cluster %s", ", ".join(without))
    logger.info("%d marker genes, see var['marker']", adata.var["marker"].sum())


def _scores(adata: AnnData, key_added: str) -> tuple[list[str], NDArray[np.float64]]:
    """Return the clusters that can be compared and how much higher each gene is in them (clusters, genes)."""
    import scanpy as sc
    from pandas.errors import PerformanceWarning

    sizes = adata.obs[key_added].value_counts(sort=False)
    names = [str(name) for name in sizes.index[sizes > 1]]
    if len(names) < 2:
        return names, np.zeros((len(names), adata.n_vars))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)  # scanpy adds its columns one by one
        sc.tl.rank_genes_groups(adata, key_added, groups=names, method="t-test")
    ranked = adata.uns["rank_genes_groups"]
    scores = np.zeros((len(names), adata.n_vars))
    for i, name in enumerate(names):
        scores[i, adata.var_names.get_indexer(ranked["names"][name])] = ranked["scores"][name]
    if MT in adata.var:
        scores[:, adata.var[MT].to_numpy(dtype=bool)] = 0
    return names, np.nan_to_num(scores)
