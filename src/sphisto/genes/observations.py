"""What the spots of a section measured, in factors: what a field is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.places import Places
from sphisto.genes.factorize import scores, split_counts

if TYPE_CHECKING:
    from scipy import sparse

    from sphisto.genes.config import GeneModelConfig
    from sphisto.genes.model import GeneModel
    from sphisto.slide.slide import Slide

Floats = NDArray[np.float64]

_PLENTY = 20  # counts in a spot, from which one without any has failed
_HALVING = 0  # seed of the halves of the counts from which the noise is estimated: any will do, always the same


@dataclass(frozen=True, eq=False)
class Observations:
    """Factor densities at n spots.

    Parameters
    ----------
    section
        (n,) number of the section that each spot belongs to.
    spots
        (n,) place of each among the spots of its section.
    centers
        (n, 2) centres (y, x) in px of the section's grid.
    density
        (n, K) factor values per spot area of tissue; contrasts come last.
    halves
        Densities by two random halves of the counts, each doubled: their difference is noise of counting. ``None`` for
        values that are no counts.
    n_contrasts
        Number of factors, the last ones, that are contrasts.
    pitch
        Usual distance of neighbouring spots in px.
    """

    section: NDArray[np.int64]
    spots: NDArray[np.int64]
    centers: Floats
    density: Floats
    halves: tuple[Floats, Floats] | None
    n_contrasts: int
    pitch: float

    def __len__(self) -> int:
        return len(self.spots)

    @cached_property
    def places(self) -> Places:
        """Centres, found by where they are."""
        return Places(self.centers)

    @property
    def plain(self) -> Floats:
        """(n, K') densities of the factors that are no contrasts."""
        return self.density[:, : self.density.shape[1] - self.n_contrasts]


def informative(slide: Slide) -> NDArray[np.bool_]:
    """(n,) spots that lie on the image and measured anything; where few counts are usual, none at all is a measurement."""
    total = np.asarray(slide.spots.values.sum(axis=1)).ravel()
    return np.asarray((total > 0) | (slide.spots.is_counts and 0 < total.mean() < _PLENTY)) & slide.on_image


def observe(slide: Slide, model: GeneModel, known: NDArray[np.bool_], config: GeneModelConfig) -> Observations:
    """Put what the ``known`` (n,) spots of a slide measured into factors, without reading the others."""
    measured, rows = slide.spots, np.flatnonzero(known)
    values = measured.values[rows]
    share = np.nan_to_num(slide.footprint().select(rows).mean(slide.tissue)[:, 0])

    def density(counts: sparse.csr_array) -> Floats:
        values = scores(model, counts, config, is_counts=measured.is_counts)
        return values / np.clip(share, config.least_tissue, 1)[:, None]

    halves = None
    if measured.is_counts:
        first, second = split_counts(values, _HALVING)
        halves = density(first), density(second)
    section = np.zeros(len(rows), dtype=np.int64)
    return Observations(
        section, rows, measured.centers[rows], density(values), halves, model.n_contrasts, measured.pitch
    )
