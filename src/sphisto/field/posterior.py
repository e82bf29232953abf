"""A field conditioned on known observations, read as maps: factor densities and standard deviations of genes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.core.upsample import (
    as_maps,
    at_pixels,
    at_points,
    block_middles,
    blocks_around,
    middles_around,
    weights_at_pixels,
)
from sphisto.field.detail import Detail
from sphisto.field.drift import Drift
from sphisto.genes.model import GeneModel, rates
from sphisto.slide.slide import Slide

Floats = NDArray[np.floating]
VarianceOfPiece = tuple[NDArray[np.intp], Callable[[Floats], Floats]]
"""Which places, and what turns rates (r, G) there into their variance."""

_COARSER = 2  # standard deviations are smooth: they are computed at every second point along both axes
_VALUES = 2**22  # of genes at points that are computed together


class Solution(Protocol):
    """What a solver gives once it is conditioned on known observations."""

    def density(self, points: NDArray[np.float64]) -> Floats:
        """(m, K) factor densities at (m, 2) points (y, x) in px."""

    def rate_variance(self, points: NDArray[np.float64], density: Floats, model: GeneModel) -> Floats:
        """(m, G) variance of the genes' rates at points where the densities are (m, K)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Densities given the observations that are known."""

    mean: NDArray[np.float64]  # (K,) prior mean density, which holds where no observation is known
    stride: int  # px between the points at which densities are computed
    solution: Solution | None  # given the observations; None if none is known
    detail: Detail | None = None  # how the total varies within spots; None if that is not known

    def on(self, slide: Slide) -> Posterior:
        """Return the same posterior, whose detail is read from the image of another copy of the slide."""
        return self if self.detail is None else replace(self, detail=self.detail.on(slide))

    def maps(self, window: Window) -> NDArray[np.float32]:
        """(K, h / stride, w / stride) densities at the middles of the blocks of a window."""
        return as_maps(self._density(block_middles(window, self.stride)), window, self.stride)

    def at_pixels(self, window: Window, y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float32]:
        """(K, m) densities at m pixels of a window, interpolated as a network does it."""
        blocks = blocks_around(window, self.stride)
        points = np.stack([y, x], axis=1) + 0.5 + (window.y0, window.x0)
        maps = self.maps(blocks)
        found = np.asarray(at_points(maps, points, (blocks.y0, blocks.x0), self.stride).T)
        ratio = self.ratio(window, blocks, maps)
        return found if ratio is None else found * ratio[y, x]

    def ratio(self, window: Window, around: Window, maps: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """(h, w) total at the pixels of a window over the interpolated one; ``None`` if no detail is known.

        ``maps`` are what :meth:`maps` gives of the blocks of a window ``around`` that one.
        """
        if self.detail is None:
            return None
        total = maps[: self.detail.n_plain].sum(axis=0, keepdims=True)
        return self.detail.ratio(window, at_pixels(total, window, (around.y0, around.x0), self.stride)[0])

    def sd(
        self,
        window: Window,
        model: GeneModel,
        expression: NDArray[np.float32],
        scatter: NDArray[np.floating] | None = None,
    ) -> NDArray[np.float32]:
        """(G, h, w) standard deviations of the genes of a model, whose expression is (G, h, w) in the window.

        They are interpolated, and follow the expression: roots are about equally certain everywhere, so that variance
        grows like the expression; where that is less than its standard deviation, the latter is as it was.
        NaN where nothing is known. With a ``scatter`` (G,) of the genes that nothing foresees, that is part of them, in
        proportion to the expression.
        """
        strip = 64  # rows of a tile of one gene that are computed together
        if self.solution is None:
            return np.full_like(expression, np.nan)
        stride = _COARSER * self.stride
        blocks = blocks_around(window, stride)
        found = self._uncertain(self.solution, block_middles(blocks, stride), model)
        known, usual = (as_maps(each, blocks, stride) for each in found)
        down, across = weights_at_pixels(known.shape[1:], window, (blocks.y0, blocks.x0), stride)
        # along x as a whole; along y, and all that follows, in strips of a gene that stay in the processor's own memory
        known, usual = (np.matmul(maps, across.T) for maps in (known, usual))
        share = np.zeros(len(known), np.float32) if scatter is None else np.asarray(scatter, dtype=np.float32)
        out, scratch = np.empty(expression.shape, dtype=np.float32), np.empty((2, strip, len(across)), np.float32)
        for y in range(0, len(down), strip):
            rows = slice(y, y + strip)
            near = slice(down[rows].any(axis=0).argmax(), len(known[0]) - down[rows, ::-1].any(axis=0).argmax())
            weights = np.ascontiguousarray(down[rows, near])
            ratio, most = scratch[:, : len(weights)]
            for gene, mean in enumerate(expression[:, rows]):
                sd = np.matmul(weights, known[gene, near], out=out[gene, rows])
                np.matmul(weights, usual[gene, near], out=most)
                np.add(mean, sd, out=ratio)
                ratio /= most
                ratio *= sd
                sd *= ratio  # the variance
                if share[gene]:
                    np.multiply(mean, mean, out=ratio)
                    ratio *= share[gene]
                    sd += ratio
                np.sqrt(sd, out=sd)
        return out

    def variance_at(
        self, points: NDArray[np.float64], model: GeneModel, expression: Floats, scatter: Floats
    ) -> NDArray[np.float64]:
        """(m, G) variance of the genes of a model at (m, 2) points where their expression is (m, G): of the maps of :meth:`sd`."""
        out = np.full(expression.shape, np.nan)
        for rows, variance_of in self.variances_at(points, model, scatter):
            out[rows] = variance_of(expression[rows])
        return out

    def variances_at(self, points: NDArray[np.float64], model: GeneModel, scatter: Floats) -> Iterator[VarianceOfPiece]:
        """Yield (m, 2) points piece by piece: which, and what gives the (r, G) variance for expression there; none if nothing is known.

        Points of a piece lie close to each other, so that observations around them are solved for once.
        """
        if self.solution is None or not len(points):
            return
        middles, weights = middles_around(points, _COARSER * self.stride)
        at_once = max(_VALUES // max(len(model.genes) * weights.shape[1], 1), 1)
        for rows in _pieces(points, at_once):
            share = weights[rows]
            found = self._uncertain(self.solution, middles[rows].reshape(-1, 2), model)
            known, usual = (np.einsum("mc,mcg->mg", share, each.reshape(*share.shape, -1)) for each in found)
            yield rows, partial(_variance, known=known, usual=usual, scatter=scatter)

    @staticmethod
    def _uncertain(solution: Solution, points: NDArray[np.float64], model: GeneModel) -> tuple[Floats, Floats]:
        """(m, G) standard deviations of rates at points, and the sums of rate and deviation that expression is held against."""
        least_rate = 1e-9  # counts; no division by none
        density = solution.density(points)
        known = np.sqrt(solution.rate_variance(points, density, model))
        rate = rates(density, model.loadings.astype(np.float64), model.n_contrasts)
        return known, np.maximum(rate + known, least_rate)

    def _density(self, points: NDArray[np.float64]) -> Floats:
        if self.solution is None:
            return np.broadcast_to(self.mean, (len(points), len(self.mean)))
        return self.solution.density(points)


def _variance(expression: Floats, *, known: Floats, usual: Floats, scatter: Floats) -> Floats:
    """Variance of rates that are ``known`` to so much where they are ``usual``: it grows like the expression."""
    return np.square(known) * (expression + known) / usual + scatter * np.square(expression)


def _pieces(points: NDArray[np.float64], at_once: int) -> list[NDArray[np.intp]]:
    """Rows of (m, 2) points in pieces of so many that lie close to each other: strips of the section, cut into squares."""
    extent = np.maximum(np.ptp(points, axis=0), 1.0)
    strip = np.floor(points[:, 0] / np.sqrt(extent.prod() * at_once / len(points)))
    order = np.lexsort((points[:, 1], strip))
    return np.split(order, range(at_once, len(order), at_once))


def prior_mean(mean: NDArray[np.float64], stride: int, drift: Drift | None = None) -> Posterior:
    """Return the posterior of a section of which nothing is known, or only what other sections tell about it."""
    return Posterior(mean, stride, None if drift is None else drift.alone())
