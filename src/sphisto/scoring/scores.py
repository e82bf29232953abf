"""Scores of several methods on held-out spots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphisto.scoring import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from sphisto.scoring.at_spots import Prediction

Floats = NDArray[np.float64]
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
    truth: Floats,
    constant: Floats,
    scored: NDArray[np.bool_],
    *,
    is_counts: bool,
    rng: np.random.Generator,
    level: float = 0.9,
) -> Scores:
    """Score predictions by method of (m, G) values, for the ``scored`` (G,) genes; all genes make up a spot's total."""
    if not is_counts:
        unknown = np.full(int(scored.sum()), np.nan)
        pearson = {name: metrics.pearson(m.values[:, scored], truth[:, scored]) for name, m in predicted.items()}
        return Scores(pearson, dict.fromkeys(predicted, unknown), unknown, unknown, {})
    normal = metrics.log_normalised(truth)[:, scored]
    ceiling = metrics.noise_ceiling(truth, rng)[scored]
    truth, constant = truth[:, scored], constant[scored]
    pearson, explained, coverage = {}, {}, {}
    for name, method in predicted.items():
        pearson[name] = metrics.pearson(metrics.expected_log_normalised(method.values)[:, scored], normal)
        explained[name] = metrics.deviance_explained(method.values[:, scored], truth, constant)
        if method.variance is not None:
            mean = np.maximum(method.values[:, scored], 1e-9)
            place = metrics.predictive_place(truth, mean, method.variance[:, scored], rng)
            coverage[name] = (np.abs(place - 0.5) < level / 2).mean(axis=0)
    flat = metrics.poisson_deviance(np.broadcast_to(constant, truth.shape), truth)
    return Scores(pearson, explained, flat, np.where(np.isfinite(pearson[OWN]), ceiling, np.nan), coverage)


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
