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
        model.fit(values)
    loadings = np.maximum(model.components_.T, 0)
    total = loadings.sum(axis=0)
    return Factors(measured.genes, (loadings / np.where(total > 0, total, 1)).astype(np.float32))


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
    if factors.loadings[modelled].shape == (factors.n_factors,) * 2:
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
