"""Sum up what sections say about how factors follow features: roots of densities, as far as they differ from a section's mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sphisto.features.config import DriftConfig
from sphisto.features.shared import BoundFeatures, SharedFeatures
from sphisto.field.drift import Drift
from sphisto.field.neighbours import Neighbour
from sphisto.field.regression import Regression, Sums
from sphisto.field.roots import ANSCOMBE, Roots, composition_error
from sphisto.field.rotation import inverse_of, rotation_of
from sphisto.genes.observations import Observations
from sphisto.slide.frames import GridInFrame

Floats = NDArray[np.floating]


def regress(
    features: SharedFeatures,
    sections: Sequence[tuple[str, Observations, BoundFeatures]],
    config: DriftConfig,
    *,
    least_sum: float,
    placed: Sequence[GridInFrame] = (),
) -> Regression:
    """Sum up what c sections say about how factors follow features.

    Each section has a name, observations at the usual depth, and features. ``least_sum`` is counts in the usual spot
    from which densities may be brought to a common sum; ``placed`` is empty if what sections measured is not to be
    kept.
    """
    density = np.concatenate([observations.density for _, observations, _ in sections])
    mean, n_contrasts = density.mean(axis=0), sections[0][1].n_contrasts
    total = float(mean[: len(mean) - n_contrasts].sum())
    area = min(observations.area for _, observations, _ in sections)
    levels = [None, total] if total * area >= least_sum else [None]
    tried = [
        _regressed(features, sections, Roots(mean, n_contrasts, level, ANSCOMBE / area), config, placed)
        for level in levels
    ]
    sizes = np.array([len(observations) for _, observations, _ in sections])
    # by how well each section is predicted from the others, which counts the more the more of them there is
    weights = (sizes.sum() - sizes) / sizes if len(sections) > 1 else np.ones(1)

    def error(each: Regression) -> float:
        return float(weights @ [_composition_error(each, *section) for section in sections])

    return min(tried, key=error)


def _regressed(
    features: SharedFeatures,
    sections: Sequence[tuple[str, Observations, BoundFeatures]],
    roots: Roots,
    config: DriftConfig,
    placed: Sequence[GridInFrame],
) -> Regression:
    quantities = [roots.quantities(observations.density) for _, observations, _ in sections]
    centred = [each - each.mean(axis=0) for each in quantities]
    rotation = rotation_of(np.concatenate(centred), 1 + roots.n_contrasts)
    turn = inverse_of(rotation)
    noise = np.zeros(len(rotation))
    if all(observations.halves is not None for _, observations, _ in sections):
        apart = [roots.quantities(o.halves[0]) - roots.quantities(o.halves[1]) for _, o, _ in sections if o.halves]
        noise = np.square(np.concatenate(apart) @ turn).mean(axis=0) / 4
    pieces, neighbours = [], []
    for number, ((_, observations, bound), each) in enumerate(zip(sections, centred, strict=True)):
        looks, components = bound.at_spots(observations.centers), each @ turn
        functions = features.functions(looks)
        if placed:
            neighbours.append(_neighbour(placed[number], observations, looks, components))
        parts = _parts(observations.centers) if len(sections) <= 2 else [np.arange(len(each))]
        pieces.append(tuple(_sums(functions[part], components[part]) for part in parts))
    every = np.concatenate(quantities)
    names = tuple(name for name, _, _ in sections)
    return Regression(
        features, roots, np.mean([each.mean(axis=0) for each in quantities], axis=0), np.square(every).mean(axis=0),
        rotation, noise, names, tuple(pieces), config, tuple(neighbours),
    )  # fmt: skip


def _neighbour(placed: GridInFrame, observations: Observations, features: Floats, components: Floats) -> Neighbour:
    pitch_um = observations.pitch * placed.grid.um_per_px
    places = placed.common(observations.centers)
    return Neighbour(placed.frame, places, pitch_um, features.astype(np.float32), components.astype(np.float32))


def _parts(centers: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Rows of the pieces of a section, cut across its longer side, of about equally many spots."""
    pieces = 4  # of a section, along its longer side
    along = centers[:, int(np.argmax(np.ptp(centers, axis=0)))]
    return [part for part in np.array_split(np.argsort(along, kind="stable"), pieces) if len(part)]


def _sums(functions: Floats, components: Floats) -> Sums:
    return Sums(len(functions), functions.T @ functions, functions.T @ components, np.square(components).sum(axis=0))


def _composition_error(regression: Regression, name: str, observations: Observations, bound: BoundFeatures) -> float:
    """How far the composition of a section's spots is from what the other sections, or all if there are none, say of it."""
    drift = Drift(regression.without(name) if len(regression.sections) > 1 else regression, bound)
    found = drift.roots.density(regression.mean + drift.at_spots(observations.centers), drift.gain())
    return composition_error(found, observations.density, drift.roots.n_plain)
