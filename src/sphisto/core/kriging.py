"""Co-kriging of several quantities known at spots, in closed form.

The covariance of two places is that of their distance (spherical model) plus that of what the picture looks like
there (linear in texture features: kriging with random external drift), plus a nugget at the spots themselves. All
quantities are turned into uncorrelated components first; range and weight of the texture are chosen for all of them,
the nugget for each, by leaving out one spot at a time, which has a closed form. So has hiding many spots at once,
which the training does at every step.

Cressie (1993), Statistics for Spatial Data; Dubrule (1983) and Ginsbourger and Schaerer (2021) for left-out spots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Floats = NDArray[np.floating]

_RANGES = (3.0, 6.0, 12.0)  # pitches at which the covariance of distance ends
_DRIFTS = (0.0, 0.3, 1.0)  # variance that texture explains, against 1 for position
_NUGGETS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)  # variance at a single spot; the largest leaves nothing but the mean
_CHOOSING = 1_000  # spots on which range and weight are chosen: a compact piece of the section
_LEAST_COMPONENT = 1e-3  # of the largest; smaller ones are rounding


@dataclass(frozen=True, eq=False)
class Kriging:
    """A field known at n spots.

    Parameters
    ----------
    centers
        (n, 2) spot centres.
    drift
        (n, p) texture at the spots, scaled to a mean squared length of 1.
    reach
        Distance at which the covariance of position ends, unit of ``centers``.
    drift_weight
        Variance of the texture's part, against 1 for position.
    vectors, values
        (n, n) and (n,) eigenvectors and eigenvalues of the covariance without nugget.
    nuggets
        (q,) nugget of each component.
    components
        (n, q) components at the spots.
    rotation
        (q, K) from components to quantities.
    mean
        (K,) mean of the quantities.
    """

    centers: Floats
    drift: Floats
    reach: float
    drift_weight: float
    vectors: Floats
    values: Floats
    nuggets: Floats
    components: Floats
    rotation: Floats
    mean: Floats

    def weights(self, hidden: NDArray[np.bool_]) -> Floats:
        """(n, q) weights of the spots' covariances if the ``hidden`` (n,) spots were not known; theirs are zero."""
        alpha = np.empty_like(self.components)
        projected = self.vectors.T @ self.components
        rows = self.vectors[hidden]
        for nugget in np.unique(self.nuggets):
            these = self.nuggets == nugget
            inverse = 1 / (self.values + nugget)
            alpha[:, these] = self.vectors @ (projected[:, these] * inverse[:, None])
            if len(rows):
                within = (rows * inverse) @ rows.T
                told = np.linalg.solve(within, alpha[hidden][:, these])
                alpha[:, these] -= self.vectors @ ((rows.T @ told) * inverse[:, None])
        alpha[hidden] = 0
        return alpha

    def at(self, points: Floats, drift: Floats, weights: Floats) -> Floats:
        """(m, K) field at (m, 2) points with (m, p) texture, under given weights of the spots."""
        near = weights.any(axis=1)
        low, high = points.min(axis=0) - self.reach, points.max(axis=0) + self.reach
        near &= ((self.centers >= low) & (self.centers <= high)).all(axis=1)
        # weights are solved in double precision: rounding would differ from process to process and be amplified;
        # here single precision is enough, and twice as fast
        single = points.astype(np.float32), self.centers[near].astype(np.float32)
        field = (_spherical(*single, self.reach) @ weights[near].astype(np.float32)).astype(np.float64)
        if self.drift_weight > 0:
            field += drift @ (self.drift_weight * (self.drift.T @ weights))
        return field @ self.rotation + self.mean

    def at_spots(self) -> Floats:
        """(n, K) field at the spots themselves, freed of what is noise at a single spot."""
        alpha = self.weights(np.zeros(len(self.centers), dtype=bool))
        return (self.components - self.nuggets * alpha) @ self.rotation + self.mean

    def left_out(self) -> Floats:
        """(n, K) field at each spot as told by all the others."""
        error = _left_out_errors(self.vectors, self.values, self.components, self.nuggets)
        return (self.components - error) @ self.rotation + self.mean


def fit_kriging(centers: Floats, drift: Floats, quantities: Floats, pitch: float) -> Kriging:
    """Choose the covariance of (n, K) quantities at (n, 2) centres, given the spots' (n, p) texture.

    ``pitch`` is the usual distance of neighbouring spots, unit of ``centers``.
    """
    mean = quantities.mean(axis=0)
    left, sizes, right = np.linalg.svd(quantities - mean, full_matrices=False)
    kept = sizes > max(_LEAST_COMPONENT * sizes[0], 1e-12)
    scale = sizes[kept] / np.sqrt(len(centers))
    components = left[:, kept] * np.sqrt(len(centers))
    piece = np.argsort(np.square(centers - np.median(centers, axis=0)).sum(axis=1), kind="stable")[:_CHOOSING]
    best = (np.inf, _RANGES[0] * pitch, 0.0)
    for reach in (r * pitch for r in _RANGES):
        for drift_weight in _DRIFTS:
            values, vectors = _eigen(centers[piece], drift[piece], reach, drift_weight)
            error = _by_nugget(vectors, values, components[piece]).min(axis=0) @ scale**2
            best = min(best, (float(error), reach, drift_weight))
    _, reach, drift_weight = best
    values, vectors = _eigen(centers, drift, reach, drift_weight)
    nuggets = np.asarray(_NUGGETS)[_by_nugget(vectors, values, components).argmin(axis=0)]
    return Kriging(
        centers, drift, reach, drift_weight, vectors, values, nuggets, components, scale[:, None] * right[kept], mean
    )


def _spherical(a: Floats, b: Floats, reach: float) -> Floats:
    """Covariance of places by distance: 1 at none, falling about linearly to 0 at ``reach``."""
    h = np.square(a[:, :1] - b[:, 0])
    h += np.square(a[:, 1:] - b[:, 1])
    np.sqrt(h, out=h)
    h /= reach
    np.minimum(h, 1, out=h)
    return np.asarray((0.5 * h * h - 1.5) * h + 1)


def _eigen(centers: Floats, drift: Floats, reach: float, drift_weight: float) -> tuple[Floats, Floats]:
    covariance = _spherical(centers, centers, reach) + drift_weight * (drift @ drift.T)
    values, vectors = eigh(covariance, driver="evd", overwrite_a=True, check_finite=False)
    return np.maximum(values, 0), vectors


def _left_out_errors(vectors: Floats, values: Floats, components: Floats, nuggets: Floats) -> Floats:
    """(n, q) errors when each spot is told by the others: weights over the diagonal of the inverse covariance."""
    out = np.empty_like(components)
    projected = vectors.T @ components
    for nugget in np.unique(nuggets):
        these = nuggets == nugget
        inverse = 1 / (values + nugget)
        out[:, these] = vectors @ (projected[:, these] * inverse[:, None]) / (vectors**2 @ inverse)[:, None]
    return out


def _by_nugget(vectors: Floats, values: Floats, components: Floats) -> Floats:
    """(nuggets, q) mean squared errors of left-out spots."""
    n = components.shape[1]
    return np.stack(
        [
            np.square(_left_out_errors(vectors, values, components, np.full(n, nugget))).mean(axis=0)
            for nugget in _NUGGETS
        ]
    )
