"""Co-kriging of factor densities, as square roots, in position and features of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.splits import evenly_spread
from sphisto.features.maps import principal_components
from sphisto.field.detail import Detail, choose_slope
from sphisto.field.equations import solve
from sphisto.field.kriging import Kriged, Kriging, choose_covariance, fit_kriging, turned
from sphisto.field.windows import around

if TYPE_CHECKING:
    from sphisto.core.tiles import Window
    from sphisto.features.maps import FeatureMaps, SectionFeatures
    from sphisto.field.config import FieldConfig
    from sphisto.field.equations import Equations
    from sphisto.genes.model import GeneModel
    from sphisto.genes.observations import Observations

Floats = NDArray[np.floating]

_LEAST_RATE = 1e-9  # counts; no division by none
_MOST_GAIN = 10.0
_ANSCOMBE = 3 / 8  # counts added before roots are taken: roots of few counts alone are no measure of them
_LEAST_DEPTH = 0.05  # of the usual sum; the few counts of a spot are not blown up beyond twentyfold
_AT_ONCE = 2**20  # numbers in memory: points, genes and components
_LEAST_SHARE = 1e-3  # of the mean density: the network multiplies, and nothing comes of zero


@dataclass(frozen=True, eq=False)
class Roots:
    """Densities as the quantities that are kriged, and back.

    The kriged densities give the composition of the tissue, the kriged sum the amount of RNA: the sum of kriged parts
    would estimate that less well. Contrasts are kriged as they are, each for itself. Where a spot's sum depends more on
    how well it was measured than on its tissue, densities are first brought to a common sum.

    Parameters
    ----------
    mean
        (K,) mean density.
    n_contrasts
        Number of factors, the last ones, that are contrasts.
    level
        Sum to which densities are brought; ``None`` to leave them as they are.
    offset
        That is added to densities before their roots are taken.
    """

    mean: NDArray[np.float64]
    n_contrasts: int
    level: float | None
    offset: float = _ANSCOMBE

    @property
    def n_plain(self) -> int:
        """Number of factors that are no contrasts."""
        return len(self.mean) - self.n_contrasts

    def quantities(self, density: Floats) -> Floats:
        """(n, K + 1) square roots of densities and of their sum; then contrasts as they are.

        With a ``level``, all but the root of the sum are of densities that are brought to that sum.
        """
        plain, contrasts = np.split(density, [self.n_plain], axis=1)
        total = plain.sum(axis=1, keepdims=True)
        if self.level is not None:
            scale = self.level / np.maximum(total, _LEAST_DEPTH * self.level)
            plain, contrasts = plain * scale, contrasts * scale
        return np.column_stack([np.sqrt(np.column_stack([plain, total]) + self.offset), contrasts])

    def density(self, quantities: Floats, gain: Floats) -> NDArray[np.float64]:
        """(m, K) densities: proportions of the gained squares of roots, with that of the root of the sum as their sum."""
        roots, contrasts = np.split(quantities, [self.n_plain + 1], axis=1)
        plain = self.mean[: self.n_plain]
        squares = np.square(np.maximum(roots, 0)) * gain - self.offset
        parts = np.maximum(squares[:, :-1], _LEAST_SHARE * plain)
        total = np.maximum(squares[:, -1:], _LEAST_SHARE * plain.sum())
        depth = 1.0 if self.level is None else total / self.level
        return np.column_stack([parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12) * total, contrasts * depth])

    def rate_variance(
        self, density: Floats, variance: Floats, rotation: Floats, gain: Floats, loadings: Floats
    ) -> NDArray[np.float64]:
        """(m, G) variance of genes' rates from (m, K) densities and (m, q) variances of the field's components.

        To first order: a density is its share of the sum of gained squares, times the gained square of their sum.
        """
        out = np.empty((len(density), len(loadings)))
        at_once = max(_AT_ONCE // (len(loadings) * len(rotation)), 1)
        for start in range(0, len(density), at_once):
            part = slice(start, start + at_once)
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


@dataclass(frozen=True, eq=False)
class CoKriging:
    """Co-kriged roots of densities and of their sum, fitted to n observations.

    Parameters
    ----------
    roots
        From densities to what is kriged.
    kriging
        Of the quantities.
    features
        Principal components of the section's features; ``None`` where they are not used.
    gain_seen, gain_hidden
        Factors that make roots and root of the sum right on average, at spots that are known and where none is near: a
        square of a mean is less than the mean of squares, the more so the less is known.
    detail
        How the total varies within spots; ``None`` where the stain does not help.
    trend
        (n,) change of the root of the total at the observations that is not kriged, but follows their stain.
    """

    roots: Roots
    kriging: Kriging
    features: FeatureMaps | None
    gain_seen: NDArray[np.float64]
    gain_hidden: NDArray[np.float64]
    detail: Detail | None = None
    trend: NDArray[np.float64] | None = None

    @property
    def uses_features(self) -> bool:
        """Whether features of the image enter."""
        return self.kriging.covariance.uses_features

    def given(self, hidden: NDArray[np.int64], window: Window | None = None) -> CoKriged:
        """Condition on all but the ``hidden`` (h,) observations."""
        windows = None
        if window is not None:
            covariance = self.kriging.covariance
            low, high = np.array([window.y0, window.x0]), np.array([window.y1, window.x1])
            windows = around(low, high, self.kriging.places, covariance.pitch, covariance.config)
        kriged = self.kriging.given(hidden, windows)
        return CoKriged(self.roots, kriged, self.features, self.gain_seen, self.gain_hidden)

    def leave_one_out(self, most: int, model: GeneModel) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Predict observations from all others: which (m,), (m, K) density, (m, G) variance of the genes' rates."""
        kriging = self.kriging
        some = evenly_spread(len(kriging.rows), most)
        density, variance = self.left_out_density()[some], kriging.left_out_variance[some]
        variance = self.roots.rate_variance(density, variance, kriging.model.rotation, self.gain_hidden, model.loadings)
        return kriging.rows[some], density, variance

    def left_out_density(self) -> NDArray[np.float64]:
        """(s, K) density of each observation that was solved for, predicted from all the others."""
        trend = None if self.trend is None else self.trend[self.kriging.rows]
        return self.roots.density(_with_trend(self.kriging.left_out, self.roots, trend), self.gain_hidden)


@dataclass(frozen=True, eq=False)
class CoKriged:
    """Co-kriged densities given the observations that are known; parameters as in :class:`CoKriging`."""

    roots: Roots
    kriged: Kriged
    features: FeatureMaps | None
    gain_seen: NDArray[np.float64]
    gain_hidden: NDArray[np.float64]

    def density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, K) densities at (m, 2) points."""
        close = self.kriged.closeness(points)[:, None]
        gain = self.gain_hidden + (self.gain_seen - self.gain_hidden) * close
        return self.roots.density(self.kriged.at(points, self._features_at(points)), gain)

    def rate_variance(self, points: NDArray[np.float64], density: Floats, model: GeneModel) -> NDArray[np.float64]:
        """(m, G) variance of the genes' rates at points where the densities are (m, K)."""
        variance = self.kriged.variance(points, self._features_at(points))
        rotation = self.kriged.model.rotation
        return self.roots.rate_variance(density, variance, rotation, self.gain_hidden, model.loadings)

    def _features_at(self, points: NDArray[np.float64]) -> Floats:
        if self.features is None:
            return np.zeros((len(points), self.kriged.kriging.features.shape[1]), dtype=np.float32)
        return self.features.at(points)


def fit_cokriging(observations: Observations, features: SectionFeatures | None, config: FieldConfig) -> CoKriging:
    """Fit co-kriging to observations, brought to a common sum if that predicts left-out spots better.

    Equations are solved once, for all that is tried: it is all linear in the same columns.
    """
    maps, at_spots = None, np.zeros((len(observations), 1))
    if features is not None and config.use_features:
        maps, at_spots = principal_components(features.maps.over(observations.area), observations.centers)
    mean, n_contrasts = observations.density.mean(axis=0), observations.n_contrasts
    total = float(mean[: len(mean) - n_contrasts].sum())
    is_deep = observations.halves is not None and total * observations.area >= config.least_sum
    offset = _ANSCOMBE / observations.area
    roots = [Roots(mean, n_contrasts, level, offset) for level in ([None, total] if is_deep else [None])]
    quantities = [each.quantities(observations.density) for each in roots]
    stain = _stain(observations, features, config)
    columns = np.hstack([*quantities, stain])
    columns -= columns.mean(axis=0)
    first = columns[:, : quantities[0].shape[1]]
    rotation, turn = turned(first, 1 + n_contrasts)
    covariance = choose_covariance(
        observations.places, at_spots, first @ turn, np.square(rotation).sum(axis=1), observations.pitch, config
    )
    equations = solve(observations.places, at_spots, covariance, columns, config)
    kept = maps if covariance.uses_features else None
    pick = np.split(np.eye(columns.shape[1]), np.cumsum([each.shape[1] for each in quantities]), axis=1)
    tried = [
        _cokriging(observations, each, values, mixing, equations, kept, config)
        for each, values, mixing in zip(roots, quantities, pick, strict=False)
    ]
    best = min(range(len(tried)), key=lambda i: _composition_error(tried[i], observations))
    return _detailed(tried[best], quantities[best], pick[best], pick[-1], observations, features, equations, config)


def _stain(observations: Observations, features: SectionFeatures | None, config: FieldConfig) -> Floats:
    """(n, 2) stain at the observations, or none where it is not to be used or cannot be."""
    if features is None or not (config.use_features and config.use_stain) or features.stain is None:
        return np.zeros((len(observations), 0))
    return observations.of_spots(features.stain.at_spots)


def _detailed(
    fitted: CoKriging,
    quantities: Floats,
    mixing: Floats,
    stain: Floats,
    observations: Observations,
    features: SectionFeatures | None,
    equations: Equations,
    config: FieldConfig,
) -> CoKriging:
    """Let the total follow the stain of single pixels, if that predicts left-out totals better.

    ``mixing`` and ``stain`` pick the quantities and the stain from the equations' columns.
    """
    if stain.shape[1] == 0 or features is None or features.stain is None:
        return fitted
    kriging, n_plain = fitted.kriging, fitted.roots.n_plain
    component = len(kriging.model.slopes) - 1 - fitted.roots.n_contrasts  # the root of the total is kriged by itself
    turn = turned(equations.columns @ mixing, 1 + fitted.roots.n_contrasts)[1]
    needed, shares = equations.of(kriging.model.nuggets), kriging.model.shares[:, component]
    slope = choose_slope(needed, mixing @ turn[:, component], stain, shares, config)
    if slope is None:
        return fitted
    maps = features.stain.within_all(observations.spots_of(np.arange(len(observations))))
    detail = Detail(maps, slope * kriging.model.rotation[component, n_plain], n_plain, fitted.roots.offset)
    mixing = mixing.copy()
    mixing[:, n_plain] -= stain @ detail.slope
    return _cokriging(observations, fitted.roots, quantities, mixing, equations, fitted.features, config, detail)


def _with_trend(quantities: Floats, roots: Roots, trend: Floats | None) -> Floats:
    """Add a trend of the root of the total to (n, q) quantities."""
    if trend is None:
        return quantities
    quantities = quantities.copy()
    quantities[:, roots.n_plain] += trend
    return quantities


def _cokriging(
    observations: Observations,
    roots: Roots,
    quantities: Floats,
    mixing: Floats,
    equations: Equations,
    features: FeatureMaps | None,
    config: FieldConfig,
    detail: Detail | None = None,
) -> CoKriging:
    apart, trend = None, None if detail is None else observations.of_spots(detail.at_spots)
    if observations.halves is not None:
        first, second = observations.halves
        apart = roots.quantities(first) - roots.quantities(second)
    rest = quantities if trend is None else _with_trend(quantities, roots, -trend)
    kriging = fit_kriging(equations, mixing, rest.mean(axis=0), config, halves=apart, apart=1 + roots.n_contrasts)
    some = None if trend is None else trend[kriging.rows]
    measured = quantities[kriging.rows, : roots.n_plain + 1]
    seen, hidden = (
        _gain(measured, _with_trend(found, roots, some)[:, : roots.n_plain + 1])
        for found in (kriging.at_spots, kriging.left_out)
    )
    return CoKriging(roots, kriging, features, seen, hidden, detail, trend)


def _gain(roots: Floats, predicted: Floats) -> NDArray[np.float64]:
    """(K + 1,) factors by which squares of predictions fall short of squares of the roots."""
    short = np.square(roots).mean(axis=0) / np.maximum(np.square(np.maximum(predicted, 0)).mean(axis=0), 1e-12)
    return np.asarray(np.clip(short, 1, _MOST_GAIN))


def _composition_error(fitted: CoKriging, observations: Observations) -> float:
    """How far the composition of left-out spots is from what the others predict, each weighted by its sum.

    Squared differences of the roots of shares, times the sum, are about a quarter of the multinomial deviance.
    """
    predicted = fitted.left_out_density()[:, : fitted.roots.n_plain]
    plain = observations.plain[fitted.kriging.rows]
    total = plain.sum(axis=1)
    roots = np.sqrt(plain / np.maximum(total, _LEAST_RATE)[:, None])
    distance = np.square(roots - np.sqrt(predicted / predicted.sum(axis=1, keepdims=True))).sum(axis=1)
    return float(total @ distance)
