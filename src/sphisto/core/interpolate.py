"""What neighbouring spots say about a place: Gaussian-weighted averages of their nearest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

_NEIGHBOURS = 24  # a hexagonal array holds 18 spots within two pitches and a bit; farther ones weigh next to nothing
_WIDTHS = (0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.4, 1.8)  # candidate widths, in pitches


def gaussian_weights(points: Floats, centers: Floats, width: float) -> sparse.csr_array:
    """Weights (points x spots) whose rows sum to one.

    Far from all spots the nearest one decides, so that every point gets a value.

    Parameters
    ----------
    points
        (m, 2) places, same unit as ``centers``.
    centers
        (n, 2) spot centres, n >= 1.
    width
        Standard deviation of the Gaussian; 0 gives the nearest spot.
    """
    near = min(_NEIGHBOURS if width > 0 else 1, len(centers))
    distance, spot = cKDTree(centers).query(points, k=near)
    distance, spot = distance.reshape(len(points), near), spot.reshape(len(points), near)
    return _normalised(distance, spot, width, len(centers))


def choose_width(centers: Floats, values: Floats, pitch: float) -> float:
    """Return the width (unit of ``pitch``) which predicts each spot best from the others.

    The error is measured on square roots, which evens out the noise of counts.

    Parameters
    ----------
    centers
        (n, 2) spot centres.
    values
        (n, k) non-negative values at the spots.
    pitch
        Distance of neighbouring spots.
    """
    if len(centers) < 3:
        return pitch * _WIDTHS[-1]
    near = min(_NEIGHBOURS + 1, len(centers))
    distance, spot = cKDTree(centers).query(centers, k=near)
    others = spot != np.arange(len(centers))[:, None]
    others[others.all(axis=1), -1] = False  # coinciding centres: the spot itself may be missing from its own list
    distance, spot = distance[others].reshape(-1, near - 1), spot[others].reshape(-1, near - 1)
    truth = np.sqrt(values)

    def error(width: float) -> float:
        weights = _normalised(distance, spot, width, len(centers))
        return float(np.square(np.sqrt(weights @ values) - truth).sum())

    return min((pitch * w for w in _WIDTHS), key=error)


def median_pitch(centers: Floats) -> float:
    """Return the usual distance of a spot to its nearest neighbour; infinite for a single spot."""
    if len(centers) < 2:
        return float("inf")
    return float(np.median(cKDTree(centers).query(centers, k=2)[0][:, 1]))


def _normalised(distance: Floats, spot: NDArray[np.int64], width: float, n_spots: int) -> sparse.csr_array:
    weight = np.ones_like(distance)
    if width > 0:
        # the nearest spot's exponent is taken out, so that rows far from all spots do not vanish
        weight = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * width**2))
    weight /= weight.sum(axis=1, keepdims=True)
    indptr = np.arange(len(distance) + 1) * distance.shape[1]
    return sparse.csr_array((weight.ravel(), spot.ravel(), indptr), shape=(len(distance), n_spots))
