"""Figures of merit of a representation of several sections, after Luecken et al., Nature Methods 2022.

Small implementations by scikit-learn of what they call batch removal (silhouette of batches, here with a classifier and
mixing of neighbours) and conservation of biology (silhouette of labels, graph connectivity, agreement of clusters).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

FIGURES = (
    "section_accuracy",
    "section_silhouette",
    "section_mixing",
    "label_silhouette",
    "label_purity",
    "label_connectivity",
    "clusters_kept",
)


@dataclass(frozen=True, eq=False)
class Representation:
    """Spots in some space."""

    values: Floats  # (n, K) coordinates; distances are Euclidean
    sections: Codes  # (n,) number of each spot's section
    labels: Codes | None = None  # (n,) number of each spot's label, -1 for none; None if there are no labels


def figures_of(what: Representation, alone: Codes, n_neighbors: int, seed: int) -> list[float]:
    """Return all figures in the order of :data:`FIGURES`; NaN for those of labels if there are none.

    ``alone`` are (n,) clusters found in each section alone.
    """
    nearest = _nearest(what.values, n_neighbors)
    together = leiden(what.values, np.zeros(len(what.values), dtype=np.intp), n_neighbors, seed)
    return [
        section_accuracy(what, seed),
        _silhouette(what.values, what.sections, seed),
        section_mixing(nearest, what.sections),
        *_of_labels(what, nearest, seed),
        clusters_kept(alone, together, what.sections),
    ]


def section_accuracy(what: Representation, seed: int, folds: int = 5) -> float:
    """Balanced accuracy with which a logistic regression tells the section, cross-validated."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return float(cross_val_score(model, what.values, what.sections, cv=split, scoring="balanced_accuracy").mean())


def section_mixing(nearest: Codes, sections: Codes) -> float:
    """Share of (n, k) neighbours from other sections, over that expected if sections were mixed at random."""
    share = np.bincount(sections) / len(sections)
    expected = (1 - share[sections]).mean()
    return float((sections[nearest] != sections[:, None]).mean() / expected)


def clusters_kept(alone: Codes, together: Codes, sections: Codes) -> float:
    """Mean over sections of the adjusted Rand index of clusters found alone and together."""
    from sklearn.metrics import adjusted_rand_score

    return float(
        np.mean([adjusted_rand_score(alone[sections == s], together[sections == s]) for s in np.unique(sections)])
    )


def leiden(values: Floats, groups: Codes, n_neighbors: int, seed: int) -> Codes:
    """(n,) Leiden clusters, found in each group of spots by itself."""
    import scanpy as sc
    from anndata import AnnData

    found = np.zeros(len(values), dtype=np.intp)
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        table = AnnData(obsm={"X": values[own].astype(np.float32)}, shape=(len(own), 0))
        sc.pp.neighbors(table, n_neighbors=min(n_neighbors, len(own) - 1), use_rep="X", random_state=seed)
        sc.tl.leiden(table, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
        found[own] = found.max() + 1 + table.obs["leiden"].cat.codes.to_numpy()
    return found


def _of_labels(what: Representation, nearest: Codes, seed: int) -> list[float]:
    """Silhouette, purity and connectivity of labels."""
    if what.labels is None:
        return [float("nan")] * 3
    known = what.labels >= 0
    if len(np.unique(what.labels[known])) < 2:
        return [float("nan")] * 3
    silhouette = _silhouette(what.values[known], what.labels[known], seed)
    return [silhouette, label_purity(nearest, what.labels, what.sections), label_connectivity(nearest, what.labels)]


def _silhouette(values: Floats, groups: Codes, seed: int, most: int = 5000) -> float:
    """Mean silhouette width of groups; of so many spots drawn at random at most, as all their distances are computed."""
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(values, groups, sample_size=min(len(values), most), random_state=seed))


def label_purity(nearest: Codes, labels: Codes, sections: Codes) -> float:
    """Share of neighbours from other sections that have the spot's label: within a section neighbours say little."""
    counted = (sections[nearest] != sections[:, None]) & (labels[nearest] >= 0) & (labels[:, None] >= 0)
    same = labels[nearest] == labels[:, None]
    return float(same[counted].mean()) if counted.any() else float("nan")


def label_connectivity(nearest: Codes, labels: Codes) -> float:
    """Mean over labels of the share of their spots in the largest connected part of the graph of their neighbours."""
    from scipy.sparse.csgraph import connected_components

    n, k = nearest.shape
    graph = sparse.csr_array((np.ones(n * k), (np.repeat(np.arange(n), k), nearest.ravel())), shape=(n, n))
    shares = []
    for label in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(labels == label)
        part = connected_components(graph[own][:, own], directed=False)[1]
        shares.append(np.bincount(part).max() / len(own))
    return float(np.mean(shares))


def _nearest(values: Floats, n_neighbors: int) -> Codes:
    """(n, k) nearest other spots of each."""
    from sklearn.neighbors import NearestNeighbors

    k = min(n_neighbors, len(values) - 1)
    found: Codes = NearestNeighbors(n_neighbors=k).fit(values).kneighbors(return_distance=False)
    return found
