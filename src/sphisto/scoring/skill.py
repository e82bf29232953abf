"""Skill of each gene at left-out spots, and the scatter of its counts there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.pieces import in_pieces
from sphisto.field.field import Field
from sphisto.genes.model import GeneModel, rates
from sphisto.scoring import metrics
from sphisto.slide.slide import Slide


@dataclass(frozen=True, eq=False)
class Skill:
    """Estimates by leaving out one spot at a time, from the prior: the network adds detail within spots, not skill."""

    # (G,) correlation of log-normalised predictions and measurements at left-out spots, tempered by how far the
    # predictions spread
    pearson: NDArray[np.float64]
    # (G,) share of the Poisson deviance of a constant map which left-out predictions explain
    deviance_explained: NDArray[np.float64]
    # (G,) variance of a spot's true rate that neither spots nor image foresee, over the squared rate; 0 if unknown. Not
    # below what is uncertain about a gene's level by the number of its counts
    dispersion: NDArray[np.float64]

    def unknown(self) -> Skill:
        """Return what is known of a slide without spots: that of sections with spots of their own would promise too much."""
        nothing = np.full(len(self.pearson), np.nan)
        return replace(self, pearson=nothing, deviance_explained=nothing.copy())

    def over(self, own: Skill, genes: NDArray[np.intp]) -> Skill:
        """Return what is known in another section: what is its ``own`` of the ``genes`` (n,), by their rows, and nothing of others."""
        out = {name: values.copy() for name, values in vars(self.unknown()).items()}
        for name, values in vars(own).items():
            out[name][genes] = values
        return Skill(**out)


def unknown_skill(n_genes: int) -> Skill:
    """Make the skill of a projection that cannot be left out: a network of single genes, or values that are no counts."""
    nothing = np.full(n_genes, np.nan)
    return Skill(nothing, nothing.copy(), np.zeros(n_genes))


def left_out_skill(field: Field, model: GeneModel, slide: Slide, *, least: int = 10, at_once: int = 2**22) -> Skill:
    """Estimate each gene's skill from the spots that a field was fitted to; of fewer than ``least`` only the scatter.

    Tables of ``at_once`` numbers are in memory together, of some genes at all these spots.
    """
    at_most, genes = min(field.config.left_out, len(field.observations)), np.arange(len(model.genes))
    pieces = [genes[some] for some in in_pieces(len(genes), at_most, at_once=at_once)]
    rows, density, _ = field.leave_one_out(model.at(pieces[0]))
    spots, of_row = field.observations.spots_of(rows)
    gather = sparse.csr_array((np.ones(len(spots)), (of_row, np.arange(len(spots)))), shape=(len(rows), len(spots)))
    share = gather @ slide.footprint().select(spots).mean(slide.tissue)  # areas of a spot that each measured
    counts = (gather @ slide.spots.values[spots]).tocsc()
    used, _ = field.observations.spots_of(np.arange(len(field.observations)))
    every = np.asarray(slide.spots.values[used].sum(axis=0), dtype=np.float64).ravel()

    def predicted(some: NDArray[np.intp]) -> NDArray[np.float64]:
        return rates(density, model.loadings[some].astype(np.float64), model.n_contrasts) * share

    totals = np.sum([predicted(some).sum(axis=1) for some in pieces], axis=0), counts.sum(axis=1)
    found = [
        _of_genes(
            predicted(some), counts[:, some].toarray(), totals, share, field.leave_one_out(model.at(some)).variance
        )
        for some in pieces
    ]
    pearson, explained, beyond, weight = (np.concatenate(values) for values in zip(*found, strict=True))
    # of so many counts the level is known to their root: the least that a map of such a gene is off
    skill = Skill(pearson, explained, np.maximum(_dispersion(beyond, weight), 1 / (1 + every)))
    return skill if len(rows) >= least else skill.unknown()


def _of_genes(
    predicted: NDArray[np.float64],
    counts: NDArray[np.float64],
    totals: tuple[NDArray[np.float64], NDArray[np.float64]],
    share: NDArray[np.float64],
    variance: NDArray[np.floating],
) -> tuple[NDArray[np.float64], ...]:
    """(g,) correlation, deviance explained, and scatter with its weight, of (m, g) counts that were predicted.

    With the (m,) totals of all genes, predicted and measured, and the (m, 1) areas of a spot.
    """
    expected, measured = (
        metrics.expected_log_normalised(predicted, totals[0]),
        metrics.log_normalised(counts, totals[1]),
    )
    flat = counts.mean(axis=0) / share.mean() * share
    return (
        _tempered_pearson(expected, measured),
        metrics.deviance_explained(predicted, counts, flat),
        *_scatter(predicted, variance * share**2, counts),
    )


def _tempered_pearson(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Geometric mean of two estimates of the correlation of (n, G) predictions with measurements, where it is positive.

    The correlation that is found holds the noise of the few spots it is found from. That of a calibrated prediction is
    the ratio of its spread to that of the measurements, which is far less noisy, but takes calibration for granted.
    """
    found = metrics.pearson(predicted, measured)
    spread = measured.std(axis=0)
    ratio = np.divide(predicted.std(axis=0), spread, where=spread > 0, out=np.zeros_like(spread))
    return np.where(found > 0, np.sqrt(np.maximum(found, 0) * np.minimum(ratio, 1)), found)


def _scatter(
    predicted: NDArray[np.float64], variance: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scatter of (n, g) counts beyond that of counting and of the field, by moments; and squares of what was expected."""
    beyond = np.square(counts - predicted) - predicted - variance
    return beyond.sum(axis=0), np.square(predicted).sum(axis=0)


def _dispersion(
    beyond: NDArray[np.float64], weight: NDArray[np.float64], *, firm: float = 10.0, most: float = 10.0
) -> NDArray[np.float64]:
    """Scatter of genes over their squared expectation; genes of few counts are drawn to the usual one.

    At a weight of ``firm`` squared expected counts, summed over spots, a gene's own scatter counts as much as the usual one.
    """
    usual = max(float(np.median(beyond[weight > firm] / weight[weight > firm])), 0.0) if (weight > firm).any() else 0
    return np.clip((beyond + firm * usual) / (weight + firm), 0, most)
