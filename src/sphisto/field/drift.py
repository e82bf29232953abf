"""What other sections tell about a place from its features: a drift, to which kriging adds what a section's own spots say.

Roots of factor densities, as far as they differ from each section's mean, are regressed on functions of features (ridge
regression, the same as kriging with a covariance by likeness).

Kriging with external drift: Cressie (1993), Statistics for Spatial Data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sphisto.core.splits import evenly_spread
from sphisto.features.shared import BoundFeatures
from sphisto.field.neighbours import Neighbours, upon
from sphisto.field.regression import Regression
from sphisto.field.roots import Roots, composition_errors, gain_of
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import Observations
from sphisto.slide.frames import GridInFrame

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Drift:
    """What other sections tell about one."""

    regression: Regression  # by the others
    features: BoundFeatures  # of the section
    # the section where it lies upon others; None if it does not, or that is not to be used
    placed: GridInFrame | None = None
    refuted: bool = False  # whether that is not used because the section's own spots speak against it

    @property
    def roots(self) -> Roots:
        """From densities to what drifts."""
        return self.regression.roots

    def at_spots(self, centers: NDArray[np.float64]) -> Floats:
        """(n, K + 1) what quantities differ from their mean over spots around (n, 2) centres."""
        return self.of(self.features.at_spots(centers), centers)

    def at(self, points: NDArray[np.float64]) -> Floats:
        """(m, K + 1) what quantities differ from their mean at (m, 2) points."""
        return self.of(self.features.at(points), points)

    def variance(self, points: NDArray[np.float64]) -> Floats:
        """(m, Q) variance of the components at (m, 2) points, without noise of counting; greater where all is strange."""
        most_shift = 10.0  # times that a deviation grows at most where features are like none that are known
        least_left = 0.1  # of the squared errors is no noise of counting, at least
        fit, shared = self.regression.fit, self.features.shared
        components = self.features.at(points)
        functions = shared.functions(components)
        unseen = np.maximum(shared.variance(components) - np.square(functions).sum(axis=1), 0)
        out = fit.firm + np.zeros((len(points), 1))
        for scale, spread in zip(fit.scales, fit.spreads, strict=True):
            here = unseen + np.einsum("mt,mt->m", functions @ spread, functions)
            out += here[:, None] * scale
        strange = np.clip(self.features.shift(points), 1, most_shift)
        return np.asarray(np.maximum(out, least_left * fit.left) * np.square(strange)[:, None])

    def gain(self) -> Floats:
        """(K + 1,) factors that make squares of roots right on average: a square of a mean is less than a mean of squares."""
        left = np.square(self.regression.rotation).T @ self.regression.fit.left
        n = self.roots.n_plain + 1
        second = self.regression.second[:n]
        return gain_of(second, second - left[:n])

    def alone(self, change: Floats | float = 0.0) -> Drifted:
        """Return what the drift says without any spot, or with some that ``change`` (K + 1,) the mean."""
        return Drifted(self, self.regression.mean + change)

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """What sections that lie upon this one measured; ``None`` if there are none."""
        if self.placed is None:
            return None
        sections = upon(self.placed.frame, self.regression.neighbours, self.regression.config)
        if not sections:
            return None
        rest = [each.components - self._by_features(each.features) for each in sections]
        return Neighbours(self.placed.frame, sections, rest, self.regression.config)

    @property
    def uses_neighbours(self) -> bool | None:
        """Whether what sections that lie upon this one measured is used place by place; ``None`` if none do."""
        if self.refuted:
            return False
        return None if self.neighbours is None else True

    def of(self, components: Floats, points: NDArray[np.float64]) -> Floats:
        """(m, K + 1) what quantities differ from their mean at (m, 2) points whose features are (m, q) components."""
        found = self._by_features(components)
        if self.placed is not None and self.neighbours is not None:
            found = found + self.neighbours.at(self.placed.common(points))
        return np.asarray(found @ self.regression.rotation)

    def _by_features(self, components: Floats) -> Floats:
        return self.features.shared.applied(np.asarray(components, dtype=np.float64), self.regression.fit.coefficients)


@dataclass(frozen=True, eq=False)
class Drifted:
    """Densities by the drift alone: a solution as of :class:`sphisto.field.posterior.Solution`."""

    drift: Drift
    mean: Floats  # (K + 1,) mean of the quantities in this section

    def density(self, points: NDArray[np.float64]) -> Floats:
        """(m, K) densities at (m, 2) points."""
        return self.drift.roots.density(self.mean + self.drift.at(points), self.drift.gain())

    def rate_variance(self, points: NDArray[np.float64], density: Floats, model: GeneModel) -> Floats:
        """(m, G) variance of the genes' rates at points where the densities are (m, K)."""
        regression = self.drift.regression
        return regression.roots.rate_variance(
            density, self.drift.variance(points), regression.rotation, self.drift.gain(), model.loadings
        )


@dataclass(frozen=True, eq=False)
class DriftSolver:
    """Few spots of a section: its drift, with a mean to which they contribute."""

    drift: Drift  # by other sections
    centers: NDArray[np.float64]  # (n, 2) centres (y, x) of the spots in px
    rest: Floats  # (n, K + 1) what the spots measured beyond drift and mean

    uses_features = True

    def given(self, hidden: NDArray[np.int64], window: object | None = None) -> Drifted:
        """Condition on all but the ``hidden`` (h,) observations."""
        return self.drift.alone(self._change(np.delete(self.rest, hidden, axis=0)))

    def leave_one_out(self, most: int, model: GeneModel) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Predict observations from all others: which (m,), (m, K) density, (m, G) variance of the genes' rates."""
        some = evenly_spread(len(self.rest), most)
        points, roots, gain = self.centers[some], self.drift.roots, self.drift.gain()
        drifts = self.drift.regression.mean + self.drift.at_spots(points)
        changes = np.stack([self._change(np.delete(self.rest, row, axis=0)) for row in some])
        density = roots.density(drifts + changes, gain)
        variance = self.drift.alone().rate_variance(points, density, model)
        return some, density, variance

    def _change(self, rest: Floats) -> Floats:
        return np.asarray(rest.sum(axis=0) / (len(rest) + self.drift.regression.config.pseudo_spots))


def checked(drift: Drift, observations: Observations) -> Drift:
    """Leave out what sections that lie upon this one measured, if without it its own spots are predicted better beyond chance."""
    least_checked = 5  # spots, by which a registration is judged
    if drift.neighbours is None or len(observations) < least_checked:
        return drift
    alone = replace(drift, placed=None, refuted=True)
    quantities = drift.roots.quantities(observations.density)
    errors = []
    for each in (drift, alone):
        found = each.at_spots(observations.centers)
        density = drift.roots.density(found + (quantities - found).mean(axis=0), drift.gain())
        errors.append(composition_errors(density, observations.density, drift.roots.n_plain))
    harm = errors[0] - errors[1]
    return alone if harm.mean() > harm.std() / np.sqrt(len(harm)) else drift


def few_spots(drift: Drift, observations: Observations) -> DriftSolver:
    """Let a few spots change the mean of what drifts."""
    rest = drift.roots.quantities(observations.density) - drift.regression.mean - drift.at_spots(observations.centers)
    return DriftSolver(drift, observations.centers, rest)
