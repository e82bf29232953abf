"""Co-kriging of several quantities known at spots.

All quantities are turned into uncorrelated components first. How much of a component is particular to
single spots (the nugget) is not chosen but averaged over, each value weighted by how well it predicts left-out spots,
which has a closed form.

What is particular to a spot is partly noise of counting, which holds no information, and partly tissue structure smaller than the
spots' distance, which informs about the surroundings of that very spot. The two are separated by the noise of
counting, which is known.

Cressie (1993), Statistics for Spatial Data.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from sphisto._cores import in_parts
from sphisto.core.places import Places
from sphisto.field.config import FieldConfig
from sphisto.field.covariance import Covariance, spherical
from sphisto.field.equations import Equations, decomposed, solve, trend_spread
from sphisto.field.rotation import inverse_of, rotation_of
from sphisto.field.windows import Windows

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]

_AT_ONCE = 512  # points of a thread: what is in memory at once is that many times the spots, for each
_keeping = Lock()


@dataclass(frozen=True, eq=False)
class Components:
    """Uncorrelated components of K quantities, and what was learned of each."""

    nuggets: Floats  # (g,) variances at a single spot that are averaged over
    shares: Floats  # (g, q) weights of the nuggets for each component; they sum to one
    scales: Floats  # (g, q) variance of each component, against that of the covariance
    locals: Floats  # (g, q) part of each nugget that is tissue around the spot; the rest is noise
    slopes: Floats  # (q,) slope of left-out values on their predictions
    noise: Floats  # (q,) variance of each component by noise of counting
    rotation: Floats  # (q, K) from components to quantities
    mean: Floats  # (K,) mean of the quantities

    def quantities(self, components: Floats) -> Floats:
        """(m, K) quantities of (m, q) components."""
        return components @ self.rotation + self.mean


@dataclass(frozen=True, eq=False)
class Kriging:
    """A covariance fitted to n spots, and what leaving out each of s of them predicts."""

    # places, features: (n, 2) spot centres, and (n, p) features there, scaled to a mean squared length of 1
    places: Places
    features: Floats
    covariance: Covariance  # of places
    windows: Windows  # in which spots are solved together
    components: Floats  # (n, q) components at the spots, each of variance 1
    model: Components  # what else the field at other places depends on
    rows: Rows  # (s,) spots that were solved for: all, or those in some windows of very many
    # solved, drift: (g, s, q) and (g, s, t) float32 inverse covariance, without the trend, times components and the
    # trend
    solved: NDArray[np.float32]
    drift: NDArray[np.float32]
    # at_spots, left_out: (s, K) field at each of these spots given all, and predicted from all the others
    at_spots: Floats
    left_out: Floats
    # (s, q) variance of the components there, noise of counting aside, when all others are known
    left_out_variance: Floats

    def given(self, hidden: Rows, windows: Windows | None = None) -> Kriged:
        """Condition on all but the ``hidden`` (h,) spots, as if these had not been measured.

        With ``windows`` the field is read there only, and solved in single precision, in half the time: what it is read
        for, a crop of the training, needs no more.
        """
        if windows is None:
            return Kriged(self, hidden, self.windows)
        return Kriged(self, hidden, windows, np.float32)

    def information_elsewhere(self, spots: Rows) -> tuple[Floats, Floats]:
        """(g, t, t) and (g, t, q) what all but some spots tell about the trend's coefficients.

        Where only some were solved for, those stand for the others.
        """
        at = self._place[spots]
        at = at[at >= 0]
        n_left = len(self.rows) - len(at)
        times = (len(self.places) - len(spots)) / n_left if n_left else 0.0
        (every, known), (some, of_some) = self._every, self._information(at)
        return times * (every - some), times * (known - of_some)

    @cached_property
    def _every(self) -> tuple[Floats, Floats]:
        return self._information(np.arange(len(self.rows)))

    @cached_property
    def _place(self) -> Rows:
        place = np.full(len(self.places), -1)
        place[self.rows] = np.arange(len(self.rows))
        return place

    def _information(self, at: Rows) -> tuple[Floats, Floats]:
        trend = self.covariance.trend(self.features[self.rows[at]]).T
        return np.stack([trend @ d for d in self.drift[:, at]]), np.stack([trend @ s for s in self.solved[:, at]])


@dataclass(frozen=True, eq=False)
class Kriged:
    """The field given some spots: each window is conditioned when a place in it is first asked for."""

    kriging: Kriging
    hidden: Rows  # (h,) spots on which it is not conditioned
    windows: Windows  # in which spots are solved together
    precision: type[np.floating] = np.float64  # in which they are solved
    _recent: OrderedDict[int, Piece] = field(default_factory=OrderedDict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recent": OrderedDict()}  # large, and made again where it is needed

    @property
    def model(self) -> Components:
        """Of the components."""
        return self.kriging.model

    def at(self, points: Floats, features: Floats) -> Floats:
        """(m, K) field at (m, 2) points with (m, p) features."""
        out = np.zeros((len(points), len(self.model.slopes)))
        for number, rows, weight in self.windows.shares(points):
            out[rows] += weight[:, None] * self._piece(number).at(points[rows], features[rows])
        return self.model.quantities(out)

    def closeness(self, points: Floats) -> Floats:
        """(m,) how far the nearest known spot covers each of the (m, 2) points: 1 at it, 0 from a pitch on."""
        out = np.zeros(len(points))
        for number, rows, weight in self.windows.shares(points):
            out[rows] += weight * self._piece(number).closeness(points[rows])
        return out

    def variance(self, points: Floats, features: Floats) -> Floats:
        """(m, q) variance of the components at (m, 2) points with (m, p) features."""
        out = np.zeros((len(points), len(self.model.slopes)))
        for number, rows, weight in self.windows.shares(points):
            out[rows] += weight[:, None] * self._piece(number).variance(points[rows], features[rows])
        return out

    def _piece(self, number: int) -> Piece:
        kept = 16  # windows that are kept once they are conditioned: tiles that follow each other lie in the same few
        found = self._recent.get(number)
        if found is None:
            inside = self.kriging.places.inside(*self.windows.box(number))
            known = np.setdiff1d(inside, self.hidden, assume_unique=True) if len(self.hidden) else inside
            elsewhere = self.kriging.information_elsewhere(np.union1d(inside, self.hidden))
            found = _conditioned(self.kriging, known, elsewhere, self.precision)
        with _keeping:  # threads of one process may read the same field
            self._recent[number] = found
            self._recent.move_to_end(number)
            if len(self._recent) > kept:
                self._recent.popitem(last=False)
        return found


@dataclass(frozen=True, eq=False)
class Piece:
    """What is needed to compute the field in one window, given m spots in and around it."""

    # covariance, model: as in Kriging
    covariance: Covariance
    model: Components
    # places, features: of the spots
    places: Places
    features: Floats
    # smooth, local: (m, q) weights of the spots: of the covariance between spots, and of that within the surroundings
    # of one
    smooth: NDArray[np.float32]
    local: NDArray[np.float32]
    slopes: Floats  # (t, q) mean coefficients of the trend
    spreads: Floats  # (g, t, t) covariance of the trend's coefficients

    @cached_property
    def _decomposed(self) -> tuple[Floats, NDArray[np.float32], NDArray[np.float32]]:
        """Eigenvalues and vectors of the spots' covariance, and the trend in the vectors: for variances alone."""
        values, vectors = decomposed(self.covariance, self.places.centers, self.features)
        turned = vectors.T @ self.covariance.trend(self.features)
        return values, vectors.astype(np.float32), turned.astype(np.float32)

    def at(self, points: Floats, features: Floats) -> Floats:
        """(m, q) components at (m, 2) points with (m, p) features."""
        out = self.covariance.trend(features) @ self.slopes

        def fill(part: slice) -> None:
            low, high = points[part].min(axis=0), points[part].max(axis=0)
            near = self.places.inside(low - self.covariance.reach, high + self.covariance.reach)
            apart, around = self._covariances(points[part], features[part], near)
            out[part] += apart @ self.smooth[near] + around @ self.local[near]

        if len(self.places):
            in_parts(fill, len(points), _AT_ONCE)
        return np.asarray(out)

    def closeness(self, points: Floats) -> Floats:
        """(m,) how far the nearest spot covers each of the (m, 2) points."""
        if len(self.places) == 0:
            return np.zeros(len(points))
        return spherical(self.places.tree.query(points)[0], self.covariance.pitch)

    def variance(self, points: Floats, features: Floats) -> Floats:
        """(m, q) variance of the components at (m, 2) points with (m, p) features.

        What is left of the variance given the spots and the trend's coefficients, and what these add by being uncertain.
        """
        model, (values, vectors, turned) = self.model, self._decomposed
        out = np.zeros((len(points), len(model.slopes)))
        damping = (1 / (values[:, None] + model.nuggets)).astype(np.float32)
        trend = self.covariance.trend(features)
        damped = np.hstack(
            [each[:, None] * turned for each in damping.T]
        )  # (m, g t), so that all nuggets are one product

        def fill(part: slice) -> None:
            apart, around = self._covariances(points[part], features[part], np.arange(len(self.places)))
            smooth, local = apart @ vectors, around @ vectors
            lefts, lesses = (np.split(known @ damped, len(model.nuggets), axis=1) for known in (smooth, local))
            explained = np.stack([square @ damping for square in (smooth**2, 2 * smooth * local, local**2)], axis=-1)
            for i, (local_part, weight) in enumerate(zip(model.locals, model.shares * model.scales, strict=True)):
                left, less, spread = trend[part] - lefts[i], lesses[i], self.spreads[i]
                pairs = ((left, left, -1), (left, less, 2), (less, less, -1))
                added = [sign * ((a @ spread) * b).sum(axis=1) for a, b, sign in pairs]
                known = explained[:, i] + np.stack(added, axis=-1)
                known = known @ np.stack([np.ones_like(local_part), local_part, local_part**2])
                out[part] += np.maximum(self.covariance.at + local_part - known, 0) * weight

        in_parts(fill, len(points), _AT_ONCE)
        return out

    def _covariances(self, points: Floats, features: Floats, spots: Rows) -> tuple[Floats, sparse.csr_array]:
        # what hangs on small differences (eigenvectors) is solved in double precision; here single precision is enough,
        # and twice as fast
        known = self.places.centers[spots], self.features[spots]
        a, f, b, g = (x.astype(np.float32) for x in (points, features, *known))
        return self.covariance.between(a, f, b, g), self.covariance.within(a, b)


def _conditioned(
    kriging: Kriging, known: Rows, elsewhere: tuple[Floats, Floats], precision: type[np.floating]
) -> Piece:
    """Solve the equations of the ``known`` (m,) spots of a window, with what is known of the trend elsewhere."""
    model, covariance = kriging.model, kriging.covariance
    places, features = Places(kriging.places.centers[known]), kriging.features[known]
    components, trend = kriging.components[known], covariance.trend(features)
    shape, slopes, spreads = components.shape, np.zeros((trend.shape[1], components.shape[1])), []
    smooth, local = np.zeros(shape), np.zeros(shape)
    solutions = _solved(covariance, places, features, model.nuggets, [trend, components], precision)
    for i, (drift, alone) in enumerate(solutions):
        spreads.append(trend_spread(elsewhere[0][i] + trend.T @ drift))
        own = spreads[-1] @ (elsewhere[1][i] + trend.T @ alone)
        weights = model.shares[i] * (alone - drift @ own)
        smooth += model.slopes * weights
        local += model.locals[i] * weights  # what is particular to a spot needs no damping: it does not reach the next
        slopes += model.slopes * model.shares[i] * own
    return Piece(
        covariance, model, places, features, smooth.astype(np.float32), local.astype(np.float32), slopes, np.stack(spreads)
    )  # fmt: skip


def _solved(
    covariance: Covariance,
    places: Places,
    features: Floats,
    nuggets: Floats,
    columns: list[Floats],
    precision: type[np.floating],
) -> Iterator[list[Floats]]:
    """Yield, for each nugget, the inverse covariance of m spots, without the trend, times some (m, c) columns."""
    if len(places) == 0:
        yield from (columns for _ in nuggets)
        return
    centers, alike, both = (each.astype(precision) for each in (places.centers, features, np.column_stack(columns)))
    matrix = covariance.between(centers, alike, centers, alike)
    at = np.diag_indices(len(matrix))
    variance = matrix[at]
    for nugget in nuggets:
        matrix[at] = variance + nugget
        solved = cho_solve(cho_factor(matrix, lower=True, check_finite=False), both, check_finite=False)
        yield np.split(solved, [columns[0].shape[1]], axis=1)


def choose_covariance(
    places: Places, features: Floats, components: Floats, sizes: Floats, pitch: float, config: FieldConfig
) -> Covariance:
    """Use features if that helps to predict left-out spots of a compact piece of the section.

    (n, 2) places with (n, p) features and (n, q) components there, of (q,) ``sizes``: the variance of the quantities by
    each.
    """
    least_apart = 1e-6  # squared difference of features, of a mean squared length of 1, that is more than rounding
    by_position, centers = Covariance(pitch, np.inf, config), places.centers
    if not (config.use_features and features.any()):
        return by_position
    piece = np.argsort(np.square(centers - np.median(centers, axis=0)).sum(axis=1), kind="stable")[: config.choosing]
    here, alike = Places(centers[piece]), features[piece]
    apart = float(np.median(np.square(alike[:, None] - alike[None, :200]).sum(axis=2)))
    if apart < least_apart:  # most of the image is the same: no length in which likeness fades
        return by_position
    options = (*(Covariance(pitch, length**2 * apart, config) for length in config.likeness), by_position)

    def error(covariance: Covariance) -> float:
        equations = solve(here, alike, covariance, components[piece], config)
        errors = equations.weights(np.eye(components.shape[1])) / equations.precisions()[:, :, None]
        return float(np.square(errors).mean(axis=1).min(axis=0) @ sizes)

    return min(options, key=error)


def fit_kriging(
    equations: Equations,
    mixing: Floats,
    mean: Floats,
    config: FieldConfig,
    *,
    halves: Floats | None = None,
    apart: int = 0,
    rotation: Floats | None = None,
) -> Kriging:
    """Fit the co-kriging of K quantities to observations whose equations are solved.

    The equations' columns, mixed by (c, K), are the quantities without their (K,) mean; the last ``apart`` of them are
    components of their own. (n, K) ``halves`` are the difference of the quantities between two halves of the counts,
    each half taken for the whole; ``None`` if the noise is not known: then all that is particular to a spot counts as
    noise. A (q, K) ``rotation`` are components that other sections know, of which these observations say what they leave:
    few of them determine neither components nor slopes.
    """
    least_needed = 0.001  # share of a nugget in any component; each costs as much as the others
    centred, nuggets, rows = equations.columns @ mixing, equations.nuggets, equations.rows
    is_rest = rotation is not None
    rotation = rotation_of(centred, apart) if rotation is None else rotation
    turn = inverse_of(rotation)
    components = centred @ turn
    noise = np.ones(len(rotation))
    if halves is not None:
        noise = np.square(halves @ turn).mean(axis=0) / 4  # each half has twice the noise
    alphas, precisions = equations.weights(mixing @ turn), equations.precisions()[:, :, None]
    errors, here = alphas / precisions, components[rows]
    shares = shares_of(np.square(errors).mean(axis=1), len(components), config.trust)
    needed = shares.max(axis=1, initial=0) > least_needed
    needed[0] |= not needed.any()  # nothing varies
    equations = equations.of(nuggets[needed])
    nuggets, alphas, precisions, errors = (each[needed] for each in (nuggets, alphas, precisions, errors))
    shares = shares[needed] / shares[needed].sum(axis=0)
    scales = (np.square(errors) * precisions).mean(axis=1)
    predicted = here - np.einsum("gnq,gq->nq", errors, shares)
    slopes = np.ones(len(rotation)) if is_rest else _slopes(predicted, here)
    part = np.maximum(nuggets[:, None] - noise / np.maximum(scales, 1e-12), 0)
    if halves is None:
        part, noise = np.zeros_like(part), np.einsum("gq,gq,g->q", shares, scales, nuggets)
    model = Components(nuggets, shares, scales, part, slopes, noise, rotation, mean)
    centers = equations.places.centers[rows]
    within = equations.covariance.within(centers, centers)
    # a field at an observation is what was measured there without its nugget's part, which is noise and its surroundings
    known = np.zeros_like(here)
    for share, nugget, alpha, own in zip(shares, nuggets, alphas, part, strict=True):
        known += share * (slopes * (here - nugget * alpha) + own * (within @ alpha))
    variance = np.maximum(np.einsum("gq,gsq->sq", shares * scales, 1 / precisions), noise) - noise
    return Kriging(
        equations.places, equations.features, equations.covariance, equations.windows, components, model, rows,
        (equations.solved @ (mixing @ turn)).astype(np.float32), equations.drift,
        model.quantities(known), model.quantities(predicted * slopes), variance,
    )  # fmt: skip


def _slopes(predicted: Floats, measured: Floats) -> Floats:
    """(q,) slopes of (s, q) left-out components on their predictions."""
    steepest = 1.2  # largest slope of left-out values on their predictions that is used
    found = (predicted * measured).sum(axis=0) / np.maximum(np.square(predicted).sum(axis=0), 1e-12)
    return np.clip(found, 0, steepest)


def shares_of(errors: Floats, n: int, trust: float) -> Floats:
    """(g, q) weights of nuggets, or of other variances, by their (g, q) mean squared errors at n left-out spots."""
    likelihood = -trust * n * np.log(np.maximum(errors, 1e-12))
    weights = np.exp(likelihood - likelihood.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))
