"""Scores of predicted counts at spots or bins, and the ceiling that counting noise sets to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MANY = 30.0  # counts from which the logarithm is expanded
_SURELY = 80  # counts that a Poisson variable of mean 30 does not reach


def log_normalised(counts: NDArray[np.floating]) -> Floats:
    """Scale each row of (n, G) counts to 10,000 and take log(1 + x), as scanpy does."""
    total = counts.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(counts * 1e4, total, where=total > 0, out=np.zeros_like(counts, dtype=np.float64)))


def expected_log_normalised(rates: NDArray[np.floating]) -> Floats:
    """Expected :func:`log_normalised` value of Poisson counts with (n, G) rates, each row scaled by its summed rate.

    The logarithm of a mean is not the mean of logarithms: a gene of 0.1 counts is mostly 0 and sometimes
    log(1 + 10,000 / total), which depends on the total. Predicted counts are compared with measured ones by this.
    """
    rates = rates.astype(np.float64)
    total = rates.sum(axis=1, keepdims=True)
    scale = np.divide(1e4, total, where=total > 0, out=np.zeros_like(total))
    few = np.minimum(rates, _MANY)
    share, expected = np.exp(-few), np.zeros_like(rates)
    for count in range(1, _SURELY):
        share *= few / count
        expected += share * np.log1p(count * scale)
    level = rates * scale  # of many counts the logarithm is all but linear: second order
    return np.where(rates > _MANY, np.log1p(level) - scale * level / (2 * np.square(1 + level)), expected)


def pearson(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Pearson correlation of each column of two (n, G) tables; 0 where a prediction is constant.

    NaN where the truth itself is constant: nothing can be said about such a gene.
    """
    a = predicted - predicted.mean(axis=0)
    b = truth - truth.mean(axis=0)
    norm_a, norm_b = np.sqrt((a**2).sum(axis=0)), np.sqrt((b**2).sum(axis=0))
    shared = (a * b).sum(axis=0)
    flat = norm_a <= 1e-12 * (1 + np.abs(predicted).max(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norm_b > 0, np.where(flat, 0.0, shared / (norm_a * norm_b)), np.nan)


def poisson_deviance(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Mean Poisson deviance of each column of (n, G) counts; predictions below a millionth of a count are raised to it."""
    rate = np.maximum(predicted, 1e-6).astype(np.float64)
    ratio = np.divide(truth, rate)
    log_term = np.where(truth > 0, truth * np.log(np.where(ratio > 0, ratio, 1)), 0)
    return np.asarray(2 * (log_term - truth + rate).mean(axis=0))


def noise_ceiling(counts: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Correlation which a perfect predictor of the log-normalised rate would reach with each gene's noisy counts.

    The counts are thinned into two halves; from the correlation r of the halves follows sqrt(2 r / (1 + r)) for the
    whole (Spearman and Brown's correction, then the square root for one noisy side). NaN where r is not positive.
    """
    half = rng.binomial(counts.astype(np.int64), 0.5)
    r = pearson(log_normalised(half.astype(np.float64)), log_normalised(counts - half))
    with np.errstate(invalid="ignore"):
        return np.where(r > 0, np.sqrt(2 * r / (1 + r)), np.nan)
