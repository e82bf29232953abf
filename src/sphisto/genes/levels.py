"""One gene model for several sections: shared loadings, and each section's own level of each gene.

Sections differ in depth, and gene by gene in how well a gene was measured. Both are one number for each section and gene,
which multiplies its loadings; what is left to the factors is what the tissue is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sphisto.genes.config import GeneModelConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SharedModel:
    """Loadings that sections share, and the level of each gene in each section.

    Parameters
    ----------
    shared
        The gene model of a section of usual levels.
    levels
        (c, G) logarithm of each gene's level in each section over the usual one, the section's depth included.
    """

    shared: GeneModel
    levels: Floats

    def of(self, section: int) -> GeneModel:
        """Return the model of one section: factors are densities at the usual depth, comparable between sections."""
        return at_levels(self.shared, self.levels[section])


def at_levels(model: GeneModel, levels: Floats) -> GeneModel:
    """Return a model whose genes have (G,) other levels, as logarithms."""
    return replace(model, loadings=model.loadings * np.exp(levels)[:, None].astype(np.float32))


def fit_shared(
    measured: Sequence[Measured], kept: Sequence[NDArray[np.bool_]], config: GeneModelConfig, seed: int
) -> SharedModel:
    """Find loadings that c sections share, and their levels, from the ``kept`` (n,) spots of each.

    Parameters
    ----------
    measured
        Counts of each section, of the same genes in the same order.
    kept
        Spots of each that may be used; none of a section whose spots are to be predicted: its levels are the usual ones.
    config
        Of the gene model.
    seed
        Of everything random.
    """
    chosen = [np.flatnonzero(each) for each in kept]
    totals = np.stack([_total(each, rows) for each, rows in zip(measured, chosen, strict=True)])
    levels = _levels(totals, np.array([len(rows) for rows in chosen]), config.firm)
    rng, most = np.random.default_rng(seed), max(config.most_spots // len(measured), 1)
    values, centers = [], []
    for number, (each, rows) in enumerate(zip(measured, chosen, strict=True)):
        some = rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
        brought = each.values[some] @ sparse.diags_array(np.exp(-levels[number]))
        values.append(sparse.csr_array(brought, dtype=np.float32))
        # in pitches, and each section beside the others: neighbours are summed up within sections alone
        centers.append(each.centers[some] / each.pitch + (0.0, number * _FAR))
    every = Measured(
        np.concatenate(centers), sparse.vstack(values, format="csr"), measured[0].genes, measured[0].is_counts, 1.0
    )
    return SharedModel(fit_factors(every, np.ones(len(every.centers), dtype=bool), config, seed), levels)


_FAR = 1e6  # pitches between sections


def levels_of(model: GeneModel, counts: Floats, expected: Floats, config: GeneModelConfig) -> Floats:
    """(G,) levels of genes in a section that was not among those a model is of.

    Parameters
    ----------
    model
        Shared by the others.
    counts
        (G,) sums over the section's spots.
    expected
        (G,) of that under usual levels.
    config
        How firmly a level is held to that of all genes.
    """
    depth = counts.sum() / max(float(expected.sum()), 1e-12)
    share = np.log((counts + config.firm) / (expected * depth + config.firm))
    return np.where(np.isnan(model.loadings[:, 0]), 0.0, share + np.log(max(depth, 1e-12)))


def _total(measured: Measured, rows: NDArray[np.int64]) -> Floats:
    return np.asarray(measured.values[rows].sum(axis=0), dtype=np.float64).ravel()


def _levels(totals: Floats, n_spots: NDArray[np.int64], firm: float) -> Floats:
    """(c, G) levels of (c, G) sums of counts: depth over the usual depth, and share of a gene over its usual share.

    The ratio of shares is drawn to one by so many ``firm`` counts: that of a rare gene would be noise.
    """
    sums, known = totals.sum(axis=1), n_spots > 0
    usual = totals.sum(axis=0) / max(totals.sum(), 1e-12)
    depth = np.divide(sums, n_spots, where=known, out=np.ones(len(sums)))
    depth[~known] = depth[known].mean()
    share = np.log((totals + firm) / (sums[:, None] * usual + firm))
    share -= np.log(np.exp(share) @ usual)[:, None]  # of all genes together: the depth alone
    return np.asarray(share + np.log(depth / depth[known].mean())[:, None])
