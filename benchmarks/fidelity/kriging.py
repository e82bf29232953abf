"""Kriging and co-kriging of principal components, in closed form and by brute force.

The covariance of two places is exp(-distance / (q pitches)) plus b times a linear kernel of the image's texture there.
Range q, weight b and nugget are chosen for each component by leaving out one spot at a time, which has a closed form.
Written apart from sphisto's own kriging on purpose.
"""

from functools import lru_cache

import numpy as np
from benchmarks.fidelity.baselines import standardised
from benchmarks.fidelity.cases import Prediction
from scipy.spatial.distance import cdist

from sphisto.features.texture import block_of, texture
from sphisto.scoring.metrics import log_normalised

RANGES = (2.0, 4.0)  # pitches
WEIGHTS = (0.3, 1.0, 3.0)  # of the texture's kernel, against 1 for position
NUGGETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0, 100.0)
LEAST_TEXTURE = 0.02  # singular value of a component of the texture, relative to the largest
CHUNK = 4_000  # regions at once


def of_logs(case, *, components, image):
    """Krige log-normalised values, and the logarithm of the total, which turns them back into counts."""
    counts = case.counts
    values = np.column_stack([log_normalised(counts), np.log(counts.sum(axis=1) + 1)])
    regions, left_out, note = krige(case, values, components=components, image=image, apart=1)

    def rates(logs):
        levels = np.maximum(np.expm1(logs[:, :-1]), 0)
        share = levels[:, case.scored] / np.maximum(levels.sum(axis=1, keepdims=True), 1e-9)
        return share * np.exp(logs[:, -1:])

    density = rates(regions) * _level(counts[:, case.scored], rates(left_out))
    return Prediction(case.in_counts(density), regions[:, case.scored], note=note)


def of_roots(case, *, components, image):
    """Krige square roots of counts, which evens out their noise and keeps the totals in the field."""
    counts = case.counts[:, case.scored]
    regions, left_out, note = krige(case, np.sqrt(counts), components=components, image=image)
    at_spots, at_regions = (np.square(np.maximum(roots, 0)) for roots in (left_out, regions))
    return Prediction(case.in_counts(at_regions * _level(counts, at_spots)), note=note)


def _level(measured, left_out):
    """(S,) factor by which each gene's left-out predictions fall short of what was measured, within reason.

    So that counts are right on average: the mean of a logarithm or a root is not that of the mean.
    """
    return np.clip(measured.sum(axis=0) / np.maximum(left_out.sum(axis=0), 1e-9), 0.2, 5.0)


def krige(case, values, *, components, image, apart=0):
    """Krige principal components of (n, q) values; the last ``apart`` columns are components of their own.

    Returns (m, q) values in the regions, (n, q) at each spot as predicted from the others, and what was chosen.
    """
    mean = values.mean(axis=0)
    shared, own = np.split(values - mean, [values.shape[1] - apart], axis=1)
    _, sizes, axes = np.linalg.svd(shared, full_matrices=False)
    axes = axes[: min(components, int((sizes > 1e-6 * sizes[0]).sum()))]
    z = np.column_stack([shared @ axes.T, own])
    spots, regions = textures(case) if image else (None, None)
    chosen = [(0.0, 0.0)] * z.shape[1]
    least, weights, left_out = np.full(z.shape[1], np.inf), np.zeros_like(z), np.zeros_like(z)
    for kernel in [(reach, weight) for reach in RANGES for weight in ((0.0, *WEIGHTS) if image else (0.0,))]:
        eigen, vectors = np.linalg.eigh(covariance(case, case.centers, spots, spots, *kernel))
        projected = vectors.T @ z
        for nugget in NUGGETS:
            inverse = 1 / (np.maximum(eigen, 0) + nugget)
            alpha = vectors @ (projected * inverse[:, None])
            error = alpha / (vectors**2 @ inverse)[:, None]
            mse = np.square(error).mean(axis=0)
            better = mse < least
            least[better], weights[:, better] = mse[better], alpha[:, better]
            left_out[:, better] = (z - error)[:, better]
            chosen = [kernel if b else old for b, old in zip(better, chosen, strict=True)]
    predicted, places = np.empty((len(case.regions), z.shape[1])), case.regions.centroids()
    for kernel in set(chosen):
        these = np.array([c == kernel for c in chosen])
        for start in range(0, len(predicted), CHUNK):
            part = slice(start, start + CHUNK)
            here = None if regions is None else regions[part]
            predicted[part, these] = covariance(case, places[part], here, spots, *kernel) @ weights[:, these]

    def back(field):
        return np.column_stack([field[:, : len(axes)] @ axes, field[:, len(axes) :]]) + mean

    note = ", ".join(f"{chosen.count(k)} of {k[0]:g}/{k[1]:g}" for k in sorted(set(chosen)))
    return back(predicted), back(left_out), f"range in pitches / weight of the texture: {note}"


@lru_cache(maxsize=1)
def textures(case):
    """Principal components of the texture at spots and regions, scaled to a linear kernel of mean diagonal 1.

    Kept for the next method of the same case: the seconds of the first hold them.
    """
    side = min(case.radius, np.sqrt(np.median(case.regions.area)))
    block = block_of(case.radius)
    stride = max(1, int(side // 2) // block) * block
    spots, regions = standardised(*case.pooled(texture(case.image, case.radius, stride), stride))
    _, sizes, axes = np.linalg.svd(spots, full_matrices=False)
    kept = sizes > LEAST_TEXTURE * sizes[0]
    # each component to variance 1, then weighted by the root of its size
    scale = np.sqrt(len(spots)) / np.sqrt(sizes[kept] * sizes[kept].sum())
    return spots @ axes[kept].T * scale, regions @ axes[kept].T * scale


def covariance(case, places, here, spots, reach, weight):
    """(places, spots) covariance, given the texture at places and spots where it has a weight."""
    out = np.exp(cdist(places, case.centers) / (-reach * case.slide.spots.pitch))
    return out + weight * (here @ spots.T) if weight > 0 else out
