"""What the log-normalised counts of a region are on average, when only the rates of its genes are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphisto.core.pieces import in_pieces

Floats = NDArray[np.floating]

_MOST_SUMMED = 20.0  # expected counts up to which every possible count is summed
_LITTLE = 0.05  # scatter of rates over their squared mean, up to which the logarithm is taken to second order


def expected_lognorm(mean: Floats, dispersion: Floats, total: Floats, target_sum: float) -> NDArray[np.float32]:
    """Expected value of log1p(target_sum * y / n), y a gene's count in a region and n the count of all genes there.

    A logarithm of the expected count is another number: where a region holds few counts most of them are 0 or 1, and
    the mean of the logarithm is well below the logarithm of the mean.

    Parameters
    ----------
    mean
        (m, G) expected counts y of each gene in each region: y is negative binomial.
    dispersion
        (G,) variance of y beyond that of Poisson, over its squared mean; 0 or NaN: Poisson.
    total
        (m,) expected counts of all genes in each region; those of the other genes are Poisson.
    target_sum
        Counts of all genes to which those of each region are scaled.

    Returns
    -------
    (m, G), 0 where nothing is expected and NaN where that is not known.
    """
    scatter = np.nan_to_num(np.asarray(dispersion, dtype=np.float64))
    relative_rates, weights = _rates(scatter)
    found = np.empty(mean.shape, dtype=np.float32)
    for rows in in_pieces(len(mean), mean.shape[1], at_once=2**17):
        some = np.asarray(mean[rows], dtype=np.float64)
        rest = np.maximum(np.asarray(total[rows], dtype=np.float64)[:, None] - some, 0)
        values = np.where(np.isnan(some), np.nan, 0.0)
        few, many, wide = (some > 0) & (some <= _MOST_SUMMED), some > _MOST_SUMMED, scatter > _LITTLE
        for here, of in ((few, _summed), (many & ~wide, _second_order)):
            columns = np.nonzero(here)[1]
            values[here] = of(some[here], scatter[columns], rest[here], target_sum)
        here = many & wide
        columns = np.nonzero(here)[1]
        for rate, weight in zip(relative_rates, weights, strict=True):
            values[here] += weight * _poisson(some[here] * rate[columns], rest[here], target_sum)
        found[rows] = values
    return found


def _rates(scatter: Floats) -> tuple[Floats, Floats]:
    """(nodes, G) rates over their mean, gamma distributed with a variance each, and their (nodes,) weights."""
    from scipy.special import gammaincinv

    n_nodes = 32  # rates that stand for all that a gene may have, where they scatter more
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    wide = np.maximum(scatter, _LITTLE)
    return wide * gammaincinv(1 / wide, (1 + nodes[:, None]) / 2), weights / 2


def _poisson(mean: Floats, rest: Floats, target_sum: float) -> Floats:
    found, few = np.empty_like(mean), mean <= _MOST_SUMMED
    for here, of in ((few, _summed), (~few, _second_order)):
        found[here] = of(mean[here], np.zeros(int(here.sum())), rest[here], target_sum)
    return found


def _summed(mean: Floats, scatter: Floats, rest: Floats, target_sum: float) -> Floats:
    """Sum over y = 1, 2, ... of its probability times the logarithm, until hardly any probability is left."""
    tail = 1e-6  # probability of greater counts at which the sum ends
    found, at = np.zeros_like(mean), np.arange(len(mean))
    odds = mean / (1 + scatter * mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        probability = np.exp(np.where(scatter > 0, -np.log1p(scatter * mean) / scatter, -mean))  # of y = 0
    left, y = 1 - probability, 0
    while len(at):
        probability = probability * odds * (1 + scatter * y) / (y + 1)
        y += 1
        found[at] += probability * _logarithm(float(y), rest, target_sum)
        left = left - probability
        going = left > tail
        if not going.all():
            at, left = at[going], left[going]
            odds, scatter, rest, probability = odds[going], scatter[going], rest[going], probability[going]
    return found


def _second_order(mean: Floats, scatter: Floats, rest: Floats, target_sum: float) -> Floats:
    variance = mean + scatter * np.square(mean)
    curvature = 1 / np.square(mean + rest) - np.square((1 + target_sum) / (mean + rest + target_sum * mean))
    return _logarithm(mean, rest, target_sum) + variance / 2 * curvature


def _logarithm(y: float | Floats, rest: Floats, target_sum: float) -> Floats:
    """Mean of log1p(target_sum * y / (y + r)) over Poisson r of a mean, to second order."""
    curvature = 1 / np.square(y + rest) - 1 / np.square(y + rest + target_sum * y)
    return np.log1p(target_sum * y / (y + rest)) + rest / 2 * curvature
