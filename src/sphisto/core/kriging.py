"""Co-kriging of several quantities known at spots, in closed form.

The covariance of two places has three parts: that of places which are near *and* look alike, reaching far; that of
places which are near; and that of places which look alike, wherever they are (linear in texture: kriging with random
external drift). All quantities are turned into uncorrelated components first. How much of a component is particular to
single spots (the nugget) is not chosen but averaged over, each value weighted by how well it predicts left-out spots,
which has a closed form. So has hiding many spots at once, which the training does at every step.

What is particular to a spot is partly noise of counting, which says nothing, and partly tissue smaller than the spots'
distance, which says something about the surroundings of that very spot. The two are told apart by the noise of
counting, which is known.

Cressie (1993), Statistics for Spatial Data; Dubrule (1983) and Ginsbourger and Schaerer (2021) for left-out spots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import block_diag, eigh
from scipy.spatial import KDTree

Floats = NDArray[np.floating]

# Shape of the covariance, the same for every section. It was chosen for predicting held-out spots, one split of each of
# five sections (mouse brain, olfactory bulb, breast), and confirmed on two other splits.
_FAR, _NEAR = 24.0, 4.0  # pitches at which the covariance of distance ends
_NEAR_WEIGHT, _ALIKE_WEIGHT = 0.3, 0.3  # against 1 for what is near and alike
_ALIKE = 1.0  # of the usual difference in texture: the length at which likeness fades
_NUGGETS = (0.05, 0.15, 0.5, 1.5, 5.0, 50.0)  # variance at a single spot; the largest leaves nothing but the mean
_TRUST = 0.05  # of the likelihood of left-out spots, 0.5 being all of it: they are not independent
_CHOOSING = 1_000  # spots on which texture is tried: a compact piece of the section
_LEAST_APART = 1e-6  # squared difference of textures, of a mean squared length of 1, that is more than rounding
_LEAST_COMPONENT = 1e-3  # of the largest; smaller ones are rounding
_STEEPEST = 1.2  # slope of left-out values on their predictions that is believed
_AT_ONCE = 1_024  # points: what is in memory at once is that many times the spots


class Weights(NamedTuple):
    """(n, q) weights of the spots: of the covariance between spots, and of that within the surroundings of one."""

    smooth: Floats
    local: Floats


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariance of places, of variance 1 where the texture is usual.

    Parameters
    ----------
    pitch
        Usual distance of neighbouring spots.
    likeness
        Squared length of texture differences over which likeness fades; infinite if texture is not looked at.
    """

    pitch: float
    likeness: float

    @property
    def reach(self) -> float:
        """Distance from which only texture speaks."""
        return _FAR * self.pitch

    def between(self, a: Floats, drift_a: Floats, b: Floats, drift_b: Floats) -> Floats:
        """(m, n) covariance of (m, 2) and (n, 2) places with (m, p) and (n, p) textures."""
        distance = _distance(a, b)
        far = _spherical(distance, self.reach)
        near = _spherical(distance, _NEAR * self.pitch)
        if not np.isfinite(self.likeness):
            return np.asarray(far + _NEAR_WEIGHT * near)
        alike = drift_a @ drift_b.T
        apart = alike * -2
        apart += np.square(drift_a).sum(axis=1)[:, None]
        apart += np.square(drift_b).sum(axis=1)
        np.maximum(apart, 0, out=apart)
        apart *= np.asarray(-1 / (2 * self.likeness), dtype=apart.dtype)
        far *= np.exp(apart, out=apart)
        near *= _NEAR_WEIGHT
        alike *= _ALIKE_WEIGHT
        far += near
        far += alike
        return far

    def at(self, drift: Floats) -> Floats:
        """(m,) variance of places with (m, p) texture."""
        alike = np.square(drift).sum(axis=1) * (_ALIKE_WEIGHT if np.isfinite(self.likeness) else 0)
        return np.asarray(1 + _NEAR_WEIGHT + alike)

    def within(self, a: Floats, b: Floats) -> sparse.csr_array:
        """(m, n) correlation within the surroundings of a spot: none from the next spot on."""
        pairs = KDTree(a).sparse_distance_matrix(KDTree(b), self.pitch, output_type="ndarray")
        entries = _spherical(pairs["v"], self.pitch).astype(a.dtype), (pairs["i"], pairs["j"])
        return sparse.csr_array(entries, shape=(len(a), len(b)))


@dataclass(frozen=True, eq=False)
class Kriging:
    """A field known at n spots.

    Parameters
    ----------
    centers
        (n, 2) spot centres.
    drift
        (n, p) texture at the spots, scaled to a mean squared length of 1.
    covariance
        Of places.
    vectors, values
        (n, n) and (n,) eigenvectors and eigenvalues of the spots' covariance.
    inverses
        (g, n, n) float32 inverse of the spots' covariance with each nugget.
    alphas
        (g, n, q) these times the components: solved once, as hiding spots is asked for at every step.
    shares
        (g, q) weights of the nuggets for each component; they sum to one.
    scales
        (g, q) variance of each component, against that of the covariance.
    locals
        (g, q) part of each nugget that is tissue around the spot; the rest is noise.
    slopes
        (q,) slope of left-out values on their predictions.
    noise
        (q,) variance of each component by noise of counting.
    components
        (n, q) components at the spots, each of variance 1.
    rotation
        (q, K) from components to quantities.
    mean
        (K,) mean of the quantities.
    """

    centers: Floats
    drift: Floats
    covariance: Covariance
    vectors: Floats
    values: Floats
    inverses: NDArray[np.float32]
    alphas: Floats
    shares: Floats
    scales: Floats
    locals: Floats
    slopes: Floats
    noise: Floats
    components: Floats
    rotation: Floats
    mean: Floats

    @property
    def sees_texture(self) -> bool:
        """Whether texture helped to predict left-out spots."""
        return bool(np.isfinite(self.covariance.likeness))

    def weights(self, hidden: NDArray[np.bool_]) -> Weights:
        """Weights of the spots if the ``hidden`` (n,) ones were not known; theirs are zero."""
        rows = np.flatnonzero(hidden)
        smooth, local = np.zeros_like(self.components), np.zeros_like(self.components)
        for inverse, alpha, share, part in zip(self.inverses, self.alphas, self.shares, self.locals, strict=True):
            if len(rows):
                told = np.linalg.solve(inverse[np.ix_(rows, rows)].astype(np.float64), alpha[rows])
                alpha = alpha - inverse[:, rows] @ told
            smooth += share * alpha
            local += share * part * alpha
        smooth *= self.slopes
        smooth[hidden] = local[hidden] = 0
        return Weights(smooth, local)

    def at(self, points: Floats, drift: Floats, weights: Weights) -> Floats:
        """(m, K) field at (m, 2) points with (m, p) texture, under given weights of the spots."""
        return self._components_at(points, drift, weights) @ self.rotation + self.mean

    def closeness(self, points: Floats, weights: Weights) -> Floats:
        """(m,) how far the nearest spot that is known covers each of the (m, 2) points: 1 at it, 0 from a pitch on."""
        known = self.centers[weights.smooth.any(axis=1) | weights.local.any(axis=1)]
        if len(known) == 0:
            return np.zeros(len(points))
        return _spherical(KDTree(known).query(points)[0], self.covariance.pitch)

    def at_spots(self) -> Floats:
        """(n, K) field at the spots themselves, freed of the noise of counting."""
        weights = self.weights(np.zeros(len(self.centers), dtype=bool))
        return self.at(self.centers, self.drift, weights)

    def left_out(self) -> Floats:
        """(n, K) field at each spot as told by all the others."""
        told = np.zeros_like(self.components)
        for inverse, alpha, share in zip(self.inverses, self.alphas, self.shares, strict=True):
            told += share * (self.components - _left_out_errors(inverse, alpha))
        return (told * self.slopes) @ self.rotation + self.mean

    def left_out_variance(self) -> Floats:
        """(n, q) variance of the components at each spot, noise of counting aside, when all others are known."""
        out = np.zeros_like(self.components)
        for inverse, share, scale in zip(self.inverses, self.shares, self.scales, strict=True):
            out += share * scale / np.diag(inverse)[:, None]
        return np.maximum(out - self.noise, 0)

    def variance(self, points: Floats, drift: Floats) -> Floats:
        """(m, q) variance of the components at (m, 2) points with (m, p) texture, when all spots are known."""
        out = np.empty((len(points), len(self.slopes)))
        damping = (1 / (self.values[:, None] + np.asarray(_NUGGETS))).astype(np.float32)
        vectors = self.vectors.astype(np.float32)
        for start in range(0, len(points), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            apart, around = self._covariances(points[part], drift[part], np.ones(len(self.centers), dtype=bool))
            smooth, local = apart @ vectors, around @ vectors
            known = np.stack([square @ damping for square in (smooth**2, 2 * smooth * local, local**2)], axis=-1)
            at = self.covariance.at(drift[part])[:, None]
            out[part] = 0
            for i, (local_part, weight) in enumerate(zip(self.locals, self.shares * self.scales, strict=True)):
                told = known[:, i] @ np.stack([np.ones_like(local_part), local_part, local_part**2])
                out[part] += np.maximum(at + local_part - told, 0) * weight
        return out

    def _components_at(self, points: Floats, drift: Floats, weights: Weights) -> Floats:
        used = weights.smooth.any(axis=1) | weights.local.any(axis=1)
        out = np.empty((len(points), len(self.slopes)))
        smooth, local = (w.astype(np.float32) for w in weights)
        for start in range(0, len(points), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            near = used & self._near(points[part])
            apart, around = self._covariances(points[part], drift[part], near)
            out[part] = apart @ smooth[near] + around @ local[near]
            if self.sees_texture:  # which far spots share, too
                far = used & ~near
                out[part] += drift[part] @ (_ALIKE_WEIGHT * (self.drift[far].T @ weights.smooth[far]))
        return out

    def _near(self, points: Floats) -> NDArray[np.bool_]:
        low, high = points.min(axis=0) - self.covariance.reach, points.max(axis=0) + self.covariance.reach
        return np.asarray(((self.centers >= low) & (self.centers <= high)).all(axis=1))

    def _covariances(self, points: Floats, drift: Floats, spots: NDArray[np.bool_]) -> tuple[Floats, sparse.csr_array]:
        # what hangs on small differences (eigenvectors, hidden spots) is solved in double precision; here single
        # precision is enough, and twice as fast
        a, f, b, g = (x.astype(np.float32) for x in (points, drift, self.centers[spots], self.drift[spots]))
        return self.covariance.between(a, f, b, g), self.covariance.within(a, b)


def fit_kriging(
    centers: Floats,
    drift: Floats,
    quantities: Floats,
    pitch: float,
    *,
    halves: Floats | None = None,
    apart: int = 0,
    like: Kriging | None = None,
) -> Kriging:
    """Fit the covariance of (n, K) quantities at (n, 2) centres, given the spots' (n, p) texture.

    Parameters
    ----------
    pitch
        Usual distance of neighbouring spots, unit of ``centers``.
    halves
        (n, K) difference of the quantities between two halves of the counts, each half taken for the whole; ``None``
        if the noise is not known: then all that is particular to a spot counts as noise.
    apart
        Number of quantities, the last ones, that are components of their own.
    like
        An earlier fit at the same spots, whose covariance is taken over.
    """
    mean = quantities.mean(axis=0)
    rotation = _rotation(quantities - mean, apart)
    turn = rotation.T / np.square(rotation).sum(axis=1)
    components = (quantities - mean) @ turn
    noise = np.ones(len(rotation))
    if halves is not None:
        noise = np.square(halves @ turn).mean(axis=0) / 4  # each half has twice the noise
    if like is None:
        covariance = _choose(centers, drift, components, np.square(rotation).sum(axis=1), pitch)
        values, vectors = _eigen(covariance, centers, drift)
        inverses = np.stack([((vectors / (values + nugget)) @ vectors.T).astype(np.float32) for nugget in _NUGGETS])
    else:
        covariance, values, vectors, inverses = like.covariance, like.values, like.vectors, like.inverses
    alphas = np.stack([inverse @ components for inverse in inverses])
    errors = np.stack([_left_out_errors(*pair) for pair in zip(inverses, alphas, strict=True)])
    shares = _shares(np.square(errors).mean(axis=1), len(centers))
    scales = np.stack([(e**2 * np.diag(i)[:, None]).mean(axis=0) for e, i in zip(errors, inverses, strict=True)])
    told = components - np.einsum("gnq,gq->nq", errors, shares)
    slopes = np.clip((told * components).sum(axis=0) / np.maximum(np.square(told).sum(axis=0), 1e-12), 0, _STEEPEST)
    part = np.maximum(np.asarray(_NUGGETS)[:, None] - noise / np.maximum(scales, 1e-12), 0)
    if halves is None:
        part, noise = np.zeros_like(part), np.einsum("gq,gq,g->q", shares, scales, _NUGGETS)
    return Kriging(
        centers, drift, covariance, vectors, values, inverses, alphas, shares, scales, part, slopes, noise,
        components, rotation, mean,
    )  # fmt: skip


def _rotation(centred: Floats, apart: int) -> Floats:
    """(q, K) rows that turn uncorrelated components of variance 1 into quantities; orthogonal to each other."""
    shared, own = np.split(centred, [centred.shape[1] - apart], axis=1)
    _, sizes, right = np.linalg.svd(shared, full_matrices=False)
    kept = sizes > max(_LEAST_COMPONENT * sizes[0], 1e-12)
    spread = np.maximum(own.std(axis=0), 1e-12)
    return np.asarray(block_diag(sizes[kept, None] / np.sqrt(len(centred)) * right[kept], np.diag(spread)))


def _choose(centers: Floats, drift: Floats, components: Floats, sizes: Floats, pitch: float) -> Covariance:
    """Look at texture if that helps to predict left-out spots of a compact piece of the section."""
    blind = Covariance(pitch, np.inf)
    if not drift.any():
        return blind
    piece = np.argsort(np.square(centers - np.median(centers, axis=0)).sum(axis=1), kind="stable")[:_CHOOSING]
    apart = float(np.median(np.square(drift[piece, None] - drift[None, piece[:200]]).sum(axis=2)))
    if apart < _LEAST_APART:  # most of the picture looks the same: no length in which likeness fades
        return blind
    options = (Covariance(pitch, _ALIKE**2 * apart), blind)

    def error(covariance: Covariance) -> float:
        values, vectors = _eigen(covariance, centers[piece], drift[piece])
        inverses = [(vectors / (values + nugget)) @ vectors.T for nugget in _NUGGETS]
        squares = [np.square(_left_out_errors(i, i @ components[piece])).mean(axis=0) for i in inverses]
        return float(np.min(squares, axis=0) @ sizes)

    return min(options, key=error)


def _distance(a: Floats, b: Floats) -> Floats:
    squared = np.square(a[:, :1] - b[:, 0])
    squared += np.square(a[:, 1:] - b[:, 1])
    return np.sqrt(squared, out=squared)


def _spherical(distance: Floats, reach: float) -> Floats:
    """Covariance by distance: 1 at none, falling about linearly to 0 at ``reach``."""
    h = distance * np.asarray(1 / reach, dtype=distance.dtype)
    np.minimum(h, 1, out=h)
    out = h * h  # (0.5 h^2 - 1.5) h + 1, in place: this is where the time goes
    out *= 0.5
    out -= 1.5
    out *= h
    out += 1
    return out


def _eigen(covariance: Covariance, centers: Floats, drift: Floats) -> tuple[Floats, Floats]:
    matrix = covariance.between(centers, drift, centers, drift)
    values, vectors = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    return np.maximum(values, 0), vectors


def _left_out_errors(inverse: Floats, alpha: Floats) -> Floats:
    """(n, q) errors when each spot is told by the others: weights over the diagonal of the inverse covariance."""
    return np.asarray(alpha / np.diag(inverse)[:, None])


def _shares(errors: Floats, n: int) -> Floats:
    """(g, q) weights of the nuggets by their (g, q) mean squared errors at n left-out spots."""
    likelihood = -_TRUST * n * np.log(np.maximum(errors, 1e-12))
    weights = np.exp(likelihood - likelihood.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))
