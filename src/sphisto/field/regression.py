"""What sections teach about others: a regression on functions of features, kept as sums of products.

Sections are known by these sums alone, so that one is left out, or another added, without reading the others. How firmly
each component is held to zero is chosen by how well each section is predicted from all others; with a single one, pieces of
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sphisto.features.config import DriftConfig
from sphisto.features.shared import SharedFeatures
from sphisto.field.kriging import shares_of
from sphisto.field.neighbours import Neighbour
from sphisto.field.roots import Roots

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Sums:
    """What one section, or a piece of it, says: n observations as sums of products."""

    n: int  # number of observations
    moments: Floats  # (T, T) of the functions with each other
    products: Floats  # (T, Q) of the functions with the components
    squares: Floats  # (Q,) of the components

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n, self.moments + other.moments, self.products + other.products, self.squares + other.squares
        )

    def errors(self, coefficients: Floats) -> Floats:
        """(Q,) sums of squared errors under (T, Q) coefficients."""
        fitted = np.einsum("tq,tq->q", coefficients, self.moments @ coefficients)
        return np.maximum(self.squares - 2 * np.einsum("tq,tq->q", coefficients, self.products) + fitted, 0)


@dataclass(frozen=True, eq=False)
class Regression:
    """What sections teach about others: arrays alone."""

    features: SharedFeatures  # how features of a section become functions
    roots: Roots  # from densities to what is regressed
    mean: Floats  # (K + 1,) mean of these quantities over sections
    second: Floats  # (K + 1,) mean of their squares
    rotation: Floats  # (Q, K + 1) from components to quantities
    noise: Floats  # (Q,) variance of each component by noise of counting
    sections: tuple[str, ...]  # names of the sections
    pieces: tuple[tuple[Sums, ...], ...]  # of each section: its sums, as one or several pieces
    config: DriftConfig  # of the regression
    # of each section what it measured, where it lies upon others; empty where no section lies upon another
    neighbours: tuple[Neighbour, ...] = ()

    def without(self, section: str) -> Regression:
        """Leave one section out: what is left teaches it."""
        kept = [i for i, name in enumerate(self.sections) if name != section]
        return replace(
            self,
            sections=tuple(self.sections[i] for i in kept),
            pieces=tuple(self.pieces[i] for i in kept),
            neighbours=tuple(self.neighbours[i] for i in kept) if self.neighbours else (),
        )

    @cached_property
    def fit(self) -> RegressionFit:
        """Coefficients that all sections here give."""
        whole = [_added(each) for each in self.pieces]
        every, tried = _added(whole), self.config.ridges
        groups = whole if len(whole) > 1 else list(self.pieces[0])
        errors = np.stack([_left_out(every, groups, ridge) for ridge in tried]) / every.n
        weights = shares_of(errors, every.n, self.config.trust)
        eye = np.eye(self.features.n_functions)
        found = np.stack([np.linalg.solve(every.moments + ridge * eye, every.products) for ridge in tried])
        spreads = np.stack([np.linalg.inv(every.moments / ridge + eye) for ridge in tried])
        # of a place that is like those that taught: the variance of a spot, and that of the regression there
        usual = np.array([np.einsum("st,st->", spread, every.moments) for spread in spreads]) / every.n
        scales = weights * errors / (np.array(tried) + usual)[:, None]
        left = np.einsum("rq,rq->q", weights, errors)
        firm = left - self.noise - usual @ scales
        return RegressionFit(np.einsum("rq,rtq->tq", weights, found), left, firm, scales, spreads)


@dataclass(frozen=True, eq=False)
class RegressionFit:
    """A regression on functions of features."""

    coefficients: Floats  # (T, Q)
    left: Floats  # (Q,) mean squared error at sections that were left out
    firm: Floats  # (Q,) part of it that is neither noise of counting nor the regression's own uncertainty
    scales: Floats  # (r, Q) variance of the regression by each ridge, times its weight
    spreads: Floats  # (r, T, T) covariance of the coefficients by each ridge, in these units


def _added(sums: Sequence[Sums]) -> Sums:
    first, *others = sums
    for other in others:
        first = first + other
    return first


def _left_out(every: Sums, groups: Sequence[Sums], ridge: float) -> Floats:
    """(Q,) sums of squared errors of each group, predicted from all others."""
    out = np.zeros_like(every.squares)
    for group in groups:
        moments = every.moments - group.moments + ridge * np.eye(len(every.moments))
        out += group.errors(np.linalg.solve(moments, every.products - group.products))
    return out
