"""One gene model for several sections: shared loadings, and each section's own level of each gene.

Sections differ in depth, and gene by gene in how well a gene was measured. Both are one number for each section and gene,
which multiplies its loadings; what is left to the factors is what the tissue is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.splits import at_most
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors, refit_factors, scores
from sphisto.genes.loadings import Loadings
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Measured

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SharedModel:
    """Loadings that sections share, and the level of each gene in each section."""

    shared: GeneModel  # the gene model of a section of usual levels
    # (c, G) logarithm of each gene's level in each section over the usual one, the section's depth included
    levels: Floats

    def of(self, section: int) -> GeneModel:
        """Return the model of one section: factors are densities at the usual depth, comparable between sections."""
        return at_levels(self.shared, self.levels[section])


def at_levels(model: GeneModel, levels: Floats) -> GeneModel:
    """Return a model whose genes have (G,) other levels, as logarithms."""
    return replace(model, loadings=model.loadings * np.exp(levels)[:, None].astype(np.float32))


def fit_shared(
    measured: Sequence[Measured],
    kept: Sequence[NDArray[np.bool_]],
    config: GeneModelConfig,
    seed: int,
    given: Loadings | None = None,
    *,
    areas: Sequence[float] | None = None,
) -> SharedModel:
    """Find loadings that c sections share, and their levels, from the ``kept`` (n,) spots of each.

    Levels begin with what tells the sections' sums apart, so that no factor is a section. Then what the sections are made
    of takes its part of that: levels keep what composition does not explain.

    All have the same genes in the same order. A section of which none is kept, as its spots are to be predicted, gets
    the usual levels. ``given`` loadings, at usual levels, take the place of factors. Where spots are of several ``areas``
    (c,), usual levels are those of spots of area 1.
    """
    rng, most = np.random.default_rng(seed), max(config.most_spots // len(measured), 1)
    rows = [np.flatnonzero(each) for each in kept]
    known = (_known(each, some) for each, some in zip(measured, rows, strict=True))  # one in memory after the other
    totals, numbers = map(np.array, zip(*((_total(each), each.shape[0]) for each in known), strict=True))
    area = np.ones(len(measured)) if areas is None else np.asarray(areas, dtype=np.float64)
    depths = _depths(totals, area * numbers) + np.log(area)
    some = [at_most(each, most, rng) for each in rows]
    usual = totals.sum(axis=0) / max(totals.sum(), 1e-12)
    levels = _levels(totals, totals.sum(axis=1, keepdims=True) * usual, usual, depths, config.firm)
    model = fit_factors(_together(measured, some, levels), _all(some), config, seed, given)
    for _ in range(config.level_rounds):
        levels = np.repeat(depths[:, None], len(usual), axis=1)
        for _ in range(config.level_passes):
            levels = _levels(*_expected(model, measured, some, levels, config), usual, depths, config.firm)
        model = refit_factors(model, _together(measured, some, levels), _all(some), config, seed, given)
    return SharedModel(model, levels)


def _all(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    return np.ones(sum(map(len, rows)), dtype=bool)


def _together(measured: Sequence[Measured], rows: Sequence[NDArray[np.int64]], levels: Floats) -> Measured:
    """Counts of some rows of each section, and of those outside a window of it, divided by the levels there."""
    far = 1e6  # pitches between sections
    values, others, centers = [], [], []
    for number, (each, some) in enumerate(zip(measured, rows, strict=True)):
        weights = sparse.diags_array(np.exp(-levels[number]))
        values.append(sparse.csr_array(each.values[some] @ weights, dtype=np.float32))
        if each.others is not None:
            others.append(sparse.csr_array(each.others @ weights, dtype=np.float32))
        # in pitches, and each section beside the others: neighbours are summed up within sections alone
        centers.append(each.centers[some] / each.pitch + (0.0, number * far))
    counts, genes = sparse.vstack(values, format="csr"), measured[0].genes
    outside = sparse.vstack(others, format="csr") if others else None
    return Measured(np.concatenate(centers), counts, genes, measured[0].is_counts, 1.0, outside)


def _expected(
    model: GeneModel,
    measured: Sequence[Measured],
    rows: Sequence[NDArray[np.int64]],
    levels: Floats,
    config: GeneModelConfig,
) -> tuple[Floats, Floats]:
    """(c, G) sums of counts over some rows of each section, and what is expected of them at usual levels."""
    n_plain = model.n_factors - model.n_contrasts
    plain = GeneModel(model.genes, model.loadings[:, :n_plain])
    found, expected = np.zeros_like(levels), np.zeros_like(levels)
    for i, (each, some) in enumerate(zip(measured, rows, strict=True)):
        known = _known(each, some)
        if known.shape[0]:
            weights = scores(at_levels(plain, levels[i]), known, config, is_counts=True)
            found[i], expected[i] = _total(known), plain.loadings.astype(np.float64) @ weights.sum(axis=0)
    return found, expected


def reconciled(shared: SharedModel, own: Floats, expected: Floats, config: GeneModelConfig) -> SharedModel:
    """Take some of what sections differ in composition for differences of levels: the more, the less it explains.

    From (c, K) mean densities of each section: by its ``own`` counts, and as ``expected`` of it by others, NaN where
    nothing is. Levels may happen to change as composition would, and no count tells the one from the other. Where a shift
    of composition leaves most of the levels unexplained, it is likely to be made of them. What of it stays is the square
    root of the share that it explains of the levels' variance, and of the rest a section's part in what is usual.
    """
    n_plain = shared.shared.n_factors - shared.shared.n_contrasts
    plain = np.nan_to_num(shared.shared.loadings[:, :n_plain].astype(np.float64))
    measured = np.flatnonzero(np.isfinite(expected).all(axis=1))
    levels, part = shared.levels.copy(), 1 / max(len(measured), 1)
    for i in measured:
        by_own, by_others = (np.maximum(plain @ each[i, :n_plain], 1e-12) for each in (own, expected))
        unexplained, shift = shared.levels[i], np.log(by_own / by_others)
        weights = by_own * np.exp(unexplained)
        left, whole = _variance(unexplained, weights), _variance(unexplained + shift, weights)
        explained = np.sqrt(max(1 - left / max(whole, 1e-12), 0.0))
        levels[i] += config.level_shift * (1 - part) * (1 - explained) * shift
    return replace(shared, levels=levels)


def _variance(values: Floats, weights: Floats) -> float:
    return float(np.average(np.square(values - np.average(values, weights=weights)), weights=weights))


def levels_of(model: GeneModel, counts: Floats, expected: Floats, config: GeneModelConfig) -> Floats:
    """(G,) levels of genes in a section that was not among those a model is of.

    From (G,) sums of counts over its spots, NaN of genes that it lacks, whose level is that of all others, and what is
    expected of them under usual levels.
    """
    measured = np.isfinite(counts)
    depth = counts[measured].sum() / max(float(expected[measured].sum()), 1e-12)
    share = np.log((np.where(measured, counts, expected * depth) + config.firm) / (expected * depth + config.firm))
    return np.where(np.isnan(model.loadings[:, 0]), 0.0, share + np.log(max(depth, 1e-12)))


def _known(measured: Measured, rows: NDArray[np.int64]) -> sparse.csr_array:
    """Counts of some rows of a section, and of those outside a window of it."""
    own = measured.values[rows]
    return own if measured.others is None else sparse.csr_array(sparse.vstack([own, measured.others], format="csr"))


def _total(values: sparse.csr_array) -> Floats:
    return np.asarray(values.sum(axis=0), dtype=np.float64).ravel()


def _depths(totals: Floats, areas: Floats) -> Floats:
    """(c,) logarithms of a section's counts on the area that was measured over those of the usual section; 0 of one without."""
    known = areas > 0
    depth = np.ones(len(areas))
    depth[known] = totals.sum(axis=1)[known] / areas[known]
    depth[~known] = depth[known].mean()
    return np.asarray(np.log(depth / depth[known].mean()))


def _levels(counts: Floats, expected: Floats, usual: Floats, depths: Floats, firm: float) -> Floats:
    """(c, G) levels of (c, G) sums of counts over expected ones, apart from each section's depth.

    The ratio is drawn to one by so many ``firm`` counts: that of a rare gene would be noise. Of all genes together, by their
    ``usual`` (G,) shares, the level is the section's depth.
    """
    scale = counts.sum(axis=1) / np.maximum(expected.sum(axis=1), 1e-12)
    share = np.log((counts + firm) / (expected * np.where(scale > 0, scale, 1)[:, None] + firm))
    share -= np.log(np.exp(share) @ usual)[:, None]
    return np.asarray(np.where(scale[:, None] > 0, share, 0.0) + depths[:, None])
