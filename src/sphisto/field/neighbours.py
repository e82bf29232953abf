"""What registered sections measured at a place, beyond what features of the image tell.

An average over the observations near by, weighted by a Gaussian of the distance and by how many sections lie between, and
drawn to zero by pseudo-observations: a little of what is true of a section at a place holds in the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from sphisto.core.pieces import in_pieces
from sphisto.features.config import DriftConfig
from sphisto.slide.frames import Frame

Floats = NDArray[np.floating]

_MOST = 48  # observations of a section around a place


@dataclass(frozen=True, eq=False)
class Neighbour:
    """What one section measured, where it lies among others."""

    frame: Frame  # of the section
    places: NDArray[np.float64]  # (n, 2) its observations y, x in um of the common frame
    pitch_um: float  # usual distance of neighbouring ones
    features: NDArray[np.float32]  # (n, q) components of the features there
    # (n, Q) what they measured, as components of the quantities, as far as they differ from the section's mean
    components: NDArray[np.float32]

    @cached_property
    def tree(self) -> KDTree:
        """Of its places."""
        return KDTree(self.places)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What the sections that lie upon one say of its places."""

    frame: Frame  # of the section that is predicted
    sections: Sequence[Neighbour]  # those that lie upon it
    rest: Sequence[Floats]  # of each: (n, Q) what its observations measured beyond what features tell
    config: DriftConfig  # how far and how firmly they count

    def at(self, places: NDArray[np.float64]) -> Floats:
        """(m, Q) expected beyond features at (m, 2) places y, x in um of the common frame."""
        parts = in_pieces(len(places), _MOST * self.rest[0].shape[1])  # the neighbours of all at once would take GB
        return np.concatenate([self._at(places[some]) for some in parts])

    def _at(self, places: NDArray[np.float64]) -> Floats:
        end = 3.0  # standard deviations at which a Gaussian ends
        sums, weights = np.zeros((len(places), self.rest[0].shape[1])), np.zeros((len(places), 1))
        for each, rest in zip(self.sections, self.rest, strict=True):
            far = self.config.near * each.pitch_um
            found, rows = each.tree.query(places, k=range(1, min(_MOST, len(rest)) + 1), distance_upper_bound=end * far)
            near = np.isfinite(found)
            weight = self.config.per_section ** self.frame.steps_to(each.frame) * np.where(
                near, np.exp(-0.5 * np.square(np.where(near, found, 0) / far)), 0
            )
            sums += np.einsum("mk,mkq->mq", weight, rest[np.where(near, rows, 0)])
            weights += weight.sum(axis=1, keepdims=True)
        return np.asarray(sums / (weights + self.config.near_spots))


def upon(frame: Frame, sections: Sequence[Neighbour], config: DriftConfig) -> list[Neighbour]:
    """Return those of some sections that lie upon a frame, and are near enough to count."""
    least_weight = 0.1  # of a section that is so many away that no more of it is used
    return [
        each
        for each in sections
        if each.frame.group == frame.group and config.per_section ** frame.steps_to(each.frame) >= least_weight
    ]
