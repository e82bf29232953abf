"""Features that several sections share: standardised alike, turned to the same components, and functions of them.

Functions of features stand for a covariance by likeness (Nystroem's approximation; Williams and Seeger 2001, NeurIPS): a
regression on them costs the same whatever the number of observations that taught it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.pieces import in_pieces
from sphisto.core.splits import at_most
from sphisto.features.components import basis_of, moments, standardised
from sphisto.features.config import DriftConfig
from sphisto.features.maps import FeatureMaps
from sphisto.slide.slide import Slide

Floats = NDArray[np.floating]
Scaling = Literal["section", "pooled"]
SCALINGS: tuple[Scaling, ...] = ("section", "pooled")


@dataclass(frozen=True, eq=False)
class SharedFeatures:
    """How features of any section become functions that a regression over sections is linear in."""

    # mean, sd: (p,) of the features over sites on the tissue of all sections that taught
    mean: Floats
    sd: Floats
    weight: Floats  # (p,) of each feature once it is standardised
    basis: Floats  # (p, q) from weighted features to components of a mean squared length of 1
    landmarks: Floats  # (m, q) components at some sites
    whitening: Floats  # (m, r) by which likeness to landmarks becomes r functions
    length: float  # squared length of differences in components over which likeness fades
    linear: float  # weight of functions that are linear in components
    # (s, p) standardised features of some sites, as far as they are known to the sections that taught
    known: NDArray[np.float32]
    usual: float  # distance of features to known ones that 99 % of the sites keep to
    scaling: Scaling  # "section": features are standardised in each section by itself; "pooled": as in all that taught

    @property
    def n_functions(self) -> int:
        """Number of functions."""
        return self.basis.shape[1] + self.whitening.shape[1]

    def of(self, slide: Slide, maps: FeatureMaps) -> BoundFeatures:
        """Bring the features of a section, as they were read, to these components."""
        own = moments(maps.at_spots(sites(slide))) if self.scaling == "section" else (self.mean, self.sd)
        return BoundFeatures(slide.name, self, maps, *own)

    def functions(self, components: Floats) -> Floats:
        """(m, T) functions of (m, q) components; the squares of each row's sum to no more than its variance."""
        return np.hstack([np.sqrt(self.linear) * components, self._likeness(components) @ self.whitening])

    def applied(self, components: Floats, coefficients: Floats) -> Floats:
        """(m, Q) sums of the functions at (m, q) components, times (T, Q) coefficients, without these functions in between."""
        n_linear = self.basis.shape[1]
        of_landmarks = self.whitening @ coefficients[n_linear:]
        out = np.sqrt(self.linear) * (components @ coefficients[:n_linear])
        for some in in_pieces(len(components), len(self.landmarks)):
            out[some] += self._likeness(components[some]) @ of_landmarks
        return np.asarray(out)

    def _likeness(self, components: Floats) -> Floats:
        """(m, landmarks) covariance of (m, q) components with those of the landmarks."""
        return _alike(_squares(components, self.landmarks), self.length)

    def variance(self, components: Floats) -> Floats:
        """(m,) prior variance at (m, q) components, that which landmarks do not see included."""
        return 1 + self.linear * np.square(components).sum(axis=1)

    def shift(self, standardised: Floats) -> NDArray[np.float64]:
        """(m,) distance of (m, p) features from all known ones, over what 99 % of the known keep to."""
        farthest = 50.0  # standard deviations: beyond, a place is as strange as it can be
        found = np.empty(len(standardised))
        for some in in_pieces(len(standardised), len(self.known)):
            part = np.clip(standardised[some], -farthest, farthest).astype(np.float32)
            found[some] = _squares(part, self.known).min(axis=1)
        return np.sqrt(found) / self.usual


@dataclass(frozen=True, eq=False)
class BoundFeatures:
    """Shared features of one section."""

    name: str  # of the section
    shared: SharedFeatures  # of which they are
    maps: FeatureMaps  # features of the section as they were read
    # mean, sd: (p,) by which they are standardised
    mean: Floats
    sd: Floats

    def over(self, area: float) -> BoundFeatures:
        """Return the same features, averaged over that many times the area at a spot: squares of bins."""
        return replace(self, maps=self.maps.over(area))

    def at(self, points: NDArray[np.float64]) -> Floats:
        """(m, q) components at (m, 2) points (y, x) in px."""
        return self._components(self.maps.at(points))

    def at_spots(self, centers: NDArray[np.float64]) -> Floats:
        """(n, q) components over spots around (n, 2) centres."""
        return self._components(self.maps.at_spots(centers))

    def shift(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) how far (m, 2) points are from all that is known, over what is usual there."""
        return self.shared.shift((self.maps.at(points) - self.shared.mean) / self.shared.sd)

    def _components(self, features: Floats) -> Floats:
        own = standardised(features.astype(np.float64), self.mean, self.sd)
        return np.asarray((own * self.shared.weight) @ self.shared.basis)


def sites(slide: Slide) -> NDArray[np.float64]:
    """(s, 2) places (y, x) in px, a pitch apart, where a spot would lie on tissue; farther apart where there are very many."""
    most_sites = 5_000
    on_tissue = 0.5  # share of a site
    height, width = slide.grid.shape
    step = max(slide.pitch, float(np.sqrt(height * width / (4 * most_sites))))
    y, x = np.meshgrid(np.arange(step / 2, height, step), np.arange(step / 2, width, step), indexing="ij")
    centers = np.stack([y, x], axis=-1).reshape(-1, 2)
    if len(centers):
        covered = np.nan_to_num(LazyFootprint(slide.spot, slide.grid, centers).mean(slide.tissue)[:, 0])
        centers = centers[covered > on_tissue]
    if not len(centers):
        msg = (
            f"Found no tissue in {slide.name!r} on which a spot of {slide.spot.um:g} um has room; expected a section whose "
            "features can be compared. Give `tissue` to `sphisto.io.section`."
        )
        raise ValueError(msg)
    return centers


def share_features(
    slides: Sequence[Slide], maps: Sequence[FeatureMaps], scaling: Scaling, config: DriftConfig, seed: int
) -> SharedFeatures:
    """Find components and functions that the features of several sections share, from sites on their tissue.

    ``maps`` are the features of each section as they were read.
    """
    least_value = 1e-6  # of the largest eigenvalue; smaller ones are rounding
    found = [each.at_spots(sites(slide)) for slide, each in zip(slides, maps, strict=True)]
    mean, sd = moments(np.concatenate(found))
    weight = maps[0].weight if maps[0].weight is not None else np.ones(len(mean))
    own = [standardised(each, *(moments(each) if scaling == "section" else (mean, sd))) * weight for each in found]
    every = np.concatenate(own)
    basis = basis_of(every)
    if basis is None:  # blank images
        basis = np.eye(every.shape[1], 1)
    components, rng = every @ basis, np.random.default_rng(seed)
    landmarks = _some(components, config.landmarks, rng)
    length = max(float(np.median(_squares(_some(components, 400, rng), landmarks))), 1e-6)
    values, vectors = np.linalg.eigh(_alike(_squares(landmarks, landmarks), length))
    large = values > least_value * values[-1]
    away = [(each - mean) / sd for each in found]
    known = [_some(each, max(config.known // len(away), 1), rng) for each in away]
    return SharedFeatures(
        mean, sd, np.asarray(weight, dtype=np.float64), basis, landmarks, vectors[:, large] / np.sqrt(values[large]),
        length, config.linear, np.concatenate(known).astype(np.float32), _usual(away, known), scaling,
    )  # fmt: skip


def _usual(away: Sequence[Floats], known: Sequence[Floats]) -> float:
    """Distance of features to the nearest known ones that 99 % keep to: those of other sections, or of other strips of one."""
    strips = 3  # of a section, which stand for sections where there is one alone
    if len(away) == 1:  # sites lie in rows; a neighbour is more alike than any place of another section is
        away = [strip for strip in np.array_split(away[0], strips) if len(strip)]
        known = away
    others = [np.concatenate([k for j, k in enumerate(known) if j != i] or [known[i]]) for i in range(len(away))]
    found = [KDTree(other).query(each)[0] for each, other in zip(away, others, strict=True)]
    return max(float(np.quantile(np.concatenate(found), 0.99)), 1e-6)


def _some(rows: Floats, most: int, rng: np.random.Generator) -> Floats:
    return rows[at_most(np.arange(len(rows)), most, rng)]


def _squares(a: Floats, b: Floats) -> Floats:
    apart = np.square(a).sum(axis=1)[:, None] - 2 * (a @ b.T) + np.square(b).sum(axis=1)
    return np.asarray(np.maximum(apart, 0))


def _alike(apart: Floats, length: float) -> Floats:
    """Covariance by squared differences of features: a mixture of a narrow and a wide Gaussian."""
    return np.asarray(0.5 * np.exp(-apart / (0.3 * length)) + 0.5 * np.exp(-apart / length))
