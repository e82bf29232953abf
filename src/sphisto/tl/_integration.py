"""How much sections differ by what is not biology, before and after their offsets were taken off."""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._rng import RNG, seed_of
from sphisto._settings import logger
from sphisto.io.counts import require_loaded
from sphisto.io.in_place import table_to_change
from sphisto.io.store.tables import is_record, require_own
from sphisto.scoring.integration import FIGURES, Representation, figures_of, leiden
from sphisto.tl import _gathered as gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import Series
    from spatialdata import SpatialData

    from sphisto.io.understood import Section

    Floats = NDArray[np.float64]

COUNTS = "counts"
_BEFORE, _SPOTS, _AFTER, _REFERENCE = "before", "spots", "after", "harmony"
_SECTION = "section"


def integration(
    data: AnnData | SpatialData | Section | Sequence[AnnData | SpatialData | Section],
    *,
    section_key: str | None = None,
    after: str = "projection",
    before: str = COUNTS,
    label_key: str | None = None,
    n_neighbors: int = 15,
    n_pcs: int = 30,
    key_added: str = "integration",
    rng: RNG = 0,
    copy: bool = False,
) -> AnnData | list[AnnData] | None:
    """Measure how far sections differ before and after their offsets were taken off, and whether biology is kept.

    Sections that were stained, sequenced or kept differently lie apart in any map of the spots although their tissue is
    the same. Each representation is judged by what a classifier can tell of the section, by how sections mix among
    nearest neighbours, and by whether groups of spots stay together; the measures follow Luecken et al. (Nature Methods
    2022), in small implementations by scikit-learn. Harmony of the representation before is a reference, where harmonypy
    is installed (``pip install "sphisto[integration]"``).

    After a joint fit, ``sp.tl.integration(sections)`` is all that is needed.

    Where sections differ in their tissue, a classifier can and should tell them: judge by labels then, too.

    Parameters
    ----------
    data
        Spots x genes of several sections: a list of tables, or one table that holds them; as :func:`sphisto.tl.fit_projection`
        was given them. Of a Section or a SpatialData with a single table that very table.
    section_key
        Column of ``obs`` that names the section of each spot; at least two sections of 20 spots. Default: the sections of
        the projection ``after``; of a list of tables else the library of each.
    after
        What is without the differences of sections: the ``key_added`` of sections that were fitted together, or an entry of
        ``obsm`` with (spots, K) values. Of a projection, what each spot is made of: roots of the shares of the fitted factors,
        contrasts left out. Rows with NaN are left out.
    before
        ``"counts"``: principal components of log-normalised counts (``layers["counts"]`` if there is one, else ``X``) of the
        genes that all tables have; or an entry of ``obsm``.
    label_key
        Column of ``obs`` with kinds of tissue, annotated by eye or otherwise known apart from both representations.
    n_neighbors
        Neighbours of each spot.
    n_pcs
        Principal components of counts; at most one less than spots and genes.
    key_added
        Entry of ``uns`` to write, and begin of the names in ``obs`` and ``obsm``.
    rng
        Seed, Generator, or None for a new seed.
    copy
        Return a copy and leave ``data`` as it is.

    Returns
    -------
    None, or the copy if ``copy=True``; a list of them if a list was given.

    Writes
    ------
    ``adata.uns[key_added]`` : dict
        ``"table"``, a row for each representation (before, spots, after, harmony) and the columns below; ``"chance"``, what
        each would be without any difference of sections or labels, NaN where that says nothing; ``"params"``. The row
        ``"spots"``, of a projection whose tables hold counts, is what the counts of each spot alone say in its factors: it scatters as much as
        what it is before, so that these two compare. What is fitted borrows from neighbours and the image and scatters
        far less, so that small differences of sections, of tissue as well, stand out.

        - ``section_accuracy``: balanced accuracy of a logistic regression that tells sections apart, five-fold
          cross-validated; lower is better, chance is 1 / sections.
        - ``section_silhouette``: silhouette width of sections, -1 to 1; 0 is best.
        - ``section_mixing``: share of neighbours from other sections over the share expected; 1 is best.
        - ``label_silhouette``: silhouette width of labels; higher is better.
        - ``label_purity``: share of neighbours from other sections that have the spot's label; higher is better.
        - ``label_connectivity``: share of each label's spots that hang together in the graph of neighbours (graph
          connectivity); higher is better.
        - ``clusters_kept``: adjusted Rand index of clusters found in each section alone, in the representation before,
          and the clusters of the same spots found in all sections together; higher is better.
    ``adata.obs[f"{key_added}_section"]`` : the section of each spot, where no ``section_key`` was given.
    ``adata.obsm[f"{key_added}_after"]`` : float32 (spots, K), where ``after`` is a projection.
    ``adata.obsm[f"{key_added}_umap_before"]``, and so for each row : float32 (spots, 2).
    ``adata.obsm[f"{key_added}_harmony"]`` : float32, where harmonypy is installed.

    Raises
    ------
    TypeError
        If ``data`` hold no table, or one of them several.
    KeyError
        If there is no such column, entry or projection, or nothing tells sections apart.
    ValueError
        If there is one section only, a table comes twice, sections are too small, or names that would be written hold something else.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import sphisto as sp
    >>> rng = np.random.default_rng(0)
    >>> tissue = rng.normal(size=(120, 4))
    >>> adata = ad.AnnData(rng.poisson(np.exp(tissue @ rng.normal(size=(4, 30)) / 2)).astype(np.float32))
    >>> adata.obs["section"] = ["a"] * 60 + ["b"] * 60
    >>> adata.obsm["shifted"] = tissue + 3 * (adata.obs["section"] == "b").to_numpy()[:, None]
    >>> adata.obsm["corrected"] = tissue
    >>> sp.tl.integration(adata, section_key="section", before="shifted", after="corrected")
    >>> table = adata.uns["integration"]["table"]
    >>> bool(table.loc["before", "section_accuracy"] > 0.9 > table.loc["after", "section_accuracy"])
    True
    """
    import pandas as pd

    tables = [table_to_change(each) for each in (data if isinstance(data, list | tuple) else [data])]
    if len({id(table) for table in tables}) < len(tables):
        msg = (
            f"Found {len(tables)} tables, some of which are the same one, so that its spots would count twice; expected each once. Give "
            "the table alone: `section.adata` of sections of one table."
        )
        raise ValueError(msg)
    for table in tables:
        require_loaded(table)
    tables = [table.copy() for table in tables] if copy else tables
    sections = gathered.sections(tables, after) if section_key is None else gathered.column(tables, section_key)
    labels = None if label_key is None else gathered.column(tables, label_key)
    of_counts = before == COUNTS and not all(COUNTS in table.obsm for table in tables)
    of_projection = any(after not in table.obsm for table in tables)
    found = {
        _BEFORE: None if of_counts else gathered.values(tables, before),
        _SPOTS: gathered.own(tables, after, COUNTS) if of_projection else None,
        _AFTER: gathered.values(tables, after),
    }
    values = {name: value for name, value in found.items() if value is not None}
    for table in tables:
        _check_names(table, key_added)
    known = np.logical_and.reduce([np.isfinite(each).all(axis=1) for each in values.values()])
    known &= sections.notna().to_numpy()
    if not known.all():
        logger.info("%d of %d spots have no section or no values and are left out.", (~known).sum(), len(known))
    _check_sections(sections[known], section_key)
    seed = seed_of(rng)
    codes = sections[known].astype("category")
    given = {name: value[known] for name, value in values.items()}
    if of_counts:
        given = {_BEFORE: _components(gathered.counts(tables, COUNTS)[np.flatnonzero(known)], n_pcs, seed)} | given
    reference = _harmony(given[_BEFORE], codes, seed)
    if reference is not None:
        given[_REFERENCE] = reference
    alone = leiden(given[_BEFORE], codes.cat.codes.to_numpy(), n_neighbors, seed)
    rows, written = {}, {}
    for name, value in given.items():
        what = Representation(value, codes.cat.codes.to_numpy(), None if labels is None else _codes(labels[known]))
        rows[name] = figures_of(what, alone, n_neighbors, seed)
        written[f"{key_added}_umap_{name}"] = _spread(_umap(value, n_neighbors, seed), known)
    if reference is not None:
        written[f"{key_added}_{_REFERENCE}"] = _spread(reference, known)
    if of_projection:
        written[f"{key_added}_{_AFTER}"] = values[_AFTER].astype(np.float32)
    column = f"{key_added}_{_SECTION}"
    record = {
        "table": pd.DataFrame.from_dict(rows, orient="index", columns=list(FIGURES)),
        "chance": _chance(codes, None if labels is None else labels[known]),
        "params": {
            "section_key": section_key or column, "before": before, "after": after, "n_neighbors": n_neighbors,
            "n_pcs": n_pcs, "rng": seed, **({} if label_key is None else {"label_key": label_key}),
        },
    }  # fmt: skip
    start = 0
    for table in tables:
        own = slice(start, start + table.n_obs)
        for name, all_rows in written.items():
            table.obsm[name] = all_rows[own]
        if section_key is None:
            table.obs[column] = pd.Categorical(sections[own], categories=codes.cat.categories)
        table.uns[key_added] = deepcopy(record)
        start += table.n_obs
    return (tables if isinstance(data, list | tuple) else tables[0]) if copy else None


def _check_names(adata: AnnData, key: str) -> None:
    """Refuse to write over entries of the user's."""
    own = is_record(adata.uns.get(key))
    require_own(adata.uns, key, own, where="uns", remedy="Give another `key_added`.")
    names = (*(f"umap_{name}" for name in (_BEFORE, _SPOTS, _AFTER, _REFERENCE)), _REFERENCE, _AFTER)
    for name in names:
        require_own(adata.obsm, f"{key}_{name}", own, where="obsm", remedy="Give another `key_added`.")
    require_own(adata.obs, f"{key}_{_SECTION}", own, where="obs", remedy="Give another `key_added`.")


def _check_sections(sections: Series, name: str | None, least: int = 20) -> None:
    sizes = sections.value_counts()
    sizes = sizes[sizes > 0]
    if len(sizes) < 2 or sizes.min() < least:
        found = ", ".join(f"{section!r} of {size} spots" for section, size in sizes.items()) or "no section"
        where = "" if name is None else f" in obs[{name!r}]"
        msg = f"Found {found}{where}; expected at least two sections of {least} spots each. Leave smaller ones out."
        raise ValueError(msg)


def _codes(column: Series) -> NDArray[np.intp]:
    """(n,) number of each spot's label, -1 for none."""
    return column.astype("category").cat.remove_unused_categories().cat.codes.to_numpy().astype(np.intp)


def _components(counts: sparse.csr_matrix, n_pcs: int, seed: int) -> Floats:
    """Principal components (n, K) of log-normalised counts."""
    import scanpy as sc
    from anndata import AnnData

    bare = AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(bare)
    sc.pp.log1p(bare)
    sc.pp.pca(bare, n_comps=max(1, min(n_pcs, min(bare.shape) - 1)), random_state=seed)
    return np.asarray(bare.obsm["X_pca"], dtype=np.float64)


def _harmony(values: Floats, sections: Series, seed: int) -> Floats | None:
    """Harmony's values; ``None`` where harmonypy is not installed."""
    if find_spec("harmonypy") is None:
        logger.info(
            "harmonypy is not installed, so that there is no reference; `pip install 'sphisto[integration]'` adds it."
        )
        return None
    import harmonypy
    import pandas as pd

    frame = pd.DataFrame({"section": sections.astype(str).to_numpy()})
    found = np.asarray(
        harmonypy.run_harmony(values, frame, "section", verbose=False, random_state=seed).Z_corr, dtype=np.float64
    )
    return found if found.shape == values.shape else found.T


def _umap(values: Floats, n_neighbors: int, seed: int) -> NDArray[np.float32]:
    import scanpy as sc
    from anndata import AnnData

    bare = AnnData(obsm={"X": values.astype(np.float32)}, shape=(len(values), 0))
    sc.pp.neighbors(bare, n_neighbors=n_neighbors, use_rep="X", random_state=seed)
    sc.tl.umap(bare, random_state=seed)
    return np.asarray(bare.obsm["X_umap"], dtype=np.float32)


def _spread(values: Any, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    whole = np.full((len(known), values.shape[1]), np.nan, dtype=np.float32)
    whole[known] = values
    return whole


def _chance(sections: Series, labels: Series | None) -> dict[str, float]:
    """What each figure would be if nothing distinguished sections, or labels."""
    found = {
        "section_accuracy": 1 / sections.nunique(),
        "section_silhouette": 0.0,
        "section_mixing": 1.0,
        "clusters_kept": 0.0,
    }
    if labels is not None:
        share = labels.value_counts(normalize=True).to_numpy()
        found |= {"label_silhouette": 0.0, "label_purity": float((share**2).sum())}
    return {name: found.get(name, float("nan")) for name in FIGURES}
