"""Densities as the quantities that are kriged, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphisto.core.pieces import in_pieces

Floats = NDArray[np.floating]

ANSCOMBE = 3 / 8
"""Counts added before roots are taken: roots of few counts alone are no measure of them."""


def gain_of(squares: Floats, predicted: Floats) -> NDArray[np.float64]:
    """Factors by which squares of predicted roots fall short of those of roots, on average: a mean's square is the less."""
    most_gain = 10.0
    return np.asarray(np.clip(squares / np.maximum(predicted, 1e-12), 1, most_gain))


@dataclass(frozen=True, eq=False)
class Roots:
    """Densities as the quantities that are kriged, and back.

    The kriged densities give the composition of the tissue, the kriged sum the amount of RNA: the sum of kriged parts
    would estimate that less well. Contrasts are kriged as they are, each for itself. Where a spot's sum depends more on
    how well it was measured than on its tissue, densities are first brought to a common sum.
    """

    mean: NDArray[np.float64]  # (K,) mean density
    n_contrasts: int  # number of factors, the last ones, that are contrasts
    level: float | None  # sum to which densities are brought; None to leave them as they are
    # that is added to densities before their roots are taken: of observations of several areas of a spot, less
    offset: float = ANSCOMBE

    @property
    def n_plain(self) -> int:
        """Number of factors that are no contrasts."""
        return len(self.mean) - self.n_contrasts

    def quantities(self, density: Floats) -> Floats:
        """(n, K + 1) square roots of densities and of their sum; then contrasts as they are.

        With a ``level``, all but the root of the sum are of densities that are brought to that sum.
        """
        least_depth = 0.05  # of the usual sum; the few counts of a spot are not blown up beyond twentyfold
        plain, contrasts = np.split(density, [self.n_plain], axis=1)
        total = plain.sum(axis=1, keepdims=True)
        if self.level is not None:
            scale = self.level / np.maximum(total, least_depth * self.level)
            plain, contrasts = plain * scale, contrasts * scale
        return np.column_stack([np.sqrt(np.column_stack([plain, total]) + self.offset), contrasts])

    def density(self, quantities: Floats, gain: Floats) -> NDArray[np.float64]:
        """(m, K) densities: proportions of the gained squares of roots, with that of the root of the sum as their sum."""
        least_share = 0.001  # of the mean density: the network multiplies, and nothing comes of zero
        roots, contrasts = np.split(quantities, [self.n_plain + 1], axis=1)
        plain = self.mean[: self.n_plain]
        squares = np.square(np.maximum(roots, 0)) * gain - self.offset
        parts = np.maximum(squares[:, :-1], least_share * plain)
        total = np.maximum(squares[:, -1:], least_share * plain.sum())
        depth = 1.0 if self.level is None else total / self.level
        return np.column_stack([parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12) * total, contrasts * depth])

    def rate_variance(
        self, density: Floats, variance: Floats, rotation: Floats, gain: Floats, loadings: Floats
    ) -> NDArray[np.float64]:
        """(m, G) variance of genes' rates from (m, K) densities and (m, q) variances of the field's components.

        To first order: a density is its share of the sum of gained squares, times the gained square of their sum.
        """
        out = np.empty((len(density), len(loadings)))
        for part in in_pieces(len(density), len(loadings) * len(rotation), at_once=2**20):
            change = self._change_of_rates(density[part], rotation, gain, loadings.astype(np.float64))
            change *= np.sqrt(variance[part])[:, None]
            out[part] = np.square(change, out=change).sum(axis=2)
        return out

    def _change_of_rates(self, density: Floats, rotation: Floats, gain: Floats, loadings: Floats) -> Floats:
        """(m, G, q) change of genes' rates with each component, where densities are (m, K)."""
        k = self.n_plain
        parts, total, signed = np.split(rotation, [k, k + 1], axis=1)
        plain, contrasts = np.split(loadings, [k], axis=1)
        density, contrast = np.split(density, [k], axis=1)
        sums = density.sum(axis=1, keepdims=True)
        depth = np.ones_like(sums) if self.level is None else sums / self.level
        per_root = 2 * np.sqrt((density / depth + self.offset) * gain[:-1]) * depth
        per_sum = 2 * np.sqrt((sums + self.offset) * gain[-1]) * total[:, 0] / sums
        change = (per_root[:, None] * plain) @ parts.T
        change += depth[:, None] * (contrasts @ signed.T)
        change -= (density @ plain.T)[:, :, None] * (per_root @ parts.T / sums - per_sum)[:, None]
        if self.level is not None:  # then contrasts grow with the sum, too
            change += (contrast @ contrasts.T)[:, :, None] * per_sum[:, None]
        return change


def composition_error(predicted: Floats, measured: Floats, n_plain: int) -> float:
    """How far the composition of (n, K) measured densities is from predicted ones, each weighted by its sum.

    Squared differences of the roots of shares, times the sum, are about a quarter of the multinomial deviance.
    """
    return float(composition_errors(predicted, measured, n_plain).sum())


def composition_errors(predicted: Floats, measured: Floats, n_plain: int) -> NDArray[np.float64]:
    """(n,) what :func:`composition_error` sums up."""
    least_rate = 1e-9  # counts; no division by none
    predicted, plain = predicted[:, :n_plain], measured[:, :n_plain]
    total = plain.sum(axis=1)
    roots = np.sqrt(plain / np.maximum(total, least_rate)[:, None])
    distance = np.square(roots - np.sqrt(predicted / predicted.sum(axis=1, keepdims=True))).sum(axis=1)
    return np.asarray(total * distance)
