"""The ways to compute a field, by name; add your own to :data:`SOLVERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto.features.maps import SectionFeatures
from sphisto.field.cokriging import fit_cokriging
from sphisto.field.config import FieldConfig
from sphisto.field.gaussian import fit_gaussian
from sphisto.genes.observations import Observations

if TYPE_CHECKING:
    from sphisto.field.posterior import Solution
    from sphisto.genes.model import GeneModel


class Solver(Protocol):
    """A solver that was fitted to n observations."""

    @property
    def uses_features(self) -> bool:
        """Whether features of the image enter."""

    def given(self, known: NDArray[np.bool_]) -> Solution:
        """Condition on the ``known`` (n,) observations, at least one."""

    def leave_one_out(
        self, rows: NDArray[np.int64], model: GeneModel
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Predict some observations, each from all others: (m, K) density and (m, G) variance of the genes' rates."""


FitSolver = Callable[[Observations, "SectionFeatures | None", FieldConfig], Solver]

SOLVERS: dict[str, FitSolver] = {"kriging": fit_cokriging, "gaussian": fit_gaussian}


def require_solver(config: FieldConfig) -> None:
    """Raise ValueError if there is no solver of the name in the settings; the message lists those there are."""
    if config.solver not in SOLVERS:
        msg = f"Found solver={config.solver!r}; expected one of {', '.join(map(repr, SOLVERS))}."
        raise ValueError(msg)


def solver_for(n: int, config: FieldConfig) -> FitSolver:
    """Return the solver for n observations: the one that the settings name, unless kriging is not for so many.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those there are.
    """
    require_solver(config)
    if config.solver == "kriging" and not config.least_spots <= n <= config.most_spots:
        return SOLVERS["gaussian"]
    return SOLVERS[config.solver]
