"""What the spots of a section measured, in factors: what a field is fitted to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.places import Places
from sphisto.core.splits import split_counts
from sphisto.core.squares import in_squares
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import scores
from sphisto.genes.model import GeneModel
from sphisto.slide.slide import Slide

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observations:
    """Factor densities at n spots, or at squares of neighbouring bins whose counts are summed up.

    Parameters
    ----------
    section
        (n,) number of the section that each spot belongs to.
    spots
        (n,) place of each among the spots of its section; of a square, that of its first bin.
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
        Usual distance of neighbouring observations in px.
    members
        (n, S) which of a section's S spots each square is made of, as ones; ``None`` where each observation is one spot.
    area
        Areas of a spot in a whole observation: counts are that many times the density.
    """

    section: NDArray[np.int64]
    spots: NDArray[np.int64]
    centers: Floats
    density: Floats
    halves: tuple[Floats, Floats] | None
    n_contrasts: int
    pitch: float
    members: sparse.csr_array | None = None
    area: float = 1.0

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

    def of_spots(self, values: NDArray[np.floating]) -> Floats:
        """(n, ...) means of (S, ...) values of a section's spots over those that each observation is made of."""
        if self.members is None:
            return np.asarray(values[self.spots])
        return np.asarray((self.members @ values).T / self.members.sum(axis=1)).T

    def spots_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(m,) spots that some observations are made of, and for each of them which of the ``rows`` it belongs to."""
        if self.members is None:
            return self.spots[rows], np.arange(len(rows))
        some = self.members[rows]
        return some.indices.astype(np.int64), np.repeat(np.arange(len(rows)), np.diff(some.indptr))


def informative(slide: Slide) -> NDArray[np.bool_]:
    """(n,) spots that measured something, be it that there is nothing.

    Bins of a fine grid touch, and none of them fails alone: all on tissue measure, also those without counts. To leave
    these out would be to take the tissue's rate for that of bins which happened to catch something. A single spot
    without counts has failed, unless few counts are usual: where totals vary over a section as they do (by a gamma
    distribution of shape 2), one spot in a hundred has none at a mean of 20.
    """
    plenty = 20  # counts in a spot, from which one without any has failed
    total = np.asarray(slide.spots.values.sum(axis=1)).ravel()
    if not total.any():
        return np.zeros(len(total), dtype=bool)
    if slide.spot.is_bin:
        return slide.on_tissue
    return np.asarray((total > 0) | (slide.spots.is_counts and total.mean() < plenty)) & slide.on_image


def observe(slide: Slide, model: GeneModel, known: NDArray[np.bool_], config: GeneModelConfig) -> Observations:
    """Put what the ``known`` (n,) spots of a slide measured into factors, without reading the others.

    By those of the model's genes that the slide has: one that it lacks is no gene without counts.
    Bins of a handful of counts are summed up to squares first: the counts of squares of a field's finest detail tell as
    much as those of their bins, and there are far fewer of them.
    """
    halving = 0  # seed of the halves of the counts from which the noise is estimated: any will do, always the same
    measured, rows = slide.spots, np.flatnonzero(known)
    model = model.measured_by(measured.genes)
    share = np.nan_to_num(slide.footprint().select(rows).mean(slide.tissue)[:, 0])
    values, centers, side = measured.values[rows], measured.centers[rows], _side_of_squares(slide, rows, config)
    members = None
    if side > 1:
        square = in_squares(centers, _pitch(slide), side, turn=slide.spot.turn)
        gather = sparse.csr_array((np.ones(len(rows), dtype=np.float32), (square, np.arange(len(rows)))))
        filled = gather @ share >= config.least_tissue * side**2
        gather = gather[np.flatnonzero(filled)] if filled.any() else gather
        number = gather.sum(axis=1)[:, None]
        values, centers, share = sparse.csr_array(gather @ values), gather @ centers / number, gather @ share / side**2
        members = sparse.csr_array(
            (gather.data, rows[gather.indices], gather.indptr), shape=(gather.shape[0], len(known))
        )
        rows = members.indices[members.indptr[:-1]].astype(np.int64)
    area = np.clip(share, config.least_tissue, 1)[:, None] * side**2

    def density(counts: sparse.csr_array) -> Floats:
        return scores(model, counts, config, is_counts=measured.is_counts) / area

    halves = None
    if measured.is_counts:
        first, second = split_counts(values, halving)
        halves = density(first), density(second)
    return Observations(
        np.zeros(len(rows), dtype=np.int64), rows, centers, density(values), halves, model.n_contrasts,
        measured.pitch if side == 1 else side * _pitch(slide), members, float(side**2),
    )  # fmt: skip


def _pitch(slide: Slide) -> float:
    """Px along the side of a bin."""
    return slide.spot.um / slide.grid.um_per_px


def _side_of_squares(slide: Slide, rows: NDArray[np.int64], config: GeneModelConfig) -> int:
    """Bins along a square that holds enough counts; 1 where single ones do, and of spots, which lie apart."""
    if not (slide.spot.is_bin and slide.spots.is_counts and len(rows)):
        return 1
    usual = float(slide.spots.values[rows].sum()) / len(rows)
    wanted = math.ceil(math.sqrt(config.observed_counts / max(usual, 1e-9)) - 1e-9)
    return max(min(wanted, math.isqrt(len(rows) // config.least_squares)), 1)
