"""Scores of predicted counts at spots or bins, and the ceiling that counting noise sets to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphisto.genes.lognorm import expected_lognorm

Floats = NDArray[np.float64]
_TARGET = 1e4  # counts to which those of each row are scaled


def log_normalised(counts: NDArray[np.floating]) -> Floats:
    """Scale each row of (n, G) counts to 10,000 and take log(1 + x), as scanpy does."""
    total = counts.sum(axis=1, keepdims=True)
    return np.log1p(np.divide(counts * _TARGET, total, where=total > 0, out=np.zeros_like(counts, dtype=np.float64)))


def expected_log_normalised(rates: NDArray[np.floating]) -> Floats:
    """Expected :func:`log_normalised` value of Poisson counts with (n, G) rates.

    The logarithm of a mean is not the mean of logarithms: a gene of 0.1 counts is mostly 0 and sometimes
    log(1 + 10,000 / total), which depends on the total. Predicted counts are compared with measured ones by this.
    """
    found = expected_lognorm(rates, np.zeros(rates.shape[1]), rates.sum(axis=1), _TARGET)
    return found.astype(np.float64)  # sums over many spots follow


def pearson(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Pearson correlation of each column of two (n, G) tables; 0 where a prediction is constant.

    NaN where the truth itself is constant: such a gene cannot be scored.
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


def predictive_place(
    counts: NDArray[np.floating], mean: NDArray[np.floating], variance: NDArray[np.floating], rng: np.random.Generator
) -> Floats:
    """Place of (n, G) counts in their predictive distribution, 0 to 1: evenly spread if the prediction is calibrated.

    Counts are Poisson with a rate of the given ``mean`` and ``variance``: negative binomial. As they are whole numbers,
    their place is drawn at random within their probability (randomised probability integral transform; Czado, Gneiting
    and Held 2009, Biometrics): a 90 % interval holds the counts whose place lies within 0.05 and 0.95.
    """
    from scipy.stats import nbinom

    size = np.square(mean) / np.maximum(variance, 1e-9)
    success = size / (size + mean)
    return np.asarray(
        nbinom.cdf(counts - 1, size, success) + rng.random(counts.shape) * nbinom.pmf(counts, size, success)
    )


def noise_ceiling(counts: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Correlation which a perfect predictor of the log-normalised rate would reach with each gene's noisy counts.

    The counts are thinned into two halves, whose correlation determines that of the whole (:func:`ceiling_of_halves`).
    """
    half = rng.binomial(counts.astype(np.int64), 0.5)
    return ceiling_of_halves(log_normalised(half.astype(np.float64)), log_normalised(counts - half))


def ceiling_of_halves(first: NDArray[np.floating], second: NDArray[np.floating]) -> Floats:
    """Correlation which the true rate reaches with the sum of two (n, G) halves of the counts, split at random.

    Spearman and Brown's correction of the halves' correlation r, then the square root for one noisy side:
    sqrt(2 r / (1 + r)). NaN where r is not positive.
    """
    r = pearson(first, second)
    with np.errstate(invalid="ignore"):
        return np.where(r > 0, np.sqrt(2 * r / (1 + r)), np.nan)


def deviance_explained(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], constant: NDArray[np.floating]
) -> Floats:
    """Share of the Poisson deviance of a constant prediction that each column of a (n, G) prediction explains.

    1 is perfect, 0 is as good as the ``constant`` everywhere, below 0 is worse; NaN where the constant is exact. The
    constant is (G,), or (n, G) where rows differ in area.
    """
    flat = poisson_deviance(np.broadcast_to(constant, truth.shape), truth)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flat > 0, 1 - poisson_deviance(predicted, truth) / flat, np.nan)
