"""Low-rank factors of the spots' values: non-negative matrix factorisation under the likelihood of the values.

Lee and Seung (2001), as implemented by scikit-learn: Kullback-Leibler divergence for counts (the Poisson likelihood),
squared error for other values.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.factors import Factors

if TYPE_CHECKING:
    from scipy import sparse

    from sphisto.core.slide import Measured

_SHAPE = 1.0  # of the gamma prior of loadings: genes' loadings vary over factors by a factor of two or so
_SHRINKING = 10  # passes until loadings agree with their prior
_ITERATIONS = 60  # on mouse brain, more change the held-out score in the third digit
_MOST_SPOTS = 4_000  # dense rows at once; more add little to the factors and much to the memory


def fit_factors(measured: Measured, kept: NDArray[np.bool_], n_factors: int, seed: int) -> Factors:
    """Find loadings of all genes on at most ``n_factors`` factors, from the ``kept`` spots only."""
    from sklearn.decomposition import NMF

    rows = np.flatnonzero(kept)
    if len(rows) > _MOST_SPOTS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_SPOTS, replace=False))
    values = measured.values[rows].toarray()
    k = min(n_factors, *values.shape)
    model = NMF(k, init="nndsvda", max_iter=_ITERATIONS, random_state=seed, **_divergence(measured.is_counts))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of iterations")
        weights = model.fit_transform(values)
    loadings = np.maximum(model.components_.T, 0)
    total = np.maximum(loadings.sum(axis=0), 1e-12)
    loadings /= total
    if measured.is_counts:
        loadings = _shrunken(loadings, weights * total, values)
    return Factors(measured.genes, loadings.astype(np.float32))


def _shrunken(
    loadings: NDArray[np.float64], weights: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Shrink (G, K) loadings towards each gene's share of all counts, the more the fewer counts speak against it.

    Posterior mean under a gamma prior (Cemgil 2009, Comput. Intell. Neurosci.): a gene of few counts would otherwise
    be given to a few factors by chance. At held-out spots this is worth more than any choice of the number of factors.
    """
    share = np.maximum(values.sum(axis=0, dtype=np.float64) / max(values.sum(dtype=np.float64), 1), 1e-12)[:, None]
    exposure = weights.sum(axis=0)
    out = loadings
    for _ in range(_SHRINKING):
        ratio = values / np.maximum(weights @ out.T, 1e-12)
        out = (out * (ratio.T @ weights) + _SHAPE) / (exposure + _SHAPE / share)
    return np.asarray(out / out.sum(axis=0))


def split_counts(values: sparse.csr_array, seed: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Divide counts at random into two halves, each doubled: two measurements of the same with twice the noise.

    The same counts give the same halves, in whatever order they are stored.
    """
    values = values.sorted_indices()
    first, second = values.copy(), values.copy()
    first.data = np.random.default_rng(seed).binomial(np.rint(values.data).astype(np.int64), 0.5).astype(np.float32)
    second.data = values.data - first.data
    return first * 2, second * 2


def gene_factors(measured: Measured, genes: list[str]) -> Factors:
    """One factor for each of the given genes; the others are not modelled (NaN)."""
    loadings = np.full((len(measured.genes), len(genes)), np.nan, dtype=np.float32)
    position = {gene: i for i, gene in enumerate(measured.genes)}
    for k, gene in enumerate(genes):
        loadings[position[gene]] = np.eye(len(genes), dtype=np.float32)[k]
    return Factors(measured.genes, loadings)


def scores(factors: Factors, values: sparse.csr_array, *, is_counts: bool) -> NDArray[np.float64]:
    """(n, K) factor values of spots under given loadings: the counts each factor contributes."""
    from sklearn.decomposition import non_negative_factorization

    modelled = np.flatnonzero(~np.isnan(factors.loadings[:, 0]))
    if np.count_nonzero(factors.loadings[modelled]) == factors.n_factors == len(modelled):
        own_gene = np.argmax(factors.loadings[modelled], axis=0)  # each factor is a gene
        return np.asarray(values[:, modelled[own_gene]].toarray(), dtype=np.float64)
    parts = []
    for start in range(0, values.shape[0], _MOST_SPOTS):
        dense = values[start : start + _MOST_SPOTS].toarray()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Maximum number of iterations")
            part, _, _ = non_negative_factorization(
                dense,
                H=np.ascontiguousarray(factors.loadings.T),
                n_components=factors.n_factors,
                update_H=False,
                max_iter=_ITERATIONS,
                **_divergence(is_counts),
            )
        parts.append(part)
    return np.concatenate(parts).astype(np.float64)


def _divergence(is_counts: bool) -> dict[str, str]:
    return {"solver": "mu", "beta_loss": "kullback-leibler" if is_counts else "frobenius"}
