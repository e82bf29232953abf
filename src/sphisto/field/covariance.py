"""Covariance of places, by their distance and by how alike the image's features are there.

Three parts: that of places which are near *and* look alike, reaching far; that of places which are near; and that of
places which look alike, wherever they are. The last is linear in features of the image: a trend whose coefficients are
normal (kriging with random external drift).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import KDTree

from sphisto.field.config import FieldConfig

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariance of places, of variance 1 where the features are usual."""

    pitch: float  # usual distance of neighbouring spots
    # squared length of differences in features over which likeness fades; infinite if features are not used
    likeness: float
    config: FieldConfig  # ranges and weights

    @property
    def reach(self) -> float:
        """Distance from which only features matter."""
        return self.config.far * self.pitch

    @property
    def uses_features(self) -> bool:
        """Whether features enter."""
        return bool(np.isfinite(self.likeness))

    @property
    def at(self) -> float:
        """Variance of a place without its trend."""
        return 1 + self.config.near_weight

    def between(self, a: Floats, features_a: Floats, b: Floats, features_b: Floats) -> Floats:
        """(m, n) covariance, without the trend, of (m, 2) and (n, 2) places with (m, p) and (n, p) features."""
        distance = _distance(a, b)
        far = spherical(distance, self.reach)
        near = spherical(distance, self.config.near * self.pitch)
        near *= self.config.near_weight
        if self.uses_features:
            apart = features_a @ features_b.T
            apart *= -2
            apart += np.square(features_a).sum(axis=1)[:, None]
            apart += np.square(features_b).sum(axis=1)
            np.maximum(apart, 0, out=apart)
            apart *= np.asarray(-1 / (2 * self.likeness), dtype=apart.dtype)
            far *= np.exp(apart, out=apart)
        far += near
        return far

    def trend(self, features: Floats) -> Floats:
        """(m, p') functions of (m, p) features whose coefficients have variance 1; none where features do not enter."""
        if not (self.uses_features and self.config.alike_weight > 0):
            return features[:, :0]
        return features * np.asarray(np.sqrt(self.config.alike_weight), dtype=features.dtype)

    def within(self, a: Floats, b: Floats) -> sparse.csr_array:
        """(m, n) correlation within the surroundings of a spot: none from the next spot on."""
        pairs = KDTree(a).sparse_distance_matrix(KDTree(b), self.pitch, output_type="ndarray")
        entries = spherical(pairs["v"], self.pitch).astype(a.dtype), (pairs["i"], pairs["j"])
        return sparse.csr_array(entries, shape=(len(a), len(b)))


def _distance(a: Floats, b: Floats) -> Floats:
    squared = np.square(a[:, :1] - b[:, 0])
    squared += np.square(a[:, 1:] - b[:, 1])
    return np.sqrt(squared, out=squared)


def spherical(distance: Floats, reach: float) -> Floats:
    """Covariance by distance: 1 at none, falling about linearly to 0 at ``reach``."""
    h = distance * np.asarray(1 / reach, dtype=distance.dtype)
    np.minimum(h, 1, out=h)
    out = h * h  # (0.5 h^2 - 1.5) h + 1, in place: this is where the time goes
    out *= 0.5
    out -= 1.5
    out *= h
    out += 1
    return out
