"""Scores of several methods on held-out spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.pieces import in_pieces
from sphisto.core.splits import split_counts
from sphisto.scoring import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from scipy import sparse

    from sphisto.field.posterior import VarianceOfPiece
    from sphisto.scoring.at_spots import Prediction

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
OWN = "sphisto"
"""Name of the method that others are compared with."""
PRIOR = "prior"
"""Name of what it is without the network."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of g genes."""

    pearson: dict[str, Floats]  # (g,) correlation over the spots, by method
    explained: dict[str, Floats]  # (g,) share of the deviance that is explained, by method
    deviance: Floats  # (g,) deviance of the constant
    ceiling: Floats  # (g,) noise ceiling of the correlation
    # (g,) share of the counts inside the predictive interval, by method, of those that give one
    coverage: dict[str, Floats]


def score(
    predicted: Mapping[str, Prediction],
    truth: sparse.csr_array,
    constant: Floats,
    scored: NDArray[np.bool_],
    *,
    is_counts: bool,
    rng: np.random.Generator,
    variances: Iterable[VarianceOfPiece] = (),
    at_once: int = 2**22,
) -> Scores:
    """Score predictions by method.

    Parameters
    ----------
    predicted
        Of (m, G) values each.
    truth
        (m, G) values that were measured.
    constant, scored
        (G,) prediction that deviances are held against, and which genes to score; all make up a spot's total.
    is_counts
        Whether values are counts.
    rng
        Splits counts into halves, for the noise ceiling.
    variances
        Pieces of the m spots, each with what turns the rates of the scored genes there into their variance, of sphisto and
        its prior.
    at_once
        Numbers of a table that are in memory together.
    """
    genes, truth = np.flatnonzero(scored), truth.astype(np.float64)
    pieces = [genes[some] for some in in_pieces(len(genes), truth.shape[0], at_once=at_once)]
    if not is_counts:
        parts = [_correlations(predicted, truth[:, some].toarray(), some) for some in pieces]
        return _joined(parts, {})
    halves = split_counts(truth, rng)
    tables = [(table.tocsc(), _sums(table)) for table in (truth, *halves)]
    totals = {name: method.values.sum(axis=1, dtype=np.float64) for name, method in predicted.items()}
    parts = []
    for some in pieces:
        counts = tables[0][0][:, some].toarray()
        normal, *split = (metrics.log_normalised(table[:, some].toarray(), total) for table, total in tables)
        pearson, explained = {}, {}
        for name, method in predicted.items():
            rates = method.values[:, some].astype(np.float64)
            pearson[name] = metrics.pearson(metrics.expected_log_normalised(rates, totals[name]), normal)
            explained[name] = metrics.deviance_explained(rates, counts, constant[some])
        ceiling = np.where(np.isfinite(pearson[OWN]), metrics.ceiling_of_halves(*split), np.nan)
        flat = metrics.poisson_deviance(np.broadcast_to(constant[some], counts.shape), counts)
        parts.append(Scores(pearson, explained, flat, ceiling, {}))
    return _joined(parts, _coverage(predicted, truth, genes, variances))


def _correlations(predicted: Mapping[str, Prediction], truth: Floats, genes: Rows) -> Scores:
    """All that can be said of values that are no counts."""
    unknown = np.full(len(genes), np.nan)
    pearson = {name: metrics.pearson(method.values[:, genes], truth) for name, method in predicted.items()}
    return Scores(pearson, dict.fromkeys(predicted, unknown), unknown, unknown, {})


def _coverage(
    predicted: Mapping[str, Prediction], truth: sparse.csr_array, genes: Rows, variances: Iterable[VarianceOfPiece]
) -> dict[str, Floats]:
    found = {name: np.zeros(len(genes)) for name in (OWN, PRIOR) if name in predicted}
    n_spots = 0
    for rows, variance_of in variances:
        counts = truth[rows][:, genes].toarray()
        for name, sums in found.items():
            rates = predicted[name].values[np.ix_(rows, genes)].astype(np.float64)
            sums += metrics.inside(counts, rates, variance_of(rates)).sum(axis=0)
        n_spots += len(rows)
    return {name: sums / n_spots for name, sums in found.items()} if n_spots else {}


def _joined(parts: Sequence[Scores], coverage: dict[str, Floats]) -> Scores:
    """Scores of all genes from those of some and some."""

    def whole(name: str) -> Any:
        some = [getattr(part, name) for part in parts]
        if isinstance(some[0], dict):
            return {method: np.concatenate([each[method] for each in some]) for method in some[0]}
        return np.concatenate(some)

    return Scores(whole("pearson"), whole("explained"), whole("deviance"), whole("ceiling"), coverage)


def _sums(table: sparse.csr_array) -> Floats:
    return np.asarray(table.sum(axis=1), dtype=np.float64).ravel()


def methods_table(scores: Scores, seconds: Mapping[str, float]) -> pd.DataFrame:
    """Summarise scores over genes, a row for each method."""
    import pandas as pd

    has_ceiling = np.isfinite(scores.ceiling)
    simple = "gaussian" if "gaussian" in scores.pearson else None  # not where a whole section is held out
    rows = {}
    for name, values in scores.pearson.items():
        known = np.isfinite(values)
        better = values[known] > scores.pearson[simple][known] if simple else np.full(int(known.sum()), np.nan)
        rows[name] = {
            "mean_pearson": average(values),
            "median_pearson": float(np.median(values[known])) if known.any() else np.nan,
            "share_of_ceiling": average(values[has_ceiling]) / average(scores.ceiling),
            "deviance_explained": average(scores.explained[name], scores.deviance),
            "better_than_gaussian": np.nan if name == simple else average(better),
            "coverage": average(scores.coverage[name]) if name in scores.coverage else np.nan,
            "seconds": float(seconds[name]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def average(values: NDArray[Any], weights: Floats | None = None) -> float:
    """Average of what is known; NaN if nothing is."""
    known = np.isfinite(values)
    if not known.any():
        return float("nan")
    return float(np.average(values[known], weights=None if weights is None else weights[known]))
