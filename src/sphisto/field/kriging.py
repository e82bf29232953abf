"""Co-kriging of several quantities known at spots, in closed form.

All quantities are turned into uncorrelated components first. How much of a component is particular to
single spots (the nugget) is not chosen but averaged over, each value weighted by how well it predicts left-out spots,
which has a closed form. So has hiding many spots at once, which the training does at every step.

What is particular to a spot is partly noise of counting, which holds no information, and partly tissue structure smaller than the
spots' distance, which informs about the surroundings of that very spot. The two are separated by the noise of
counting, which is known.

Cressie (1993), Statistics for Spatial Data; Dubrule (1983) and Ginsbourger and Schaerer (2021) for left-out spots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import block_diag, eigh
from scipy.spatial import KDTree

from sphisto._cores import in_parts
from sphisto.field.covariance import Covariance, spherical

if TYPE_CHECKING:
    from sphisto.field.config import FieldConfig

Floats = NDArray[np.floating]

_LEAST_APART = 1e-6  # squared difference of features, of a mean squared length of 1, that is more than rounding
_LEAST_COMPONENT = 1e-3  # of the largest; smaller ones are rounding
_STEEPEST = 1.2  # largest slope of left-out values on their predictions that is used
_AT_ONCE = 512  # points of a thread: what is in memory at once is that many times the spots, for each


@dataclass(frozen=True, eq=False)
class Kriging:
    """A covariance fitted to n spots, with all that leaving out and hiding spots takes in closed form.

    Parameters
    ----------
    centers
        (n, 2) spot centres.
    features
        (n, p) features at the spots, scaled to a mean squared length of 1.
    covariance
        Of places.
    vectors, values
        (n, n) and (n,) eigenvectors and eigenvalues of the spots' covariance.
    inverses
        (g, n, n) float32 inverse of the spots' covariance with each nugget.
    alphas
        (g, n, q) these times the components: solved once, as hiding spots is asked for at every step.
    components
        (n, q) components at the spots, each of variance 1.
    model
        What else the field at other places depends on.
    """

    centers: Floats
    features: Floats
    covariance: Covariance
    vectors: Floats
    values: Floats
    inverses: NDArray[np.float32]
    alphas: Floats
    components: Floats
    model: Components

    def given(self, known: NDArray[np.bool_]) -> Kriged:
        """Condition on the ``known`` (n,) spots, as if the others had not been measured."""
        rows, model = np.flatnonzero(~known), self.model
        smooth, local = np.zeros_like(self.components), np.zeros_like(self.components)
        for inverse, alpha, share, part in zip(self.inverses, self.alphas, model.shares, model.locals, strict=True):
            if len(rows):
                hidden = np.linalg.solve(inverse[np.ix_(rows, rows)].astype(np.float64), alpha[rows])
                alpha = alpha - inverse[:, rows] @ hidden
            smooth += share * alpha
            local += share * part * alpha
        smooth *= model.slopes
        smooth[rows] = local[rows] = 0
        return Kriged(self.centers, self.features, self.covariance, self.vectors, self.values, smooth, local, model)

    def left_out(self) -> Floats:
        """(n, K) field at each spot, predicted from all the others."""
        predicted = np.zeros_like(self.components)
        for inverse, alpha, share in zip(self.inverses, self.alphas, self.model.shares, strict=True):
            predicted += share * (self.components - _left_out_errors(inverse, alpha))
        return self.model.quantities(predicted * self.model.slopes)

    def left_out_variance(self) -> Floats:
        """(n, q) variance of the components at each spot, noise of counting aside, when all others are known."""
        out = np.zeros_like(self.components)
        for inverse, share, scale in zip(self.inverses, self.model.shares, self.model.scales, strict=True):
            out += share * scale / np.diag(inverse)[:, None]
        return np.maximum(out - self.model.noise, 0)


@dataclass(frozen=True, eq=False)
class Components:
    """Uncorrelated components of K quantities, and what was learned of each.

    Parameters
    ----------
    nuggets
        (g,) variances at a single spot that are averaged over.
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
    rotation
        (q, K) from components to quantities.
    mean
        (K,) mean of the quantities.
    """

    nuggets: Floats
    shares: Floats
    scales: Floats
    locals: Floats
    slopes: Floats
    noise: Floats
    rotation: Floats
    mean: Floats

    def quantities(self, components: Floats) -> Floats:
        """(m, K) quantities of (m, q) components."""
        return components @ self.rotation + self.mean


@dataclass(frozen=True, eq=False)
class Kriged:
    """The field conditioned on known spots: what is needed to compute it anywhere, and no more.

    Parameters
    ----------
    centers, features, covariance, vectors, values
        As in :class:`Kriging`.
    smooth, local
        (n, q) weights of the spots: of the covariance between spots, and of that within the surroundings of one; 0 for
        those that are not known.
    model
        Of the components.
    """

    centers: Floats
    features: Floats
    covariance: Covariance
    vectors: Floats
    values: Floats
    smooth: Floats
    local: Floats
    model: Components

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) spots that have any weight."""
        return np.asarray(self.smooth.any(axis=1) | self.local.any(axis=1))

    def at(self, points: Floats, features: Floats) -> Floats:
        """(m, K) field at (m, 2) points with (m, p) features."""
        known, out = self.known, np.empty((len(points), len(self.model.slopes)))
        smooth, local = self.smooth.astype(np.float32), self.local.astype(np.float32)

        def fill(part: slice) -> None:
            near = known & self._near(points[part])
            apart, around = self._covariances(points[part], features[part], near)
            out[part] = apart @ smooth[near] + around @ local[near]
            if self.covariance.uses_features:  # which far spots share, too
                far, weight = known & ~near, self.covariance.config.alike_weight
                out[part] += features[part] @ (weight * (self.features[far].T @ self.smooth[far]))

        in_parts(fill, len(points), _AT_ONCE)
        return self.model.quantities(out)

    def closeness(self, points: Floats) -> Floats:
        """(m,) how far the nearest known spot covers each of the (m, 2) points: 1 at it, 0 from a pitch on."""
        known = self.centers[self.known]
        if len(known) == 0:
            return np.zeros(len(points))
        return spherical(KDTree(known).query(points)[0], self.covariance.pitch)

    def variance(self, points: Floats, features: Floats) -> Floats:
        """(m, q) variance of the components at (m, 2) points with (m, p) features, if all spots are known."""
        out, model = np.empty((len(points), len(self.model.slopes))), self.model
        damping = (1 / (self.values[:, None] + np.asarray(model.nuggets))).astype(np.float32)
        vectors = self.vectors.astype(np.float32)

        def fill(part: slice) -> None:
            apart, around = self._covariances(points[part], features[part], np.ones(len(self.centers), dtype=bool))
            smooth, local = apart @ vectors, around @ vectors
            explained = np.stack([square @ damping for square in (smooth**2, 2 * smooth * local, local**2)], axis=-1)
            at = self.covariance.at(features[part])[:, None]
            out[part] = 0
            for i, (local_part, weight) in enumerate(zip(model.locals, model.shares * model.scales, strict=True)):
                known = explained[:, i] @ np.stack([np.ones_like(local_part), local_part, local_part**2])
                out[part] += np.maximum(at + local_part - known, 0) * weight

        in_parts(fill, len(points), _AT_ONCE)
        return out

    def _near(self, points: Floats) -> NDArray[np.bool_]:
        low, high = points.min(axis=0) - self.covariance.reach, points.max(axis=0) + self.covariance.reach
        return np.asarray(((self.centers >= low) & (self.centers <= high)).all(axis=1))

    def _covariances(
        self, points: Floats, features: Floats, spots: NDArray[np.bool_]
    ) -> tuple[Floats, sparse.csr_array]:
        # what hangs on small differences (eigenvectors, hidden spots) is solved in double precision; here single
        # precision is enough, and twice as fast
        a, f, b, g = (x.astype(np.float32) for x in (points, features, self.centers[spots], self.features[spots]))
        return self.covariance.between(a, f, b, g), self.covariance.within(a, b)


def fit_kriging(
    centers: Floats,
    features: Floats,
    quantities: Floats,
    pitch: float,
    config: FieldConfig,
    *,
    halves: Floats | None = None,
    apart: int = 0,
    like: Kriging | None = None,
) -> Kriging:
    """Fit the covariance of (n, K) quantities at (n, 2) centres, given the spots' (n, p) features.

    Parameters
    ----------
    pitch
        Usual distance of neighbouring spots, unit of ``centers``.
    config
        Of the covariance.
    halves
        (n, K) difference of the quantities between two halves of the counts, each half taken for the whole; ``None``
        if the noise is not known: then all that is particular to a spot counts as noise.
    apart
        Number of quantities, the last ones, that are components of their own.
    like
        An earlier fit at the same spots, whose covariance is taken over.
    """
    mean, nuggets = quantities.mean(axis=0), np.asarray(config.nuggets)
    rotation = _rotation(quantities - mean, apart)
    turn = rotation.T / np.square(rotation).sum(axis=1)
    components = (quantities - mean) @ turn
    noise = np.ones(len(rotation))
    if halves is not None:
        noise = np.square(halves @ turn).mean(axis=0) / 4  # each half has twice the noise
    if like is None:
        covariance = _choose(centers, features, components, np.square(rotation).sum(axis=1), pitch, config)
        values, vectors = _eigen(covariance, centers, features)
        inverses = np.stack([_inverse(values, vectors, nugget).astype(np.float32) for nugget in nuggets])
    else:
        covariance, values, vectors, inverses = like.covariance, like.values, like.vectors, like.inverses
    alphas = np.stack([inverse @ components for inverse in inverses])
    errors = np.stack([_left_out_errors(*pair) for pair in zip(inverses, alphas, strict=True)])
    shares = _shares(np.square(errors).mean(axis=1), len(centers), config.trust)
    scales = np.stack([(e**2 * np.diag(i)[:, None]).mean(axis=0) for e, i in zip(errors, inverses, strict=True)])
    predicted = components - np.einsum("gnq,gq->nq", errors, shares)
    slopes = (predicted * components).sum(axis=0) / np.maximum(np.square(predicted).sum(axis=0), 1e-12)
    slopes = np.clip(slopes, 0, _STEEPEST)
    part = np.maximum(nuggets[:, None] - noise / np.maximum(scales, 1e-12), 0)
    if halves is None:
        part, noise = np.zeros_like(part), np.einsum("gq,gq,g->q", shares, scales, nuggets)
    model = Components(nuggets, shares, scales, part, slopes, noise, rotation, mean)
    return Kriging(centers, features, covariance, vectors, values, inverses, alphas, components, model)


def _rotation(centred: Floats, apart: int) -> Floats:
    """(q, K) rows that turn uncorrelated components of variance 1 into quantities; orthogonal to each other."""
    shared, own = np.split(centred, [centred.shape[1] - apart], axis=1)
    _, sizes, right = np.linalg.svd(shared, full_matrices=False)
    kept = sizes > max(_LEAST_COMPONENT * sizes[0], 1e-12)
    spread = np.maximum(own.std(axis=0), 1e-12)
    return np.asarray(block_diag(sizes[kept, None] / np.sqrt(len(centred)) * right[kept], np.diag(spread)))


def _choose(
    centers: Floats, features: Floats, components: Floats, sizes: Floats, pitch: float, config: FieldConfig
) -> Covariance:
    """Use features if that helps to predict left-out spots of a compact piece of the section."""
    by_position = Covariance(pitch, np.inf, config)
    if not (config.use_features and features.any()):
        return by_position
    piece = np.argsort(np.square(centers - np.median(centers, axis=0)).sum(axis=1), kind="stable")[: config.choosing]
    apart = float(np.median(np.square(features[piece, None] - features[None, piece[:200]]).sum(axis=2)))
    if apart < _LEAST_APART:  # most of the image is the same: no length in which likeness fades
        return by_position
    options = (Covariance(pitch, config.likeness**2 * apart, config), by_position)

    def error(covariance: Covariance) -> float:
        values, vectors = _eigen(covariance, centers[piece], features[piece])
        inverses = [_inverse(values, vectors, nugget) for nugget in config.nuggets]
        squares = [np.square(_left_out_errors(i, i @ components[piece])).mean(axis=0) for i in inverses]
        return float(np.min(squares, axis=0) @ sizes)

    return min(options, key=error)


def _eigen(covariance: Covariance, centers: Floats, features: Floats) -> tuple[Floats, Floats]:
    matrix = covariance.between(centers, features, centers, features)
    values, vectors = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    return np.maximum(values, 0), vectors


def _inverse(values: Floats, vectors: Floats, nugget: float) -> Floats:
    """(n, n) inverse of a covariance with a nugget; of a product with its own transpose only one half is computed."""
    half = vectors / np.sqrt(values + nugget)
    return np.asarray(half @ half.T)


def _left_out_errors(inverse: Floats, alpha: Floats) -> Floats:
    """(n, q) errors when each spot is predicted from the others: weights over the diagonal of the inverse covariance."""
    return np.asarray(alpha / np.diag(inverse)[:, None])


def _shares(errors: Floats, n: int, trust: float) -> Floats:
    """(g, q) weights of the nuggets by their (g, q) mean squared errors at n left-out spots."""
    likelihood = -trust * n * np.log(np.maximum(errors, 1e-12))
    weights = np.exp(likelihood - likelihood.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))
