"""Spots held out before anything is fitted, and what each method says of them."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sphisto.core.pooling import TilePool
from sphisto.core.splits import random_spots, spot_blocks
from sphisto.core.spot import median_pitch
from sphisto.core.tiles import Window
from sphisto.field.gaussian import choose_width, gaussian_weights
from sphisto.genes.model import rates
from sphisto.genes.observations import informative
from sphisto.predict.tiles import predict_tiles, tiles_of
from sphisto.train.fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from numpy.typing import NDArray

    from sphisto.core.footprint import Footprint
    from sphisto.core.lazy_footprint import LazyFootprint
    from sphisto.core.tiles import Tile
    from sphisto.field.posterior import Posterior
    from sphisto.genes.model import GeneModel
    from sphisto.slide.slide import Slide
    from sphisto.train.config import FitConfig

SPLITS = ("random", "blocks")
_LEAST_HELD_OUT = 5  # a correlation over fewer spots says nothing
_LEAST_LEFT = 10  # fewer spots to learn from are no section
_MOST_SCORED = 2_000  # spots; more tell little more of a gene, and all genes at all of them would not fit memory
_MOST_CHOOSING = 4_000  # spots on which the width is chosen: a compact piece of the section
_MOST_POINTS = 200_000  # pixels looked up at once; each brings the weights of some 24 spots


@dataclass(frozen=True, eq=False)
class Told:
    """(m, G) values that a method gives to the held-out spots, and the seconds it took.

    ``variance`` (m, G) is that of the rates, where a method knows it.
    """

    values: NDArray[np.float64]
    seconds: float
    variance: NDArray[np.float64] | None = None

    def of(self, genes: NDArray[np.bool_]) -> Told:
        """Keep the values of some genes."""
        variance = None if self.variance is None else self.variance[:, genes]
        return replace(self, values=self.values[:, genes], variance=variance)


def check_split(split: str, share: float) -> None:
    """Refuse a way to split, or a share of the spots, that makes no sense."""
    if split not in SPLITS:
        msg = f"Found split={split!r}; expected one of {', '.join(map(repr, SPLITS))}."
        raise ValueError(msg)
    if not 0 < share < 1:
        msg = f"Found share={share:g}; expected a number between 0 and 1, for instance 0.2 to hold out a fifth."
        raise ValueError(msg)


def hold_out(slide: Slide, split: str, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the (n,) spots to hold out, among those that tell anything; refuses too few of them."""
    spots = slide.spots
    known = np.flatnonzero(informative(slide))
    drawn = (
        random_spots(len(known), share, rng)
        if split == "random"
        else spot_blocks(spots.centers[known], spots.pitch, share, rng)
    )
    n_out, n_left = int(drawn.sum()), int((~drawn).sum())
    if n_out < _LEAST_HELD_OUT or n_left < _LEAST_LEFT:
        msg = (
            f"Found {len(known)} spots with counts, of which share={share:g} holds out {n_out} and leaves {n_left}; "
            f"expected at least {_LEAST_HELD_OUT} held out and {_LEAST_LEFT} left. Change `share`, or evaluate a "
            "section with more spots."
        )
        raise ValueError(msg)
    held_out = np.zeros(len(spots.centers), dtype=bool)
    held_out[known[drawn]] = True
    return held_out


def some_of(held_out: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the held-out spots to score: all, or some of very many."""
    rows = np.flatnonzero(held_out)
    return rows if len(rows) <= _MOST_SCORED else np.sort(rng.choice(rows, _MOST_SCORED, replace=False))


def without(slide: Slide, held_out: NDArray[np.bool_]) -> Slide:
    """Return the slide as if the held-out spots had not been measured."""
    spots, kept = slide.spots, np.flatnonzero(~held_out)
    centers = spots.centers[kept]
    return replace(
        slide, measured=replace(spots, centers=centers, values=spots.values[kept], pitch=median_pitch(centers))
    )


def project(
    train: Slide,
    spots: LazyFootprint,
    *,
    network: str,
    genes: tuple[str, ...],
    config: FitConfig,
    seed: int,
    device: torch.device,
) -> tuple[dict[str, Told], NDArray[np.bool_]]:
    """Fit the training spots and pool over others, with the network and by its prior alone; also the modelled genes.

    Only tiles that the spots touch are predicted.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "evaluation.ckpt"
        fitted, posterior = fit(
            train, name=network, genes=genes, config=config, seed=seed, device=device, checkpoint=checkpoint
        )
    trained = time.perf_counter()
    tiles = [tile for tile in tiles_of(fitted, train) if len(spots.within(tile.core).weight)]
    pool = TilePool(spots, fitted.model.n_factors)
    for tile, maps in predict_tiles(fitted, train, posterior, device=device, tiles=tiles):
        pool.add(tile.core, maps.factors)
    predicted = time.perf_counter()
    alone = pool_posterior(posterior, train, spots, tiles)
    before_epochs = max(trained - started - float(fitted.history["seconds"].sum()), 0.0)  # factors and kriging
    modelled = ~np.isnan(fitted.model.loadings[:, 0])
    told = {
        "sphisto": Told(_expression(fitted.model, pool.means(), modelled), predicted - started),
        "prior": Told(_expression(fitted.model, alone, modelled), before_epochs + time.perf_counter() - predicted),
    }
    if fitted.is_counts and np.isfinite(fitted.skill.dispersion[modelled]).any():
        some = fitted.model.of([gene for gene, known in zip(fitted.model.genes, modelled, strict=True) if known])
        scatter = fitted.skill.dispersion[modelled]
        told = {
            name: replace(m, variance=variance_at(posterior, spots.centers, some, m.values, scatter))
            for name, m in told.items()
        }
    return told, modelled


def variance_at(
    posterior: Posterior,
    centers: NDArray[np.float64],
    factors: GeneModel,
    expected: NDArray[np.float64],
    scatter: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(m, G) variance of the rates of spots at (m, 2) places in grid px, of so much (m, G) expected expression."""
    sd = np.empty_like(expected)
    for i, (y, x) in enumerate(centers.astype(int)):
        here = expected[i].astype(np.float32)[:, None, None]
        sd[i] = posterior.sd(Window(y, x, y + 1, x + 1), factors, here)[:, 0, 0]
    return np.asarray(np.square(sd) + scatter * np.square(expected))


def pool_posterior(
    posterior: Posterior, slide: Slide, spots: Footprint | LazyFootprint, tiles: Iterable[Tile]
) -> NDArray[np.float64]:
    """(m, K) means of densities over spots, without a network."""
    sums = np.zeros((len(spots), len(posterior.mean)))
    for tile in tiles:
        part = spots.within(tile.core)
        inside = slide.tissue[tile.core.slices][part.y, part.x]
        sums += part.pool_points(posterior.at_pixels(tile.core, part.y, part.x) * inside)
    covered = spots.covered[:, None]
    return np.divide(sums, covered, where=covered > 0, out=np.zeros_like(sums))


def nearest(train: Slide, spots: LazyFootprint) -> Told:
    """Average over spots what :func:`sphisto.scoring.baselines.nearest` gives each pixel."""
    started = time.perf_counter()
    return Told(_interpolated(train, spots, 0.0), time.perf_counter() - started)


def gaussian(train: Slide, spots: LazyFootprint) -> tuple[Told, float]:
    """Average over spots what :func:`sphisto.scoring.baselines.gaussian` gives each pixel; also its width in px."""
    started, known = time.perf_counter(), train.spots
    from_middle = np.square(known.centers - np.median(known.centers, axis=0)).sum(axis=1)
    piece = np.sort(np.argsort(from_middle, kind="stable")[:_MOST_CHOOSING])
    width = choose_width(known.centers[piece], known.values[piece].toarray(), known.pitch)
    return Told(_interpolated(train, spots, width), time.perf_counter() - started), width


def _interpolated(train: Slide, spots: LazyFootprint, width: float) -> NDArray[np.float64]:
    """(m, G) means over spots: weights are averaged instead of maps, which would be too many for all genes."""
    n_chunks = min(max(1, math.ceil(spots.area.sum() / _MOST_POINTS)), len(spots))
    weights = []
    for rows in np.array_split(np.arange(len(spots)), n_chunks):
        part = spots.select(rows).drawn()
        points = np.stack([part.y, part.x], axis=1).astype(np.float64) + 0.5
        share = part.weight / np.repeat(part.covered, np.diff(part.indptr))
        average = sparse.csr_array((share, np.arange(len(share)), part.indptr), shape=(len(rows), len(share)))
        weights.append(average @ gaussian_weights(points, train.spots.centers, width))
    return np.asarray((sparse.vstack(weights) @ train.spots.values).toarray(), dtype=np.float64)


def _expression(factors: GeneModel, values: NDArray[np.float64], modelled: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(m, G) expression of the modelled genes from (m, K) factor values."""
    return np.asarray(
        rates(values, factors.loadings[modelled].astype(np.float64), factors.n_contrasts), dtype=np.float64
    )
