"""What other sections tell about a place from its features: a drift, to which kriging adds what a section's own spots say.

Roots of factor densities, as far as they differ from each section's mean, are regressed on functions of features (ridge
regression, the same as kriging with a covariance by likeness). Sections are known by sums of products alone, so that one is
left out, or another added, without reading the others. How firmly each component is held to zero is chosen by how well
each section is predicted from all others; with a single one, pieces of it.

Kriging with external drift: Cressie (1993), Statistics for Spatial Data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.splits import evenly_spread
from sphisto.field.kriging import turned
from sphisto.field.neighbours import Neighbour, Neighbours, upon
from sphisto.field.roots import ANSCOMBE, Roots, composition_error, composition_errors

if TYPE_CHECKING:
    from sphisto.core.grid import Grid
    from sphisto.features.config import DriftConfig
    from sphisto.features.shared import BoundFeatures, SharedFeatures
    from sphisto.genes.model import GeneModel
    from sphisto.genes.observations import Observations
    from sphisto.slide.frames import Frame

Floats = NDArray[np.floating]

_PIECES = 4  # of a section, along its longer side
_MOST_GAIN = 10.0
_LEAST_CHECKED = 5  # spots, by which a registration is judged
_LEAST_LEFT = 0.1  # of the squared errors is no noise of counting, at least
_MOST_SHIFT = 10.0  # times that a deviation grows at most where features are like none that are known


@dataclass(frozen=True, eq=False)
class Sums:
    """What one section, or a piece of it, says: n observations as sums of products.

    Parameters
    ----------
    n
        Number of observations.
    moments
        (T, T) of the functions with each other.
    products
        (T, Q) of the functions with the components.
    squares
        (Q,) of the components.
    """

    n: int
    moments: Floats
    products: Floats
    squares: Floats

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n,
            self.moments + other.moments,
            self.products + other.products,
            self.squares + other.squares,
        )

    def errors(self, coefficients: Floats) -> Floats:
        """(Q,) sums of squared errors under (T, Q) coefficients."""
        fitted = np.einsum("tq,tq->q", coefficients, self.moments @ coefficients)
        return np.maximum(self.squares - 2 * np.einsum("tq,tq->q", coefficients, self.products) + fitted, 0)


@dataclass(frozen=True, eq=False)
class Taught:
    """What sections teach about others: arrays alone.

    Parameters
    ----------
    features
        How features of a section become functions.
    roots
        From densities to what is regressed.
    mean
        (K + 1,) mean of these quantities over sections.
    second
        (K + 1,) mean of their squares.
    rotation
        (Q, K + 1) from components to quantities.
    noise
        (Q,) variance of each component by noise of counting.
    sections
        Names of the sections.
    pieces
        Of each section: its sums, as one or several pieces.
    config
        Of the regression.
    neighbours
        Of each section what it measured, where it lies upon others; empty where no section lies upon another.
    """

    features: SharedFeatures
    roots: Roots
    mean: Floats
    second: Floats
    rotation: Floats
    noise: Floats
    sections: tuple[str, ...]
    pieces: tuple[tuple[Sums, ...], ...]
    config: DriftConfig
    neighbours: tuple[Neighbour, ...] = ()

    def without(self, section: str) -> Taught:
        """Leave one section out: what is left teaches it."""
        kept = [i for i, name in enumerate(self.sections) if name != section]
        return replace(
            self,
            sections=tuple(self.sections[i] for i in kept),
            pieces=tuple(self.pieces[i] for i in kept),
            neighbours=tuple(self.neighbours[i] for i in kept) if self.neighbours else (),
        )

    @cached_property
    def lesson(self) -> Lesson:
        """Coefficients that all sections here give."""
        whole = [_added(each) for each in self.pieces]
        every, tried = _added(whole), self.config.ridges
        groups = whole if len(whole) > 1 else list(self.pieces[0])
        errors = np.stack([_left_out(every, groups, ridge) for ridge in tried]) / every.n
        likelihood = -self.config.trust * every.n * np.log(np.maximum(errors, 1e-12))
        weights = np.exp(likelihood - likelihood.max(axis=0))
        weights /= weights.sum(axis=0)
        found = np.stack([_ridge(every, ridge) for ridge in tried])
        eye = np.eye(self.features.n_functions)
        spreads = np.stack([np.linalg.inv(every.moments / ridge + eye) for ridge in tried])
        # of a place that is like those that taught: the variance of a spot, and that of the regression there
        usual = np.array([np.einsum("st,st->", spread, every.moments) for spread in spreads]) / every.n
        scales = weights * errors / (np.array(tried) + usual)[:, None]
        left = np.einsum("rq,rq->q", weights, errors)
        firm = left - self.noise - usual @ scales
        return Lesson(np.einsum("rq,rtq->tq", weights, found), left, firm, scales, spreads)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A regression on functions of features.

    Parameters
    ----------
    coefficients
        (T, Q).
    left
        (Q,) mean squared error at sections that were left out.
    firm
        (Q,) part of it that is neither noise of counting nor the regression's own uncertainty.
    scales
        (r, Q) variance of the regression by each ridge, times its weight.
    spreads
        (r, T, T) covariance of the coefficients by each ridge, in these units.
    """

    coefficients: Floats
    left: Floats
    firm: Floats
    scales: Floats
    spreads: Floats


@dataclass(frozen=True, eq=False)
class GridInFrame:
    """A section's grid where it lies among others.

    Parameters
    ----------
    frame
        Of the section.
    grid
        Over it.
    """

    frame: Frame
    grid: Grid

    def common(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring (m, 2) y, x in px of the grid to um of the common frame."""
        return self.frame.common(self.grid, points)


@dataclass(frozen=True, eq=False)
class Drift:
    """What other sections tell about one.

    Parameters
    ----------
    taught
        By the others.
    features
        Of the section.
    placed
        The section where it lies upon others; ``None`` if it does not, or that is not to be used.
    """

    taught: Taught
    features: BoundFeatures
    placed: GridInFrame | None = None

    @property
    def roots(self) -> Roots:
        """From densities to what drifts."""
        return self.taught.roots

    def at_spots(self, centers: NDArray[np.float64]) -> Floats:
        """(n, K + 1) what quantities differ from their mean over spots around (n, 2) centres."""
        return self._of(self.features.at_spots(centers), centers)

    def at(self, points: NDArray[np.float64]) -> Floats:
        """(m, K + 1) what quantities differ from their mean at (m, 2) points."""
        return self._of(self.features.at(points), points)

    def variance(self, points: NDArray[np.float64]) -> Floats:
        """(m, Q) variance of the components at (m, 2) points, without noise of counting; greater where all is strange."""
        lesson, shared = self.taught.lesson, self.features.shared
        components = self.features.at(points)
        functions = shared.functions(components)
        unseen = np.maximum(shared.variance(components) - np.square(functions).sum(axis=1), 0)
        out = lesson.firm + np.zeros((len(points), 1))
        for scale, spread in zip(lesson.scales, lesson.spreads, strict=True):
            here = unseen + np.einsum("mt,mt->m", functions @ spread, functions)
            out += here[:, None] * scale
        strange = np.clip(self.features.shift(points), 1, _MOST_SHIFT)
        return np.asarray(np.maximum(out, _LEAST_LEFT * lesson.left) * np.square(strange)[:, None])

    def gain(self) -> Floats:
        """(K + 1,) factors that make squares of roots right on average: a square of a mean is less than a mean of squares."""
        left = np.square(self.taught.rotation).T @ self.taught.lesson.left
        n = self.roots.n_plain + 1
        second = self.taught.second[:n]
        return np.asarray(np.clip(second / np.maximum(second - left[:n], 1e-12), 1, _MOST_GAIN))

    def alone(self, change: Floats | float = 0.0) -> Drifted:
        """Return what the drift says without any spot, or with some that ``change`` (K + 1,) the mean."""
        return Drifted(self, self.taught.mean + change)

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """What sections that lie upon this one measured; ``None`` if there are none."""
        if self.placed is None:
            return None
        sections = upon(self.placed.frame, self.taught.neighbours, self.taught.config)
        if not sections:
            return None
        rest = [each.components - self._by_features(each.features) for each in sections]
        return Neighbours(self.placed.frame, sections, rest, self.taught.config)

    def _of(self, components: Floats, points: NDArray[np.float64]) -> Floats:
        found = self._by_features(components)
        if self.placed is not None and self.neighbours is not None:
            found = found + self.neighbours.at(self.placed.common(points))
        return np.asarray(found @ self.taught.rotation)

    def _by_features(self, components: Floats) -> Floats:
        functions = self.features.shared.functions(np.asarray(components, dtype=np.float64))
        return np.asarray(functions @ self.taught.lesson.coefficients)


@dataclass(frozen=True, eq=False)
class Drifted:
    """Densities by the drift alone: a solution as of :class:`sphisto.field.posterior.Solution`.

    Parameters
    ----------
    drift
        The drift.
    mean
        (K + 1,) mean of the quantities in this section.
    """

    drift: Drift
    mean: Floats

    def density(self, points: NDArray[np.float64]) -> Floats:
        """(m, K) densities at (m, 2) points."""
        return self.drift.roots.density(self.mean + self.drift.at(points), self.drift.gain())

    def rate_variance(self, points: NDArray[np.float64], density: Floats, model: GeneModel) -> Floats:
        """(m, G) variance of the genes' rates at points where the densities are (m, K)."""
        taught = self.drift.taught
        return taught.roots.rate_variance(
            density, self.drift.variance(points), taught.rotation, self.drift.gain(), model.loadings
        )


@dataclass(frozen=True, eq=False)
class DriftSolver:
    """Few spots of a section: its drift, with a mean to which they contribute.

    Parameters
    ----------
    drift
        By other sections.
    centers
        (n, 2) centres (y, x) of the spots in px.
    rest
        (n, K + 1) what the spots measured beyond drift and mean.
    """

    drift: Drift
    centers: NDArray[np.float64]
    rest: Floats

    uses_features = True

    def given(self, hidden: NDArray[np.int64], window: object | None = None) -> Drifted:
        """Condition on all but the ``hidden`` (h,) observations."""
        return self.drift.alone(self._change(np.delete(self.rest, hidden, axis=0)))

    def leave_one_out(self, most: int, model: GeneModel) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Predict observations from all others: which (m,), (m, K) density, (m, G) variance of the genes' rates."""
        some = evenly_spread(len(self.rest), most)
        points, roots, gain = self.centers[some], self.drift.roots, self.drift.gain()
        drifts = self.drift.taught.mean + self.drift.at_spots(points)
        changes = np.stack([self._change(np.delete(self.rest, row, axis=0)) for row in some])
        density = roots.density(drifts + changes, gain)
        variance = self.drift.alone().rate_variance(points, density, model)
        return some, density, variance

    def _change(self, rest: Floats) -> Floats:
        return np.asarray(rest.sum(axis=0) / (len(rest) + self.drift.taught.config.pseudo_spots))


def teach(
    features: SharedFeatures,
    sections: Sequence[tuple[str, Observations, BoundFeatures]],
    config: DriftConfig,
    *,
    least_sum: float,
    placed: Sequence[GridInFrame] = (),
) -> Taught:
    """Sum up what c sections say about how factors follow features.

    Parameters
    ----------
    features
        Shared by the sections.
    sections
        Name, observations at the usual depth, and features of each.
    config
        Of the regression.
    least_sum
        Counts in the usual spot from which densities may be brought to a common sum.
    placed
        Each section where it lies upon others; empty if what they measured is not to be kept.
    """
    density = np.concatenate([observations.density for _, observations, _ in sections])
    mean, n_contrasts = density.mean(axis=0), sections[0][1].n_contrasts
    total = float(mean[: len(mean) - n_contrasts].sum())
    area = min(observations.area for _, observations, _ in sections)
    levels = [None, total] if total * area >= least_sum else [None]
    tried = [
        _taught(features, sections, Roots(mean, n_contrasts, level, ANSCOMBE / area), config, placed)
        for level in levels
    ]
    sizes = np.array([len(observations) for _, observations, _ in sections])
    # by how well each section is predicted from the others, which counts the more the more of them there is
    weights = (sizes.sum() - sizes) / sizes if len(sections) > 1 else np.ones(1)

    def error(each: Taught) -> float:
        return float(weights @ [_composition_error(each, *section) for section in sections])

    return min(tried, key=error)


def _taught(
    features: SharedFeatures,
    sections: Sequence[tuple[str, Observations, BoundFeatures]],
    roots: Roots,
    config: DriftConfig,
    placed: Sequence[GridInFrame],
) -> Taught:
    quantities = [roots.quantities(observations.density) for _, observations, _ in sections]
    centred = [each - each.mean(axis=0) for each in quantities]
    rotation, turn = turned(np.concatenate(centred), 1 + roots.n_contrasts)
    noise = np.zeros(len(rotation))
    if all(observations.halves is not None for _, observations, _ in sections):
        apart = [roots.quantities(o.halves[0]) - roots.quantities(o.halves[1]) for _, o, _ in sections if o.halves]
        noise = np.square(np.concatenate(apart) @ turn).mean(axis=0) / 4
    pieces, neighbours = [], []
    for number, ((_, observations, bound), each) in enumerate(zip(sections, centred, strict=True)):
        looks, components = bound.at_spots(observations.centers), each @ turn
        functions = features.functions(looks)
        if placed:
            neighbours.append(_neighbour(placed[number], observations, looks, components))
        parts = _parts(observations.centers) if len(sections) <= 2 else [np.arange(len(each))]
        pieces.append(tuple(_sums(functions[part], components[part]) for part in parts))
    every = np.concatenate(quantities)
    names = tuple(name for name, _, _ in sections)
    return Taught(
        features, roots, np.mean([each.mean(axis=0) for each in quantities], axis=0), np.square(every).mean(axis=0),
        rotation, noise, names, tuple(pieces), config, tuple(neighbours),
    )  # fmt: skip


def _neighbour(placed: GridInFrame, observations: Observations, features: Floats, components: Floats) -> Neighbour:
    pitch_um = observations.pitch * placed.grid.um_per_px
    places = placed.common(observations.centers)
    return Neighbour(placed.frame, places, pitch_um, features.astype(np.float32), components.astype(np.float32))


def _parts(centers: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Rows of the pieces of a section, cut across its longer side, of about equally many spots."""
    along = centers[:, int(np.argmax(np.ptp(centers, axis=0)))]
    return [part for part in np.array_split(np.argsort(along, kind="stable"), _PIECES) if len(part)]


def _sums(functions: Floats, components: Floats) -> Sums:
    return Sums(len(functions), functions.T @ functions, functions.T @ components, np.square(components).sum(axis=0))


def _added(sums: Sequence[Sums]) -> Sums:
    first, *others = sums
    for other in others:
        first = first + other
    return first


def _ridge(sums: Sums, ridge: float) -> Floats:
    return np.linalg.solve(sums.moments + ridge * np.eye(len(sums.moments)), sums.products)


def _left_out(every: Sums, groups: Sequence[Sums], ridge: float) -> Floats:
    """(Q,) sums of squared errors of each group, predicted from all others."""
    out = np.zeros_like(every.squares)
    for group in groups:
        moments = every.moments - group.moments + ridge * np.eye(len(every.moments))
        out += group.errors(np.linalg.solve(moments, every.products - group.products))
    return out


def _composition_error(taught: Taught, name: str, observations: Observations, bound: BoundFeatures) -> float:
    """How far the composition of a section's spots is from what the other sections, or all if there are none, say of it."""
    drift = Drift(taught.without(name) if len(taught.sections) > 1 else taught, bound)
    found = drift.roots.density(taught.mean + drift.at_spots(observations.centers), drift.gain())
    return composition_error(found, observations.density, drift.roots.n_plain)


def checked(drift: Drift, observations: Observations) -> Drift:
    """Leave out what sections that lie upon this one measured, if without it its own spots are predicted better beyond chance."""
    if drift.neighbours is None or len(observations) < _LEAST_CHECKED:
        return drift
    alone = replace(drift, placed=None)
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
    rest = drift.roots.quantities(observations.density) - drift.taught.mean - drift.at_spots(observations.centers)
    return DriftSolver(drift, observations.centers, rest)
