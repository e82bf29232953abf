"""Low-rank factors of the spots' values: non-negative matrix factorisation under the likelihood of the values.

Lee and Seung (2001), as implemented by scikit-learn: Kullback-Leibler divergence for counts (the Poisson likelihood),
squared error for other values.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import eigh

from sphisto.core.pieces import in_pieces
from sphisto.core.splits import at_most
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.loadings import Loadings
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Measured


def fit_factors(
    measured: Measured, kept: NDArray[np.bool_], config: GeneModelConfig, seed: int, given: Loadings | None = None
) -> GeneModel:
    """Find loadings of all genes on factors and contrasts, as many as the ``kept`` (n,) spots can support, from them only.

    Of a window of a section also from the rows outside it: none of them is left out to be predicted. ``given`` loadings
    take the place of factors: those of the genes they name are kept, or drawn to what was given, the others found.
    """
    known, rng = _learnable(measured, kept, config), np.random.default_rng(seed)
    n_factors = config.n_factors_for(known.shape[0], len(measured.genes))
    values = known[at_most(np.arange(known.shape[0]), config.most_spots, rng)].toarray()
    if given is not None:
        loadings, weights = _completed(measured, values, given, config)
        return _with_contrasts(measured, loadings, weights, values, n_factors, config, given)
    sample = values[at_most(np.arange(len(values)), config.sample, rng)]
    loadings, weights = _factorised(sample, n_factors, config, seed, is_counts=measured.is_counts)
    if not measured.is_counts:
        return GeneModel(measured.genes, loadings.astype(np.float32))
    if len(sample) == len(values):
        loadings = _shrunken(loadings, weights, values, config)
    else:
        loadings, weights = _refitted(measured, loadings, values, config, config.refits)
    return _with_contrasts(measured, loadings, weights, values, n_factors, config)


def refit_factors(
    model: GeneModel,
    measured: Measured,
    kept: NDArray[np.bool_],
    config: GeneModelConfig,
    seed: int,
    given: Loadings | None = None,
) -> GeneModel:
    """Adapt a model's loadings to all ``kept`` (n,) spots in one pass, and find its contrasts anew.

    For spots to be added to those a model was learned from, which are most of them: a tenth more moves loadings little.
    """
    if not measured.is_counts:
        return fit_factors(measured, kept, replace(config, n_factors=model.n_factors), seed)
    known, n_plain = _learnable(measured, kept, config), model.n_factors - model.n_contrasts
    rows = at_most(np.arange(known.shape[0]), config.most_spots, np.random.default_rng(seed))
    values = known[rows].toarray()
    loadings, weights = _refitted(measured, model.loadings[:, :n_plain].astype(np.float64), values, config, 1, given)
    most = n_plain if given is None else config.n_factors_for(known.shape[0], len(measured.genes))
    return _with_contrasts(measured, loadings, weights, values, most, config, given)


def _learnable(measured: Measured, kept: NDArray[np.bool_], config: GeneModelConfig) -> sparse.csr_array:
    """(n', G) values of the ``kept`` (n,) spots and, of a window of a section, of the sample of those outside it.

    Where they hold a handful of counts each, squares of neighbours are summed up.
    """
    rows = np.flatnonzero(kept)
    known = measured.values[rows]
    side = _side_of_pools(known, config) if measured.is_counts else 1
    if side > 1:
        known = _summed(known, np.floor(measured.centers[rows] / (side * measured.pitch)))
    if measured.others is None:
        return known
    others = measured.others  # they come in runs of neighbours
    if side > 1:
        others = _summed(others, np.arange(others.shape[0])[:, None] // side**2)
    return sparse.vstack([known, others], format="csr")


def _side_of_pools(values: sparse.csr_array, config: GeneModelConfig) -> int:
    """Rows along a square of neighbours that hold enough counts together; of few rows, enough squares must be left."""
    usual = values.sum() / max(values.shape[0], 1)
    wanted = math.ceil(math.sqrt(config.pooled_counts / max(usual, 1e-9)))
    return max(min(wanted, math.isqrt(2 * values.shape[0] // config.sample)), 1)


def _summed(values: sparse.csr_array, groups: NDArray[Any]) -> sparse.csr_array:
    """Sum up the rows of (n, G) values that are alike in (n, d) groups."""
    _, group = np.unique(groups, axis=0, return_inverse=True)
    ones = np.ones(len(groups), dtype=values.dtype)
    adding = sparse.csr_array((ones, (group.reshape(-1), np.arange(len(groups)))))
    return sparse.csr_array(adding @ values)


def _refitted(
    measured: Measured,
    loadings: NDArray[np.float64],
    values: NDArray[np.float32],
    config: GeneModelConfig,
    passes: int,
    given: Loadings | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G, K) loadings and (n, K) weights of (n, G) counts, in passes of weights and then loadings."""
    counts, weights = sparse.csr_array(values), np.empty(0)
    aligned = None if given is None else given.of(measured.genes)
    for _ in range(passes):
        plain = GeneModel(measured.genes, loadings.astype(np.float32))
        weights = scores(plain, counts, config, is_counts=True)
        if aligned is not None and config.loadings_strength is None and not np.isnan(aligned).any():
            break  # there is nothing to learn
        loadings = _shrunken(loadings, weights, values, config, aligned)
    return loadings, weights


def _completed(
    measured: Measured, values: NDArray[np.float32], given: Loadings, config: GeneModelConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G, K) loadings and (n, K) weights of (n, G) counts, begun with loadings of some or all genes.

    Weights of the spots are first fitted to the named genes alone, so that programmes mean what was given.
    """
    aligned = given.of(measured.genes)
    prior = _prior_of(values, aligned, config)
    loadings = prior.mean / prior.mean.sum(axis=0)
    if not prior.named.all():
        some = np.flatnonzero(prior.named)
        named = GeneModel(tuple(measured.genes[i] for i in some), prior.mean[some].astype(np.float32))
        weights = scores(named, sparse.csr_array(values[:, some]), config, is_counts=True)
        loadings = _shrunken(loadings, weights / loadings[some].sum(axis=0), values, config, aligned)
    return _refitted(measured, loadings, values, config, config.refits, given)


def _with_contrasts(
    measured: Measured,
    loadings: NDArray[np.float64],
    weights: NDArray[np.float64],
    values: NDArray[np.float32],
    most: int,
    config: GeneModelConfig,
    given: Loadings | None = None,
) -> GeneModel:
    contrasts = _contrasts(values, weights, loadings, most, config)
    both = np.column_stack([loadings, contrasts]).astype(np.float32)
    return GeneModel(measured.genes, both, contrasts.shape[1], () if given is None else given.programmes)


def _factorised(
    values: NDArray[np.float32], n_factors: int, config: GeneModelConfig, seed: int, *, is_counts: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G, K) loadings that sum to one and (n, K) weights of (n, G) values."""
    from sklearn.decomposition import NMF

    model = NMF(
        min(n_factors, *values.shape), init="nndsvda", max_iter=config.iterations, random_state=seed,
        **_divergence(is_counts),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of iterations")
        weights = model.fit_transform(values)
    loadings = np.maximum(model.components_.T, 0)
    total = np.maximum(loadings.sum(axis=0), 1e-12)
    return loadings / total, weights * total


class _Prior(NamedTuple):
    """Gamma prior of loadings."""

    mean: NDArray[np.float64]  # (G, K) or (G, 1); over the named genes each column sums to one
    shape: NDArray[np.float64]  # (G, 1): the firmer, the larger; infinite where loadings are their mean
    named: NDArray[np.bool_]  # (G,) bool: genes by whose counts the values of a factor are measured


def _prior_of(values: NDArray[np.float32], given: NDArray[np.float64] | None, config: GeneModelConfig) -> _Prior:
    """Prior around (G, K) given loadings, and around each gene's share of all counts where they are NaN."""
    total = values.sum(axis=0, dtype=np.float64)
    named = np.ones(len(total), dtype=bool) if given is None else ~np.isnan(given[:, 0])
    share = np.maximum(total / max(total[named].sum(), 1), 1e-12)[:, None]
    shape = np.full_like(share, config.loading_shape)
    if given is None:
        return _Prior(share, shape, named)
    shape[named] = np.inf if config.loadings_strength is None else config.loadings_strength
    return _Prior(np.where(named[:, None], given, share), shape, named)


def _shrunken(
    loadings: NDArray[np.float64],
    weights: NDArray[np.float64],
    values: NDArray[np.float32],
    config: GeneModelConfig,
    given: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Shrink (G, K) loadings towards each gene's share of all counts, the more the fewer counts speak against it.

    Where there are (G, K) ``given`` ones (NaN: none), they are shrunken towards these, or are these.

    Posterior mean under a gamma prior (Cemgil 2009, Comput. Intell. Neurosci.): a gene of few counts would otherwise
    be given to a few factors by chance. At held-out spots this is worth more than any choice of the number of factors.
    """
    prior = _prior_of(values, given, config)
    scale = np.maximum(loadings[prior.named].sum(axis=0), 1e-12)
    out, weights = loadings / scale, weights * scale
    exposure = weights.sum(axis=0)
    parts = in_pieces(len(out), len(values))
    for _ in range(config.shrinking_passes):
        shares = [(values[:, some] / np.maximum(weights @ out[some].T, 1e-12)).T @ weights for some in parts]
        out = prior.mean * (1 + out * np.vstack(shares) / prior.shape) / (1 + prior.mean * exposure / prior.shape)
    return np.asarray(out / out.sum(axis=0))


def _contrasts(
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    loadings: NDArray[np.float64],
    most: int,
    config: GeneModelConfig,
) -> NDArray[np.float64]:
    """Find (G, R) loadings of what non-negative factors leave over, as far as it stands out from noise of counting.

    Divided by the square roots of spots' and genes' levels, that noise has variance 1, and it is known by how far it
    turns the singular vectors of what is left (Benaych-Georges and Nadakuditi 2012, J. Multivar. Anal.). The less
    certain a contrast is, the smaller its share that is used: shallow sections get none.
    """
    gene, depth = loadings @ weights.mean(axis=0), weights @ loadings.sum(axis=0)
    depth = np.maximum(depth / depth.mean(), 1e-12)[:, None]
    known, n = np.flatnonzero(gene > 0), len(values)
    g, pieces = len(known), [known[some] for some in in_pieces(len(known), n)]

    def left(some: NDArray[np.intp]) -> NDArray[np.float64]:
        return (values[:, some] - weights @ loadings[some].T) / np.sqrt((gene[some] + config.faint) * depth)

    together = np.zeros((n, n))
    for some in pieces:
        part = left(some)
        together += part @ part.T
    sizes, spots = eigh(together, subset_by_index=(max(n - most, 0), n - 1), driver="evr")
    sizes, spots = sizes[::-1], spots[:, ::-1]
    aspect, lifted = n / g, np.maximum(sizes / g, 1e-12) - 1
    beyond = lifted - aspect
    signal = np.where(beyond > 2 * np.sqrt(aspect), (beyond + np.sqrt(np.maximum(beyond**2 - 4 * aspect, 0))) / 2, 0)
    certain = np.maximum(signal**2 - aspect, 0) / np.maximum(signal**2 + signal, 1e-12)
    kept = certain > config.least_certain
    axes = np.vstack([left(some).T @ spots[:, kept] for some in pieces]) / np.sqrt(sizes[kept])
    out = np.zeros((len(gene), int(kept.sum())))
    out[known] = config.contrast_share * certain[kept] ** 2 * axes * np.sqrt(gene[known] + config.faint)[:, None]
    return out


def gene_factors(measured: Measured, genes: list[str]) -> GeneModel:
    """One factor for each of the given genes; the others are not modelled (NaN)."""
    loadings = np.full((len(measured.genes), len(genes)), np.nan, dtype=np.float32)
    position = {gene: i for i, gene in enumerate(measured.genes)}
    for k, gene in enumerate(genes):
        loadings[position[gene]] = np.eye(len(genes), dtype=np.float32)[k]
    return GeneModel(measured.genes, loadings)


def scores(
    factors: GeneModel, values: sparse.csr_array, config: GeneModelConfig, *, is_counts: bool
) -> NDArray[np.float64]:
    """(n, K) factor values of spots under given loadings: the counts each factor contributes; then contrasts."""
    from sklearn.decomposition import non_negative_factorization

    modelled = np.flatnonzero(~np.isnan(factors.loadings[:, 0]))
    if np.count_nonzero(factors.loadings[modelled]) == factors.n_factors == len(modelled):
        own_gene = np.argmax(factors.loadings[modelled], axis=0)  # each factor is a gene
        return np.asarray(values[:, modelled[own_gene]].toarray(), dtype=np.float64)
    plain, contrasts = np.split(factors.loadings.astype(np.float64), [factors.n_factors - factors.n_contrasts], axis=1)
    few, loadings = _most_telling(values, plain, config.scored_genes) if is_counts else (values, plain)
    parts = []
    for some in in_pieces(values.shape[0], at_once=config.most_spots):
        dense = few[some].toarray()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Maximum number of iterations")
            part, _, _ = non_negative_factorization(
                dense,
                H=np.ascontiguousarray(loadings.T.astype(dense.dtype)),
                n_components=loadings.shape[1],
                update_H=False,
                max_iter=config.iterations,
                **_divergence(is_counts),
            )
        parts.append(np.column_stack([part, _contrast_values(values[some], part, plain, contrasts, config.faint)]))
    return np.concatenate(parts).astype(np.float64)


def _most_telling(
    values: sparse.csr_array, loadings: NDArray[np.float64], most: int
) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Keep the genes that distinguish factors most, and sum up all others: a sum of Poisson counts is Poisson, too.

    A gene distinguishes factors by its counts times the squared relative differences of its loadings: its part in the
    Fisher information about what a spot is made of.
    """
    if len(loadings) <= most:
        return values, loadings
    usual = loadings.mean(axis=1)
    apart = np.square(loadings / np.maximum(usual, 1e-12)[:, None] - 1).mean(axis=1)
    telling = np.asarray(values.sum(axis=0)).ravel() * apart
    kept = np.sort(np.argsort(-telling, kind="stable")[: most - 1])
    rest = np.setdiff1d(np.arange(len(loadings)), kept)
    summed = sparse.csr_array(np.asarray(values[:, rest].sum(axis=1), dtype=values.dtype).reshape(-1, 1))
    few = sparse.hstack([values[:, kept], summed], format="csr")
    return few, np.vstack([loadings[kept], loadings[rest].sum(axis=0)])


def _contrast_values(
    values: sparse.csr_array,
    part: NDArray[np.float64],
    plain: NDArray[np.float64],
    contrasts: NDArray[np.float64],
    faint: float,
) -> NDArray[np.float64]:
    """(n, R) values of contrasts in what the other factors leave over, each gene weighted by its noise of counting."""
    usual = plain @ part.mean(axis=0)
    weighted = contrasts / (usual + faint)[:, None]
    return np.asarray(
        (values @ weighted - part @ (plain.T @ weighted)) / np.sqrt((contrasts * weighted).sum(axis=0).clip(1e-12))
    )


def _divergence(is_counts: bool) -> dict[str, str]:
    return {"solver": "mu", "beta_loss": "kullback-leibler" if is_counts else "frobenius"}
