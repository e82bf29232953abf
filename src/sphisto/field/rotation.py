"""Quantities as uncorrelated components, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

Floats = NDArray[np.floating]


def rotation_of(centred: Floats, apart: int) -> Floats:
    """(q, K) rotation of uncorrelated components of variance 1 into (n, K) quantities without their mean, its rows orthogonal.

    The last ``apart`` quantities are components of their own.
    """
    least_component = 0.001  # of the largest; smaller ones are rounding
    shared, own = np.split(centred, [centred.shape[1] - apart], axis=1)
    _, sizes, right = np.linalg.svd(shared, full_matrices=False)
    kept = sizes > max(least_component * sizes[0], 1e-12)
    deviation = np.maximum(own.std(axis=0), 1e-12)
    return np.asarray(block_diag(sizes[kept, None] / np.sqrt(len(centred)) * right[kept], np.diag(deviation)))


def inverse_of(rotation: Floats) -> Floats:
    """(K, q) inverse of a (q, K) rotation: from quantities to components."""
    return rotation.T / np.square(rotation).sum(axis=1)
