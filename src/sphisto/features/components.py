"""Standardised features, and the principal components of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

EXTREME = 4.0
"""Standard deviations at which features are cut off."""


def moments(features: Floats) -> tuple[Floats, Floats]:
    """(p,) mean and standard deviation of (n, p) features, by which they are standardised."""
    return features.mean(axis=0), features.std(axis=0) + 1e-6


def standardised(features: Floats, mean: Floats, sd: Floats) -> Floats:
    """(n, p) features standardised, without extremes."""
    out = features - mean.astype(features.dtype)
    out /= sd.astype(features.dtype)
    return np.asarray(np.clip(out, -EXTREME, EXTREME, out=out))


def basis_of(features: Floats) -> NDArray[np.float64] | None:
    """(p, q) from (n, p) standardised features to components of a mean squared length of 1; ``None`` if all are the same.

    Each component is weighted by the root of its spread: between whitened components and those as they come.
    """
    least_feature = 0.02  # of the largest principal component
    _, sizes, axes = np.linalg.svd(features, full_matrices=False)
    kept = sizes > max(least_feature * sizes[0], 1e-9)
    if not kept.any():
        return None
    return np.asarray(axes[kept].T / np.sqrt(sizes[kept] * sizes[kept].sum() / len(features)))
