"""The ways to compute a field, by name; add your own to :data:`SOLVERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.features.maps import SectionFeatures
from sphisto.field.cokriging import fit_cokriging
from sphisto.field.config import FieldConfig
from sphisto.field.drift import Drift, few_spots
from sphisto.field.gaussian import fit_gaussian
from sphisto.field.posterior import Solution
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import Observations


class Solver(Protocol):
    """A solver that was fitted to n observations."""

    @property
    def uses_features(self) -> bool:
        """Whether features of the image enter."""

    def given(self, hidden: NDArray[np.int64], window: Window | None = None) -> Solution:
        """Condition on all observations but the ``hidden`` (h,) ones; at least one is left.

        With a ``window``, the field will be read there only, and what is far from it makes no difference.
        """

    def leave_one_out(
        self, most: int, model: GeneModel
    ) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]:
        """Predict at most that many observations, each from all others.

        Which (m,), (m, K) density and (m, G) variance of the genes' rates.
        """


FitSolver = Callable[[Observations, "SectionFeatures | None", FieldConfig], Solver]

SOLVERS: dict[str, FitSolver] = {"kriging": fit_cokriging, "gaussian": fit_gaussian}


def require_solver(config: FieldConfig) -> None:
    """Raise ValueError if there is no solver of the name in the settings; the message lists those there are."""
    if config.solver not in SOLVERS:
        msg = f"Found solver={config.solver!r}; expected one of {', '.join(map(repr, SOLVERS))}."
        raise ValueError(msg)


def solver_for(n: int, config: FieldConfig) -> FitSolver:
    """Return the solver for n observations: the one that the settings name, unless there are too few for kriging."""
    require_solver(config)
    if config.solver == "kriging" and n < config.least_spots:
        return SOLVERS["gaussian"]
    return SOLVERS[config.solver]


def fit_with_drift(
    observations: Observations, features: SectionFeatures | None, config: FieldConfig, drift: Drift
) -> Solver:
    """Fit a solver to a section of which others tell something: co-kriging, or where there are too few spots their mean."""
    if config.solver != "kriging":
        msg = (
            f"Found solver={config.solver!r} for several sections; expected 'kriging', which alone can use the others."
        )
        raise ValueError(msg)
    drift = replace(drift, features=drift.features.over(observations.area))
    if len(observations) < max(config.least_spots, drift.regression.config.least_spots):
        return few_spots(drift, observations)
    return fit_cokriging(observations, features, config, drift)
