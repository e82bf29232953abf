"""Co-kriging of factor densities, as square roots, in position and features of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sphisto.core.grid import SAME_SCALE
from sphisto.core.splits import evenly_spread
from sphisto.core.tiles import Window
from sphisto.features.maps import FeatureMaps, SectionFeatures, principal_components
from sphisto.features.shared import BoundFeatures
from sphisto.field.config import FieldConfig
from sphisto.field.detail import Detail, choose_slope
from sphisto.field.drift import Drift
from sphisto.field.equations import Equations, solve
from sphisto.field.kriging import Kriged, Kriging, choose_covariance, fit_kriging
from sphisto.field.roots import ANSCOMBE, Roots, composition_error, composition_errors, gain_of
from sphisto.field.rotation import inverse_of, rotation_of
from sphisto.field.windows import around
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import Observations

Floats = NDArray[np.floating]
Components = FeatureMaps | BoundFeatures  # principal components: of the section alone, or those that several share


@dataclass(frozen=True, eq=False)
class CoKriging:
    """Co-kriged roots of densities and of their sum, fitted to n observations."""

    roots: Roots  # from densities to what is kriged
    kriging: Kriging  # of the quantities
    features: Components | None  # of the section, as they enter the covariance; None where they are not used
    # gain_seen, gain_hidden: factors that make roots and root of the sum right on average, at spots that are known and
    # where none is near: a square of a mean is less than the mean of squares, the more so the less is known
    gain_seen: NDArray[np.float64]
    gain_hidden: NDArray[np.float64]
    detail: Detail | None = None  # how the total varies within spots; None where the stain does not help
    # (n, K + 1) part of the quantities at the observations that is not kriged: what other sections tell, and what of
    # the total follows the stain
    trend: Floats | None = None
    drift: Drift | None = None  # what other sections tell; None of a section alone
    slope: float = 0.0  # share of it that is used

    @property
    def uses_features(self) -> bool:
        """Whether features of the image enter."""
        return self.kriging.covariance.uses_features or self.drift is not None

    def given(self, hidden: NDArray[np.int64], window: Window | None = None) -> CoKriged:
        """Condition on all but the ``hidden`` (h,) observations."""
        windows = None
        if window is not None:
            covariance = self.kriging.covariance
            low, high = np.array([window.y0, window.x0]), np.array([window.y1, window.x1])
            windows = around(low, high, self.kriging.places, covariance.pitch, covariance.config)
        kriged = self.kriging.given(hidden, windows)
        return CoKriged(self.roots, kriged, self.features, self.gain_seen, self.gain_hidden, self.drift, self.slope)

    def leave_one_out(self, most: int, model: GeneModel) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Predict observations from all others: which (m,), (m, K) density, (m, G) variance of the genes' rates."""
        kriging = self.kriging
        some = evenly_spread(len(kriging.rows), most)
        density, variance = self.left_out_density()[some], kriging.left_out_variance[some]
        variance = self.roots.rate_variance(density, variance, kriging.model.rotation, self.gain_hidden, model.loadings)
        return kriging.rows[some], density, variance

    def left_out_density(self) -> NDArray[np.float64]:
        """(s, K) density of each observation that was solved for, predicted from all the others."""
        found = self.kriging.left_out
        if self.trend is not None:
            found = found + self.trend[self.kriging.rows]
        return self.roots.density(found, self.gain_hidden)


@dataclass(frozen=True, eq=False)
class CoKriged:
    """Co-kriged densities given the observations that are known; parameters as in :class:`CoKriging`."""

    roots: Roots
    kriged: Kriged
    features: Components | None
    gain_seen: NDArray[np.float64]
    gain_hidden: NDArray[np.float64]
    drift: Drift | None = None
    slope: float = 0.0

    def density(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m, K) densities at (m, 2) points."""
        close = self.kriged.closeness(points)[:, None]
        gain = self.gain_hidden + (self.gain_seen - self.gain_hidden) * close
        features = self._features_at(points)
        found = self.kriged.at(points, features)
        if self.drift is not None and self.slope > 0:
            found += self.slope * (self.drift.at(points) if self.features is None else self.drift.of(features, points))
        return self.roots.density(found, gain)

    def rate_variance(self, points: NDArray[np.float64], density: Floats, model: GeneModel) -> NDArray[np.float64]:
        """(m, G) variance of the genes' rates at points where the densities are (m, K)."""
        variance = self.kriged.variance(points, self._features_at(points))
        rotation = self.kriged.model.rotation
        return self.roots.rate_variance(density, variance, rotation, self.gain_hidden, model.loadings)

    def _features_at(self, points: NDArray[np.float64]) -> Floats:
        if self.features is None:
            return np.zeros((len(points), self.kriged.kriging.features.shape[1]), dtype=np.float32)
        return self.features.at(points)


def fit_cokriging(
    observations: Observations, features: SectionFeatures | None, config: FieldConfig, drift: Drift | None = None
) -> CoKriging:
    """Fit co-kriging to observations, brought to a common sum if that predicts left-out spots better.

    With a ``drift`` from other sections, what it leaves is kriged, unless left-out spots show beyond chance that less of it
    predicts them better; where none of it does, the section is kriged as one alone. Equations are solved once, for all
    that is tried: it is all linear in the same columns.
    """
    components, at_spots = _components(observations, features, config, drift)
    tried_roots = _roots(observations, config) if drift is None else [drift.roots]
    quantities = [roots.quantities(observations.density) for roots in tried_roots]
    drifts = quantities[0][:, :0] if drift is None else drift.at_spots(observations.centers)
    stain = _stain(observations, features, config)
    columns = np.hstack([*quantities, drifts, stain])
    columns -= columns.mean(axis=0)
    *pick, pick_drift, pick_stain = np.split(
        np.eye(columns.shape[1]), np.cumsum([each.shape[1] for each in (*quantities, drifts)]), axis=1
    )
    slopes = (0.0,) if drift is None else tuple(sorted(drift.regression.config.slopes))
    first = columns @ (pick[0] - slopes[-1] * pick_drift if drift else pick[0])
    rotation = rotation_of(first, 1 + observations.n_contrasts) if drift is None else drift.regression.rotation
    covariance = choose_covariance(
        observations.places,
        at_spots,
        first @ inverse_of(rotation),
        np.square(rotation).sum(axis=1),
        observations.pitch,
        config,
    )
    equations = solve(observations.places, at_spots, covariance, columns, config)
    kept = components if covariance.uses_features else None
    tried = [
        _cokriging(
            observations, roots, each, mixing - slope * pick_drift if drift else mixing, equations, kept, config,
            trend=slope * drifts if drift else None, drift=drift, slope=slope,
        )
        for roots, each, mixing in zip(tried_roots, quantities, pick, strict=True)
        for slope in slopes
    ]  # fmt: skip
    best = _best(tried, observations) if drift is None else _most_drift(tried, observations)
    if drift is not None and best.slope == 0:
        return replace(fit_cokriging(observations, features, config), drift=drift)
    at = tried_roots.index(best.roots)
    return _detailed(
        best, quantities[at], pick[at], pick_drift, pick_stain, drifts, observations, features, equations, config
    )


def _components(
    observations: Observations, features: SectionFeatures | None, config: FieldConfig, drift: Drift | None
) -> tuple[Components | None, Floats]:
    """Features as they enter the covariance, and (n, p) of them at the observations: with a drift those that it follows.

    So what a section's own spots say corrects the drift where places look alike, too.
    """
    if drift is not None and config.use_features:
        return drift.features, drift.features.at_spots(observations.centers)
    if features is None or not config.use_features:
        return None, np.zeros((len(observations), 1))
    return principal_components(features.maps.over(observations.area), observations.centers)


def _roots(observations: Observations, config: FieldConfig) -> list[Roots]:
    """Ways to take roots: as densities are, or brought to a common sum if there are enough counts."""
    mean, n_contrasts = observations.density.mean(axis=0), observations.n_contrasts
    total = float(mean[: len(mean) - n_contrasts].sum())
    is_deep = observations.halves is not None and total * observations.area >= config.least_sum
    offset = ANSCOMBE / observations.area
    return [Roots(mean, n_contrasts, level, offset) for level in ([None, total] if is_deep else [None])]


def _best(tried: list[CoKriging], observations: Observations) -> CoKriging:
    """That which predicts the composition of left-out spots best."""

    def error(each: CoKriging) -> float:
        measured = observations.density[each.kriging.rows]
        return composition_error(each.left_out_density(), measured, each.roots.n_plain)

    return min(tried, key=error)


def _most_drift(tried: list[CoKriging], observations: Observations) -> CoKriging:
    """That with the most drift, unless another predicts left-out spots better beyond the standard error over spots."""
    measured = observations.density[tried[-1].kriging.rows]
    errors = [composition_errors(each.left_out_density(), measured, each.roots.n_plain) for each in tried]
    best = min(range(len(tried)), key=lambda i: float(errors[i].sum()))
    gain = errors[-1] - errors[best]
    return tried[best] if gain.mean() > gain.std() / np.sqrt(len(gain)) else tried[-1]


def _stain(observations: Observations, features: SectionFeatures | None, config: FieldConfig) -> Floats:
    """(n, 2) stain at the observations, or none where it is not to be used or cannot be."""
    unused = np.zeros((len(observations), 0))
    if features is None or not (config.use_features and config.use_stain):
        return unused
    largest = config.stain_um_per_px * (1 + SAME_SCALE)  # 2.5 of whole blocks of pixels may be 2.52
    if features.slide.grid.um_per_px > largest or features.stain is None:
        return unused
    return observations.of_spots(features.stain.at_spots)


def _detailed(
    fitted: CoKriging,
    quantities: Floats,
    mixing: Floats,
    pick_drift: Floats,
    pick_stain: Floats,
    drifts: Floats,
    observations: Observations,
    features: SectionFeatures | None,
    equations: Equations,
    config: FieldConfig,
) -> CoKriging:
    """Let the total follow the stain of single pixels, if that predicts left-out totals better.

    ``mixing`` and the other picks are the quantities, the drift and the stain among the equations' columns.
    """
    if pick_stain.shape[1] == 0 or features is None or features.stain is None:
        return fitted
    mixing = mixing - fitted.slope * pick_drift if fitted.drift else mixing
    kriging, n_plain = fitted.kriging, fitted.roots.n_plain
    component = len(kriging.model.slopes) - 1 - fitted.roots.n_contrasts  # the root of the total is kriged by itself
    turn = inverse_of(kriging.model.rotation)
    needed, shares = equations.of(kriging.model.nuggets), kriging.model.shares[:, component]
    slope = choose_slope(needed, mixing @ turn[:, component], pick_stain, shares, config)
    if slope is None:
        return fitted
    maps = features.stain.within_all(observations.spots_of(np.arange(len(observations))))
    detail = Detail(maps, slope * kriging.model.rotation[component, n_plain], n_plain, fitted.roots.offset)
    mixing = mixing.copy()
    mixing[:, n_plain] -= pick_stain @ detail.slope
    trend = np.zeros_like(quantities) if fitted.drift is None else fitted.slope * drifts
    trend[:, n_plain] += observations.of_spots(detail.at_spots)
    return _cokriging(
        observations, fitted.roots, quantities, mixing, equations, fitted.features, config,
        trend=trend, detail=detail, drift=fitted.drift, slope=fitted.slope,
    )  # fmt: skip


def _cokriging(
    observations: Observations,
    roots: Roots,
    quantities: Floats,
    mixing: Floats,
    equations: Equations,
    features: Components | None,
    config: FieldConfig,
    *,
    trend: Floats | None,
    detail: Detail | None = None,
    drift: Drift | None = None,
    slope: float = 0.0,
) -> CoKriging:
    apart = None
    if observations.halves is not None:
        first, second = observations.halves
        apart = roots.quantities(first) - roots.quantities(second)
    rest = quantities if trend is None else quantities - trend
    kriging = fit_kriging(
        equations, mixing, rest.mean(axis=0), config, halves=apart, apart=1 + roots.n_contrasts,
        rotation=None if drift is None else drift.regression.rotation,
    )  # fmt: skip
    some = 0.0 if trend is None else trend[kriging.rows]
    n = roots.n_plain + 1
    measured = quantities[kriging.rows, :n]
    seen, hidden = (_gain(measured, (found + some)[:, :n]) for found in (kriging.at_spots, kriging.left_out))
    return CoKriging(roots, kriging, features, seen, hidden, detail, trend, drift, slope)


def _gain(roots: Floats, predicted: Floats) -> NDArray[np.float64]:
    """(K + 1,) factors by which squares of predictions fall short of squares of the roots."""
    return gain_of(np.square(roots).mean(axis=0), np.square(np.maximum(predicted, 0)).mean(axis=0))
