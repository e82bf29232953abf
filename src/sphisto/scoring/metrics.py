"""Scores of predicted counts at spots or bins, and the ceiling that counting noise sets to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.splits import split_counts
from sphisto.genes.lognorm import expected_lognorm

Floats = NDArray[np.float64]
_TARGET = 1e4  # counts to which those of each row are scaled


def log_normalised(counts: NDArray[np.floating], total: Floats | None = None) -> Floats:
    """Scale each row of (n, G) counts to 10,000 and take log(1 + x), as scanpy does.

    Of some genes of many, the (n,) ``total`` is that of all.
    """
    total = (counts.sum(axis=1) if total is None else total)[:, None]
    return np.log1p(np.divide(counts * _TARGET, total, where=total > 0, out=np.zeros_like(counts, dtype=np.float64)))


def expected_log_normalised(rates: NDArray[np.floating], total: Floats | None = None) -> Floats:
    """Expected :func:`log_normalised` value of Poisson counts with (n, G) rates.

    The logarithm of a mean is not the mean of logarithms: a gene of 0.1 counts is mostly 0 and sometimes
    log(1 + 10,000 / total), which depends on the total. Predicted counts are compared with measured ones by this.
    """
    total = rates.sum(axis=1) if total is None else total
    found = expected_lognorm(rates, np.zeros(rates.shape[1]), total, _TARGET)
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


_LEAST_RATE = 1e-6  # counts


def poisson_deviance(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> Floats:
    """Mean Poisson deviance of each column of (n, G) counts; predictions below a millionth of a count are raised to it."""
    rate = np.maximum(predicted, _LEAST_RATE).astype(np.float64)
    ratio = np.divide(truth, rate)
    log_term = np.where(truth > 0, truth * np.log(np.where(ratio > 0, ratio, 1)), 0)
    return np.asarray(2 * (log_term - truth + rate).mean(axis=0))


def inside(
    counts: NDArray[np.floating], mean: NDArray[np.floating], variance: NDArray[np.floating], level: float = 0.9
) -> Floats:
    """How much of each of (n, G) counts lies in the middle ``level`` of its predictive distribution: 0, 1, or a part.

    Counts are Poisson with a rate of the given ``mean`` and ``variance``: negative binomial. They are whole numbers, each
    of which covers its probability; of one on an end of the interval a part lies inside. The mean is ``level`` if the
    prediction is calibrated (non-randomised probability integral transform; Czado, Gneiting and Held 2009, Biometrics).
    """
    from scipy.special import betainc

    mean = np.maximum(mean, 1e-9)
    size = np.square(mean) / np.maximum(variance, 1e-9)
    success = size / (size + mean)
    below, up_to = np.zeros(counts.shape), np.power(success, size)  # of no count, as most are
    some = counts > 0
    count, size, success = counts[some], size[some], success[some]
    below[some], up_to[some] = betainc(size, count, success), betainc(size, count + 1, success)
    low, high = (1 - level) / 2, (1 + level) / 2
    covered = np.clip(up_to, low, high) - np.clip(below, low, high)
    share, middle = up_to - below, (below + up_to) / 2
    whole = (middle > low) & (middle < high)  # of a count without any probability
    return np.divide(covered, share, where=share > 1e-12, out=whole.astype(np.float64))


def noise_ceiling(counts: NDArray[np.floating], rng: np.random.Generator) -> Floats:
    """Correlation which a perfect predictor of the log-normalised rate would reach with each gene's noisy counts.

    The counts are thinned into two halves, whose correlation determines that of the whole (:func:`ceiling_of_halves`).
    """
    return ceiling_of_halves(*(log_normalised(half.toarray()) for half in split_counts(sparse.csr_array(counts), rng)))


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
    constant = np.broadcast_to(constant, truth.shape)
    flat = poisson_deviance(constant, truth)
    # of a gene without counts the deviance of a constant is that of the rate to which it was raised: nothing to explain
    varies = (flat > 0) & ((truth > 0) | (constant > _LEAST_RATE)).any(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, 1 - poisson_deviance(predicted, truth) / flat, np.nan)
