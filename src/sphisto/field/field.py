"""Factor densities as a field over a section: fitted to observations, then conditioned on those that may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.core.upsample import stride_for
from sphisto.features.maps import SectionFeatures
from sphisto.field.config import FieldConfig
from sphisto.field.drift import Drift
from sphisto.field.posterior import Posterior, prior_mean
from sphisto.field.solvers import Solver, fit_with_drift, solver_for
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import Observations


class LeftOut(NamedTuple):
    """Observations predicted from the others: which, (m, K) density, (m, G) variance of rates."""

    rows: NDArray[np.int64]
    density: NDArray[np.floating]
    variance: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Field:
    """A field fitted to observations. It gives densities only once it is conditioned on known observations."""

    observations: Observations  # what it was fitted to
    solver: Solver  # fitted
    mean: NDArray[np.float64]  # (K,) prior mean density
    stride: int  # px between the points at which densities are computed
    config: FieldConfig
    # what other sections tell, which holds where no observation is known, too; None of a section alone
    drift: Drift | None = None

    @classmethod
    def fit(
        cls,
        observations: Observations,
        features: SectionFeatures | None,
        config: FieldConfig,
        drift: Drift | None = None,
    ) -> Field:
        """Fit a field to observations, its free numbers chosen by leaving out one at a time.

        Without ``features`` by positions alone; a ``drift`` is what other sections tell about this one.
        """
        if drift is None:
            solver = solver_for(len(observations), config)(observations, features, config)
        else:
            solver = fit_with_drift(observations, features, config, drift)
        return cls(
            observations,
            solver,
            observations.density.mean(axis=0),
            stride_for(observations.pitch, config.points_per_pitch),
            config,
            drift,
        )

    @property
    def uses_features(self) -> bool:
        """Whether features of the image enter."""
        return self.solver.uses_features

    @property
    def followed(self) -> float | None:
        """Share of what other sections tell that is used; ``None`` of a section alone."""
        return None if self.drift is None else float(getattr(self.solver, "slope", 1.0))

    def given(self, known: NDArray[np.bool_] | Literal["all"]) -> Posterior:
        """Condition on the ``known`` (n,) observations, or on all."""
        if isinstance(known, str):
            return self._given(np.zeros(0, dtype=np.int64))
        return self._given(np.flatnonzero(~known)) if known.any() else self._given_none()

    def around(self, window: Window, section: int = 0) -> Surroundings:
        """Look at the observations that matter for a window of a section, and at no others."""
        reach = self.config.halo * self.observations.pitch
        rows = self.observations.places.inside(
            np.array([window.y0 - reach, window.x0 - reach]), np.array([window.y1 + reach, window.x1 + reach])
        )
        return Surroundings(self, window, rows[self.observations.section[rows] == section])

    def leave_one_out(self, model: GeneModel) -> LeftOut:
        """Predict observations from all the others: each of them, or some evenly spread ones of very many."""
        rows, density, variance = self.solver.leave_one_out(self.config.left_out, model)
        return LeftOut(rows, density, variance)

    def _given_none(self) -> Posterior:
        return prior_mean(self.mean, self.stride, self.drift)

    def _given(self, hidden: NDArray[np.int64], window: Window | None = None) -> Posterior:
        # a solver may know how the total varies within spots
        detail = getattr(self.solver, "detail", None)
        return Posterior(self.mean, self.stride, self.solver.given(hidden, window), detail)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A field around a window."""

    field: Field
    window: Window  # where it will be read
    rows: NDArray[np.int64]  # (m,) rows of its observations that matter for the window

    def given(self, known: NDArray[np.bool_]) -> Posterior:
        """Condition on the ``known`` (m,) of these observations; if none of them is known, nothing is."""
        if not known.any():
            return self.field._given_none()
        return self.field._given(self.rows[~known], self.window)
