"""Gaussian-weighted averages of the spots around: a field without a covariance, and the baseline of all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from sphisto.core.pieces import in_pieces
from sphisto.core.splits import evenly_spread

if TYPE_CHECKING:  # the baseline of the benchmarks is computed anew when what this module imports has changed
    from sphisto.core.tiles import Window
    from sphisto.features.maps import SectionFeatures
    from sphisto.field.config import FieldConfig
    from sphisto.genes.model import GeneModel
    from sphisto.genes.observations import Observations

Floats = NDArray[np.float64]


def gaussian_weights(points: Floats, centers: Floats, width: float, *, neighbours: int = 24) -> sparse.csr_array:
    """Weights (points x spots) whose rows sum to one.

    Far from all spots the nearest one decides, so that every point gets a value.

    (m, 2) points and (n, 2) centres, n >= 1, are of one unit, and so is the standard deviation ``width``; 0 gives the
    nearest spot. Of ``neighbours`` a hexagonal array holds 18 within two pitches and a bit; farther ones hardly count.
    """
    near = min(neighbours if width > 0 else 1, len(centers))
    distance, spot = cKDTree(centers).query(points, k=near)
    distance, spot = distance.reshape(len(points), near), spot.reshape(len(points), near)
    return _normalised(distance, spot, width, len(centers))


def choose_width(
    centers: Floats,
    values: Floats | sparse.csr_array,
    pitch: float,
    *,
    widths: tuple[float, ...] = (0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.4, 1.8),
    neighbours: int = 24,
    at_once: int = 2**22,
) -> float:
    """Return the width (unit of ``pitch``) which predicts each spot best from the others.

    The error is measured on square roots, which evens out the noise of counts.

    (n, k) values are not negative; ``widths`` are tried, in pitches; ``at_once`` values are in memory together.
    """
    if len(centers) < 3:
        return pitch * widths[-1]
    near = min(neighbours + 1, len(centers))
    distance, spot = cKDTree(centers).query(centers, k=near)
    others = spot != np.arange(len(centers))[:, None]
    others[others.all(axis=1), -1] = False  # coinciding centres: the spot itself may be missing from its own list
    distance, spot = distance[others].reshape(-1, near - 1), spot[others].reshape(-1, near - 1)
    weights = [_normalised(distance, spot, pitch * width, len(centers)) for width in widths]
    errors = np.zeros(len(widths))
    for some in in_pieces(values.shape[1], len(centers), at_once=at_once):
        known = values[:, some].toarray() if isinstance(values, sparse.csr_array) else values[:, some]
        errors += [np.square(np.sqrt(each @ known) - np.sqrt(known)).sum() for each in weights]
    return pitch * widths[int(errors.argmin())]


@dataclass(frozen=True, eq=False)
class Averaged:
    """Weighted averages of densities, by position alone."""

    centers: Floats  # (n, 2) centres of the known observations in px
    densities: Floats  # (n, K) theirs
    width: float  # standard deviation of the Gaussian weights in px
    # (K,) variance of a spot's density around what the others predict, noise of counting aside if that is known
    spread: Floats
    uses_features = False

    def given(self, hidden: NDArray[np.int64], window: Window | None = None) -> Averaged:
        """Average all but the ``hidden`` (h,) observations, wherever the field will be read."""
        known = np.delete(np.arange(len(self.centers)), hidden)
        return replace(self, centers=self.centers[known], densities=self.densities[known])

    def density(self, points: Floats) -> Floats:
        """(m, K) densities at (m, 2) points."""
        return np.asarray(gaussian_weights(points, self.centers, self.width) @ self.densities)

    def rate_variance(self, points: Floats, density: NDArray[np.floating], model: GeneModel) -> Floats:
        """(m, G) variance of the genes' rates, the same everywhere."""
        variance = np.square(model.loadings) @ self.spread
        return np.broadcast_to(variance, (len(points), len(variance)))

    def leave_one_out(self, most: int, model: GeneModel) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Predict observations from all others: which (m,), (m, K) density, (m, G) variance of the genes' rates."""
        rows = evenly_spread(len(self.centers), most)
        density = _from_others(rows, self.centers, self.densities, self.width)
        return rows, density, self.rate_variance(self.centers[rows], density, model)


def fit_gaussian(observations: Observations, _features: SectionFeatures | None, _config: FieldConfig) -> Averaged:
    """Choose the width of the weights by left-out spots, and learn how far densities spread around the averages."""
    # by roots, which contrasts have none of
    width = choose_width(observations.centers, observations.plain, observations.pitch)
    rows = np.arange(len(observations))
    predicted = _from_others(rows, observations.centers, observations.density, width)
    spread = np.square(predicted - observations.density).mean(axis=0)
    if observations.halves is not None:
        first, second = observations.halves
        spread -= np.square(first - second).mean(axis=0) / 4  # each half has twice the noise
    return Averaged(observations.centers, observations.density, width, np.maximum(spread, 0))


def _from_others(rows: NDArray[np.int64], centers: Floats, density: Floats, width: float) -> Floats:
    """(m, K) weighted density at some spots, without their own; the mean where nobody else is near."""
    least_weight = 1e-9  # no division by none
    least_others = 0.001  # of the weights at a spot; with less, nobody else is near
    weights = gaussian_weights(centers[rows], centers, width)
    own = np.asarray(weights[np.arange(len(rows)), rows]).ravel()[:, None]
    others = (weights @ density - own * density[rows]) / np.maximum(1 - own, least_weight)
    return np.where(own < 1 - least_others, others, density.mean(axis=0))


def _normalised(distance: Floats, spot: NDArray[np.int64], width: float, n_spots: int) -> sparse.csr_array:
    weight = np.ones_like(distance)
    if width > 0:
        # the nearest spot's exponent is taken out, so that rows far from all spots do not vanish
        weight = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * width**2))
    weight /= weight.sum(axis=1, keepdims=True)
    indptr = np.arange(len(distance) + 1) * distance.shape[1]
    return sparse.csr_array((weight.ravel(), spot.ravel(), indptr), shape=(len(distance), n_spots))
