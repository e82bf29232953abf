"""Kriging and co-kriging of principal components, in closed form and by brute force.

The covariance of two places is exp(-distance / (q pitches)) plus b times a linear kernel of what the picture looks like
there. Range q, weight b and nugget are chosen for each component by leaving out one spot at a time, which has a closed
form. Written apart from sphisto's own kriging on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.methods.looks import standardised, stride_of, textures

from sphisto.scoring.metrics import log_normalised

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats

RANGES = (2.0, 4.0)  # pitches
WEIGHTS = (0.3, 1.0, 3.0)  # of the picture's kernel, against 1 for position
NUGGETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 10.0, 100.0)
LEAST_LOOK = 0.02  # singular value of a component of the picture, relative to the largest
CHUNK = 4_000  # regions at once


def kriging_logs(case: Case, *, components: int, picture: bool) -> Prediction:
    """Krige log-normalised values, and the logarithm of the total, which turns them back into counts.

    Rates are shares of the kriged total. The mean of a logarithm is not the logarithm of a mean: so that counts are
    right on average, each gene is scaled such that its left-out training spots sum to what they measured.
    """
    counts = case.counts
    values = np.column_stack([log_normalised(counts), np.log(counts.sum(axis=1) + 1)])
    field = krige(case, values, components=components, picture=picture, apart=1)

    def rates(logs: Floats) -> Floats:
        levels = np.maximum(np.expm1(logs[:, :-1]), 0)
        share = levels[:, case.scored] / np.maximum(levels.sum(axis=1, keepdims=True), 1e-9)
        return np.asarray(share * np.exp(logs[:, -1:]))

    density = rates(field.regions) * level(counts[:, case.scored], rates(field.left_out))
    return Prediction(case.in_counts(density), field.regions[:, case.scored], field.note)


def kriging_roots(case: Case, *, components: int, picture: bool) -> Prediction:
    """Krige square roots of counts, which evens out their noise and keeps the totals in the field."""
    counts = case.counts[:, case.scored]
    field = krige(case, np.sqrt(counts), components=components, picture=picture)
    at_spots, at_regions = (np.square(np.maximum(roots, 0)) for roots in (field.left_out, field.regions))
    return Prediction(case.in_counts(at_regions * level(counts, at_spots)), note=field.note)


def level(measured: Floats, left_out: Floats) -> Floats:
    """(S,) factor by which each gene's left-out predictions fall short of what was measured, within reason."""
    ratio = measured.sum(axis=0) / np.maximum(left_out.sum(axis=0), 1e-9)
    return np.clip(ratio, 0.2, 5.0)


@dataclass(frozen=True, eq=False)
class Field:
    """Kriged values: (m, q) in the regions, (n, q) at each spot as told by the others."""

    regions: Floats
    left_out: Floats
    note: str


def krige(case: Case, values: Floats, *, components: int, picture: bool, apart: int = 0) -> Field:
    """Krige principal components of (n, q) values; the last ``apart`` columns are components of their own."""
    n = len(values)
    mean = values.mean(axis=0)
    shared, own = np.split(values - mean, [values.shape[1] - apart], axis=1)
    _, sizes, axes = np.linalg.svd(shared, full_matrices=False)
    axes = axes[: min(components, int((sizes > 1e-6 * sizes[0]).sum()))]
    z = np.column_stack([shared @ axes.T, own])
    looks = seen(case) if picture else None
    chosen: list[tuple[float, float]] = [(0.0, 0.0)] * z.shape[1]
    least, weights, told = np.full(z.shape[1], np.inf), np.zeros_like(z), np.zeros_like(z)
    for reach in RANGES:
        for weight in (0.0, *WEIGHTS) if picture else (0.0,):
            eigen, vectors = np.linalg.eigh(covariance(case, case.centers, looks, reach, weight))
            projected = vectors.T @ z
            for nugget in NUGGETS:
                inverse = 1 / (np.maximum(eigen, 0) + nugget)
                alpha = vectors @ (projected * inverse[:, None])
                error = alpha / (vectors**2 @ inverse)[:, None]
                mse = np.square(error).mean(axis=0)
                better = mse < least
                least[better], weights[:, better], told[:, better] = (
                    mse[better],
                    alpha[:, better],
                    (z - error)[:, better],
                )
                chosen = [(reach, weight) if b else old for b, old in zip(better, chosen, strict=True)]
    predicted = np.empty((len(case.regions), z.shape[1]))
    for kernel in set(chosen):
        these = np.array([c == kernel for c in chosen])
        for start in range(0, len(predicted), CHUNK):
            part = slice(start, start + CHUNK)
            across = covariance(case, case.regions.centers[part], looks, *kernel, part=part)
            predicted[part, these] = across @ weights[:, these]

    def back(field: Floats) -> Floats:
        k = len(axes)
        return np.column_stack([field[:, :k] @ axes, field[:, k:]]) + mean

    note = ", ".join(f"{chosen.count(k)} of {k[0]:g}/{k[1]:g}" for k in sorted(set(chosen)))
    return Field(back(predicted), back(told), f"range in pitches / weight of the picture: {note}; {n} spots")


def seen(case: Case) -> tuple[Floats, Floats]:
    """Principal components of the texture at spots and regions, scaled to a linear kernel of mean diagonal 1."""
    stride = stride_of(case)
    spots, regions = standardised(*case.pooled(textures(case, stride), stride))
    _, sizes, axes = np.linalg.svd(spots, full_matrices=False)
    kept = sizes > LEAST_LOOK * sizes[0]
    # each component to variance 1, then weighted by the root of its size
    scale = np.sqrt(len(spots)) / np.sqrt(sizes[kept] * sizes[kept].sum())
    return spots @ axes[kept].T * scale, regions @ axes[kept].T * scale


def covariance(
    case: Case,
    places: Floats,
    looks: tuple[Floats, Floats] | None,
    reach: float,
    weight: float,
    part: slice | None = None,
) -> Floats:
    """(places, spots) covariance; ``part`` says which regions the places are, otherwise they are the spots."""
    from scipy.spatial.distance import cdist

    out = np.exp(cdist(places, case.centers) / (-reach * case.pitch))
    if looks is not None and weight > 0:
        spots, regions = looks
        out += weight * ((spots if part is None else regions[part]) @ spots.T)
    return np.asarray(out)
