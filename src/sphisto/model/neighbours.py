"""The prior: what the neighbouring spots and the texture of the picture say of each place, as maps of factor density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.factors import rates
from sphisto.core.interpolate import choose_width, gaussian_weights
from sphisto.core.kriging import Kriging, Weights, fit_kriging
from sphisto.model.drawing import COARSEST, as_maps, block_middles, coarse_points, followed
from sphisto.model.evidence import Evidence, scaled_texture

if TYPE_CHECKING:
    from sphisto.core.factors import Factors
    from sphisto.core.tiles import Window

_MOST_KRIGED = 5_000  # spots, a full Visium array; the covariance takes their square in memory, their cube in time
_LEAST_KRIGED = 20  # spots; fewer do not tell a covariance
_LEAST_RATE = 1e-9  # counts; no division by none
_MOST_GAIN = 10.0
_ANSCOMBE = 3 / 8  # counts added before roots are taken: roots of few counts alone are no measure of them
_MOST_LEFT_OUT = 500  # spots at which skill is estimated: more tell little more of a gene
_LEAST_SUM = 20.0  # counts in the usual spot; of fewer, what it is made of is noise
_LEAST_DEPTH = 0.05  # of the usual sum; the few counts of a spot are not blown up beyond twentyfold
_LEAST_SHARE = 1e-3  # of the mean density: the network multiplies, and nothing comes of zero


class LeftOut(NamedTuple):
    """Spots as told by the others: their places in the slide, (n, K) density, (n, G) variance of the genes' rates."""

    spots: NDArray[np.int64]
    density: NDArray[np.floating]
    variance: NDArray[np.floating]


class Prior(Protocol):
    """What the rest knows of a prior."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """(K,) what is said where nothing is known."""

    @property
    def stride(self) -> int:
        """Px between the points of the maps."""

    @property
    def sees_texture(self) -> bool:
        """Whether it looks at the picture."""

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        """Let only those of the known spots speak that are kept, of the (n,) spots of the slide.

        Asked of what :func:`make_prior` returned.
        """

    def prior(self, window: Window) -> NDArray[np.float32]:
        """(K, h / stride, w / stride) density at the middles of blocks of a window."""

    def sd(self, window: Window, factors: Factors, expression: NDArray[np.float32]) -> NDArray[np.float32]:
        """(G, h, w) standard deviation of the expression of genes, which is (G, h, w) in the window."""

    def left_out(self, factors: Factors) -> LeftOut:
        """Tell some of the known spots by the others."""

    def settled(self) -> Prior:
        """Return the same maps without what hiding or leaving out spots takes: a quarter of the memory, to be sent."""


@dataclass(frozen=True, eq=False)
class Nothing:
    """No spot speaks: the same everywhere."""

    mean: NDArray[np.float64]
    stride: int
    sees_texture = False

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        return self

    def prior(self, window: Window) -> NDArray[np.float32]:
        return as_maps(
            np.broadcast_to(self.mean, (len(block_middles(window, self.stride)), len(self.mean))), window, self.stride
        )

    def sd(self, window: Window, factors: Factors, expression: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full_like(expression, np.nan)  # how much it varies is not known

    def left_out(self, factors: Factors) -> LeftOut:
        return LeftOut(np.zeros(0, dtype=np.int64), np.zeros((0, len(self.mean))), np.zeros((0, len(factors.genes))))

    def settled(self) -> Prior:
        return self


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Gaussian-weighted averages of the spots around, where there are too many spots for kriging, or too few.

    Parameters
    ----------
    spots
        (n,) places of the known spots in the slide.
    centers
        (n, 2) centres in px.
    density
        (n, K) factor values per spot area of tissue.
    width
        Standard deviation of the Gaussian weights in px.
    spread
        (K,) variance of a spot's density around what the others say, noise of counting aside if that is known.
    """

    mean: NDArray[np.float64]
    stride: int
    spots: NDArray[np.int64]
    centers: NDArray[np.float64]
    density: NDArray[np.float64]
    width: float
    spread: NDArray[np.float64]
    sees_texture = False

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        rows = np.flatnonzero(kept[self.spots])
        if not len(rows):
            return Nothing(self.mean, self.stride)
        return replace(self, spots=self.spots[rows], centers=self.centers[rows], density=self.density[rows])

    def prior(self, window: Window) -> NDArray[np.float32]:
        points = block_middles(window, self.stride)
        return as_maps(gaussian_weights(points, self.centers, self.width) @ self.density, window, self.stride)

    def sd(self, window: Window, factors: Factors, expression: NDArray[np.float32]) -> NDArray[np.float32]:
        points, shape = coarse_points(window, self.stride)
        told = gaussian_weights(points, self.centers, self.width) @ self.density
        sd = np.broadcast_to(np.sqrt(np.square(factors.loadings) @ self.spread), (len(points), len(factors.genes)))
        return followed(expression, sd, _rates(told, factors), shape, window, self.stride)

    def left_out(self, factors: Factors) -> LeftOut:
        rows = _some(np.arange(len(self.centers)))
        told = _told_by_others(rows, self.centers, self.density, self.width)
        variance = np.broadcast_to(np.square(factors.loadings) @ self.spread, (len(rows), len(factors.genes)))
        return LeftOut(self.spots[rows], told, variance)

    def settled(self) -> Prior:
        return self


@dataclass(frozen=True, eq=False)
class Kriged:
    """Co-kriged square roots of the densities and of their sum: roots even out the noise of counts.

    The kriged densities say what the tissue is made of, the kriged sum how much RNA there is: the sum of kriged parts
    would say it less well. Factors that have signs are kriged as they are, each for itself. Where a spot's sum says more
    of how well it was measured than of its tissue, densities are first brought to a common sum.

    Parameters
    ----------
    level
        Sum to which the spots' densities were brought; ``None`` if they were left as they are.
    known
        (n,) bool: the spots of the slide that the field was fitted to.
    field
        Kriging of the known spots: roots of the densities that have no sign; as components of their own the root of
        their sum, and those that have signs.
    weights
        Weights of the known spots.
    texture, texture_stride, texture_corner
        (p, h, w) texture of each ``texture_stride`` px of a part of the slide, scaled as ``field`` wants it; and (y, x)
        where that part begins. Beyond it the texture of its border goes on.
    gain_seen, gain_hidden
        Factors that make roots and root of the sum right on average, at spots that are known and where none is near: a square
        of a mean is less than the mean of squares, the more so the less is known.
    """

    mean: NDArray[np.float64]
    stride: int
    level: float | None
    known: NDArray[np.bool_]
    field: Kriging
    weights: Weights
    texture: NDArray[np.float32]
    texture_stride: int
    texture_corner: tuple[int, int]
    gain_seen: NDArray[np.float64]
    gain_hidden: NDArray[np.float64]

    @property
    def sees_texture(self) -> bool:
        return self.field.sees_texture

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        if not (kept & self.known).any():
            return Nothing(self.mean, self.stride)
        return replace(self, weights=self.field.weights(~kept[self.known]))

    def prior(self, window: Window) -> NDArray[np.float32]:
        points = block_middles(window, self.stride)
        return as_maps(self._density(points, self._drift(points)), window, self.stride)

    def sd(self, window: Window, factors: Factors, expression: NDArray[np.float32]) -> NDArray[np.float32]:
        points, shape = coarse_points(window, self.stride)
        drift = self._drift(points)
        density = self._density(points, drift)
        variance = self.rate_variance(density, self.field.variance(points, drift), factors.loadings)
        return followed(expression, np.sqrt(variance), _rates(density, factors), shape, window, self.stride)

    def left_out(self, factors: Factors) -> LeftOut:
        rows = _some(np.arange(len(self.field.centers)))
        density = _composed(self.field.left_out()[rows], self.gain_hidden, self.mean, self.level)
        variance = self.rate_variance(density, self.field.left_out_variance()[rows], factors.loadings)
        return LeftOut(np.flatnonzero(self.known)[rows], density, variance)

    def settled(self) -> Prior:
        return replace(self, field=replace(self.field, inverses=self.field.inverses[:0], alphas=self.field.alphas[:0]))

    def rate_variance(
        self, density: NDArray[np.floating], variance: NDArray[np.floating], loadings: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """(m, G) variance of genes' rates from (m, K) densities and (m, q) variances of the field's components.

        To first order: a density is its share of the sum of gained squares, times the gained square of their sum.
        """
        k = len(self.gain_hidden) - 1
        parts, total, signed = np.split(self.field.rotation, [k, k + 1], axis=1)
        plain, contrasts = np.split(loadings.astype(np.float64), [k], axis=1)
        gain, (density, contrast) = self.gain_hidden, np.split(density, [k], axis=1)
        sums = density.sum(axis=1, keepdims=True)
        depth = np.ones_like(sums) if self.level is None else sums / self.level
        per_root = 2 * np.sqrt((density / depth + _ANSCOMBE) * gain[:-1]) * depth
        per_total = 2 * np.sqrt((sums + _ANSCOMBE) * gain[-1])
        unchanging = contrasts @ signed.T
        out = np.empty((len(density), len(loadings)))
        for i, spread in enumerate(np.sqrt(variance)):
            rate = plain @ density[i]
            own = (plain * per_root[i]) @ parts.T + depth[i] * unchanging
            per_part, per_sum = per_root[i] @ parts.T / sums[i], per_total[i] * total[:, 0] / sums[i]
            change = own - np.outer(rate, per_part - per_sum)
            if self.level is not None:  # then contrasts grow with the sum, too
                change += np.outer(contrasts @ contrast[i], per_sum)
            out[i] = np.square(change * spread).sum(axis=1)
        return out

    def _density(self, points: NDArray[np.float64], drift: NDArray[np.float64]) -> NDArray[np.floating]:
        roots = self.field.at(points, drift, self.weights)
        close = self.field.closeness(points, self.weights)[:, None]
        gain = self.gain_hidden + (self.gain_seen - self.gain_hidden) * close
        return _composed(roots, gain, self.mean, self.level)

    def _drift(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        at = (points - self.texture_corner).T / self.texture_stride - 0.5
        return np.stack([ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in self.texture], axis=1)


def make_prior(evidence: Evidence, known: NDArray[np.bool_]) -> Prior:
    """Make the prior of a slide from its ``known`` spots; its free numbers are chosen by leaving out one at a time.

    What the other spots measured is not in it: it may be judged by them.
    """
    slide, density, n_signed = evidence.slide, evidence.density[known], evidence.n_signed
    centers, pitch, stride = slide.spots.centers[known], slide.spots.pitch, evidence.stride
    mean = density.mean(axis=0)
    pair = None if evidence.half_densities is None else [half[known] for half in evidence.half_densities]
    if not _LEAST_KRIGED <= len(density) <= _MOST_KRIGED:
        width = choose_width(
            centers, density[:, : len(mean) - n_signed], pitch
        )  # by roots, which contrasts have none of
        told = _told_by_others(np.arange(len(density)), centers, density, width)
        spread = np.square(told - density).mean(axis=0)
        if pair is not None:
            spread -= np.square(pair[0] - pair[1]).mean(axis=0) / 4  # each half has twice the noise
        return Neighbours(mean, stride, np.flatnonzero(known), centers, density, width, np.maximum(spread, 0))
    maps, at_spots = scaled_texture(evidence, known)
    nobody = np.zeros(len(density), dtype=bool)

    def kriged(level: float | None, like: Kriging | None = None) -> Kriged:
        quantities = _quantities(density, n_signed, level)
        apart = None
        if pair is not None:
            apart = _quantities(pair[0], n_signed, level) - _quantities(pair[1], n_signed, level)
        field = fit_kriging(centers, at_spots[known], quantities, pitch, halves=apart, apart=1 + n_signed, like=like)
        roots = quantities[:, : quantities.shape[1] - n_signed]
        seen, hidden = (_gain(roots, told[:, : roots.shape[1]]) for told in (field.at_spots(), field.left_out()))
        return Kriged(
            mean, stride, level, known, field, field.weights(nobody), maps, evidence.texture_stride,
            (evidence.looked_at.y0, evidence.looked_at.x0), seen, hidden,
        )  # fmt: skip

    as_measured = kriged(None)
    level = float(mean[: len(mean) - n_signed].sum())
    if pair is None or level < _LEAST_SUM:
        return as_measured
    return min(as_measured, kriged(level, as_measured.field), key=lambda prior: _composition_error(prior, density))


def _gain(roots: NDArray[np.float64], told: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K + 1,) factors by which squares of what is told fall short of squares of the roots."""
    short = np.square(roots).mean(axis=0) / np.maximum(np.square(np.maximum(told, 0)).mean(axis=0), 1e-12)
    return np.asarray(np.clip(short, 1, _MOST_GAIN))


def _composition_error(prior: Kriged, density: NDArray[np.float64]) -> float:
    """How far left-out spots are from what the others say they are made of, each weighted by its sum.

    Squared differences of the roots of shares, times the sum, are about a quarter of the multinomial deviance.
    """
    n_plain = len(prior.gain_hidden) - 1
    told = _composed(prior.field.left_out(), prior.gain_hidden, prior.mean, prior.level)[:, :n_plain]
    plain = density[:, :n_plain]
    total = plain.sum(axis=1)
    roots = np.sqrt(plain / np.maximum(total, _LEAST_RATE)[:, None])
    distance = np.square(roots - np.sqrt(told / told.sum(axis=1, keepdims=True))).sum(axis=1)
    return float(total @ distance)


def _told_by_others(
    rows: NDArray[np.int64], centers: NDArray[np.float64], density: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """(m, K) Gaussian-weighted density at some spots, without their own; the mean where nobody else is near."""
    weights = gaussian_weights(centers[rows], centers, width)
    own = np.asarray(weights[np.arange(len(rows)), rows]).ravel()[:, None]
    told = (weights @ density - own * density[rows]) / np.maximum(1 - own, _LEAST_RATE)
    return np.where(own < 1 - _LEAST_SHARE, told, density.mean(axis=0))


def _quantities(density: NDArray[np.float64], n_signed: int, level: float | None) -> NDArray[np.float64]:
    """(n, K + 1) square roots of densities and of their sum; then those that have signs, as they are.

    With a ``level``, all but the root of the sum are of densities that are brought to that sum.
    """
    plain, signed = np.split(density, [density.shape[1] - n_signed], axis=1)
    total = plain.sum(axis=1, keepdims=True)
    if level is not None:
        scale = level / np.maximum(total, _LEAST_DEPTH * level)
        plain, signed = plain * scale, signed * scale
    return np.column_stack([np.sqrt(np.column_stack([plain, total]) + _ANSCOMBE), signed])


def _rates(density: NDArray[np.floating], factors: Factors) -> NDArray[np.floating]:
    return rates(density, factors.loadings.astype(np.float64), factors.n_signed)


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """All rows, or some evenly spread ones of very many."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_LEFT_OUT)).astype(np.int64)]


def _composed(
    quantities: NDArray[np.floating], gain: NDArray[np.float64], mean: NDArray[np.float64], level: float | None
) -> NDArray[np.float64]:
    """(m, K) densities: proportions of the gained squares of roots, with that of the root of the sum as their sum."""
    roots, signed = np.split(quantities, [gain.shape[-1]], axis=1)
    plain = mean[: gain.shape[-1] - 1]
    squares = np.square(np.maximum(roots, 0)) * gain - _ANSCOMBE
    parts = np.maximum(squares[:, :-1], _LEAST_SHARE * plain)
    total = np.maximum(squares[:, -1:], _LEAST_SHARE * plain.sum())
    depth = 1.0 if level is None else total / level
    return np.column_stack([parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12) * total, signed * depth])


def nothing_known(mean: NDArray[np.float64]) -> Prior:
    """Make the prior of a slide without spots."""
    return Nothing(mean, COARSEST)
