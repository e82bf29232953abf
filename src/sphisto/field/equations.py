"""The equations of kriging for all observations of a section, whatever their number.

The covariance is a part of bounded reach and a trend that is linear in features. The first is solved window by window: what
lies beyond a halo changes nothing that can be measured. The trend's coefficients are those of the whole section, by
Woodbury's identity, and from both follow the weights of observations and the errors at left-out ones. With one window that
holds everything, this is the closed solution.

Of very many observations only those in some windows, drawn at random, are solved: enough to estimate what a field has to be
fitted to. Dubrule (1983) and Ginsbourger and Schaerer (2021) for left-out observations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from sphisto.core.places import Places
from sphisto.field.config import FieldConfig
from sphisto.field.covariance import Covariance
from sphisto.field.windows import Windows, everywhere, windows_over

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Equations:
    """Solved for each of g nuggets and some columns, for s of n observations."""

    # places, features: (n, 2) centres and (n, p) features of the observations
    places: Places
    features: Floats
    covariance: Covariance  # of places
    windows: Windows  # in which they were solved
    nuggets: Floats  # (g,) variances at a single observation
    columns: Floats  # (n, c) right-hand sides
    rows: Rows  # (s,) observations that were solved for
    # solved, drift: (g, s, c) and (g, s, t) float32 inverse covariance, without the trend, times columns and the t
    # functions of the trend
    solved: NDArray[np.float32]
    drift: NDArray[np.float32]
    diagonal: Floats  # (g, s) of that inverse

    @property
    def times(self) -> float:
        """How many observations there are for each that was solved for."""
        return len(self.places) / len(self.rows)

    def of(self, nuggets: Floats) -> Equations:
        """Keep some of the nuggets."""
        kept = np.isin(self.nuggets, nuggets)
        some = {name: getattr(self, name)[kept] for name in ("nuggets", "solved", "drift", "diagonal")}
        return replace(self, **some)

    def weights(self, mixing: Floats) -> Floats:
        """(g, s, k) inverse covariance, with the trend, times the columns' (c, k) combinations."""
        trend, out = self._trend(), []
        for solved, drift, uncertain in zip(self.solved, self.drift, self._spreads(), strict=True):
            mixed = solved @ mixing
            out.append(mixed - drift @ (uncertain @ (self.times * (trend.T @ mixed))))
        return np.stack(out)

    def precisions(self) -> Floats:
        """(g, s) diagonal of the inverse covariance, with the trend."""
        least_left = 0.05  # of an observation's precision is left at least, whatever the trend explains
        pairs = zip(self.drift, self._spreads(), strict=True)
        explained = np.stack([np.einsum("sp,pq,sq->s", drift, uncertain, drift) for drift, uncertain in pairs])
        return np.maximum(self.diagonal - explained, least_left * self.diagonal)

    def _trend(self) -> Floats:
        return self.covariance.trend(self.features[self.rows])

    def _spreads(self) -> list[Floats]:
        return [trend_spread(self.times * (self._trend().T @ drift)) for drift in self.drift]


def trend_spread(information: Floats) -> Floats:
    """(t, t) covariance of the trend's coefficients, of variance 1 before, given (t, t) information about them."""
    information = (information + information.T) / 2  # symmetric but for what windows do not see
    return np.asarray(np.linalg.inv(information + np.eye(len(information))))


def solve(places: Places, features: Floats, covariance: Covariance, columns: Floats, config: FieldConfig) -> Equations:
    """Solve the equations of n observations for (n, c) columns, window by window if there are many.

    Columns should have a mean of zero.
    """
    windows = _windows(places, covariance, config)
    home, numbers = windows.core_of(places.centers), _some(windows, places, config)
    trend, nuggets = covariance.trend(features), np.asarray(config.nuggets)
    rows, solved, drift, diagonal = [], [], [], []
    for number in numbers:
        inside = places.inside(*windows.box(number))
        core = np.flatnonzero(home[inside] == number)
        values, vectors = decomposed(covariance, places.centers[inside], features[inside])
        turned = vectors.T @ np.column_stack([columns[inside], trend[inside]])
        damping = 1 / (values[:, None] + nuggets)
        found = np.stack([vectors[core] @ (turned * each[:, None]) for each in damping.T]).astype(np.float32)
        rows.append(inside[core])
        solved.append(found[..., : columns.shape[1]])
        drift.append(found[..., columns.shape[1] :])
        diagonal.append((np.square(vectors[core]) @ damping).T)
    order = np.argsort(np.concatenate(rows))
    parts = (np.concatenate(each, axis=1)[:, order] for each in (solved, drift, diagonal))
    return Equations(places, features, covariance, windows, nuggets, columns, np.concatenate(rows)[order], *parts)


def decomposed(covariance: Covariance, centers: Floats, features: Floats) -> tuple[Floats, Floats]:
    """(m,) eigenvalues and (m, m) eigenvectors of the covariance of m observations, without the trend."""
    if len(centers) == 0:
        return np.zeros(0), np.zeros((0, 0))
    matrix = covariance.between(centers, features, centers, features)
    values, vectors = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    return np.maximum(values, 0), vectors


def _windows(places: Places, covariance: Covariance, config: FieldConfig) -> Windows:
    if len(places) <= config.most_spots:
        return everywhere()
    pitch = covariance.pitch
    return windows_over(places.centers, config.core * pitch, config.halo * pitch, config.blend * pitch)


def _some(windows: Windows, places: Places, config: FieldConfig) -> list[int]:
    """Return the windows that are solved: those with observations, or some of them that hold enough."""
    drawing = 0  # seed of the windows that are solved of very many: any will do, always the same
    counts = np.bincount(windows.core_of(places.centers), minlength=len(windows))
    filled = np.flatnonzero(counts)
    if len(places) <= config.sample:
        return [int(number) for number in filled]
    drawn = np.random.default_rng(drawing).permutation(filled)
    enough = int(np.searchsorted(np.cumsum(counts[drawn]), config.sample)) + 1
    return [int(number) for number in np.sort(drawn[:enough])]
