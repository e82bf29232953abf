"""Fit some spots of a section, predict others."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sphisto._progress import stage
from sphisto.core.pooling import TilePool
from sphisto.genes.model import rates
from sphisto.predict.tiles import predict_tiles, tiles_of
from sphisto.scoring.at_spots import Prediction, pool_posterior
from sphisto.scoring.scores import OWN, PRIOR
from sphisto.train.fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from numpy.typing import NDArray

    from sphisto.core.lazy_footprint import LazyFootprint
    from sphisto.field.posterior import Posterior, VarianceOfPiece
    from sphisto.genes.model import GeneModel
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide
    from sphisto.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class AtSpots:
    """What a projection predicts at m spots, with and without its network.

    Parameters
    ----------
    predicted
        Of the modelled genes, by method.
    modelled
        (G,) genes that are.
    fitted, posterior
        The projection.
    centers
        (m, 2) places in px.
    """

    predicted: dict[str, Prediction]
    modelled: NDArray[np.bool_]
    fitted: Fitted
    posterior: Posterior
    centers: NDArray[np.float64]

    def variances(self, scored: NDArray[np.bool_]) -> Iterator[VarianceOfPiece]:
        """Yield what gives the variances of the rates of some (G,) genes, for a piece of the spots after another; none if unknown."""
        scatter = self.fitted.skill.dispersion[scored]
        if self.fitted.is_counts and np.isfinite(scatter).any():
            some = self.fitted.model.at(np.flatnonzero(scored))
            yield from self.posterior.variances_at(self.centers, some, np.nan_to_num(scatter))


def predict_at_spots(
    train: Slide,
    spots: LazyFootprint,
    recipe: Recipe,
    *,
    genes: tuple[str, ...],
    device: torch.device,
) -> AtSpots:
    """Fit a slide and average what it predicts over other spots: ``"sphisto"``, and ``"prior"``, without the network.

    Only tiles that the spots touch are predicted.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "evaluation.ckpt"
        fitted, posterior = fit(train, recipe, genes=genes, device=device, checkpoint=checkpoint)
    trained = time.perf_counter()
    before_epochs = max(trained - started - float(fitted.history["seconds"].sum()), 0.0)  # factors and kriging
    return at_spots(
        fitted, posterior, train, spots, device=device, seconds={OWN: trained - started, PRIOR: before_epochs}
    )


def at_spots(
    fitted: Fitted,
    posterior: Posterior,
    slide: Slide,
    spots: LazyFootprint,
    *,
    device: torch.device,
    seconds: dict[str, float],
) -> AtSpots:
    """Average what a projection predicts of a slide over spots, with and without its network.

    Only tiles that the ``spots`` touch are predicted. ``seconds`` is what it took until now, with and without the
    network.
    """
    began = time.perf_counter()
    tiles = [tile for tile in tiles_of(fitted, slide) if len(spots.within(tile.core).weight)]
    pool = TilePool(spots, fitted.model.n_factors)
    with stage("held-out spots", len(tiles), unit="tile") as bar:
        for tile, maps in predict_tiles(fitted, slide, posterior, device=device, tiles=tiles):
            pool.add(tile.core, maps.factors)
            bar.update()
    predicted = time.perf_counter()
    alone = pool_posterior(posterior, slide, spots, tiles)
    modelled = ~np.isnan(fitted.model.loadings[:, 0])
    found = {
        OWN: Prediction(_expression(fitted.model, pool.means(), modelled), seconds[OWN] + predicted - began),
        PRIOR: Prediction(_expression(fitted.model, alone, modelled), seconds[PRIOR] + time.perf_counter() - predicted),
    }
    return AtSpots(found, modelled, fitted, posterior, spots.centers)


def _expression(model: GeneModel, values: NDArray[np.float64], modelled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(m, G) expression of the modelled genes from (m, K) factor values."""
    return rates(values.astype(np.float32), model.loadings[modelled], model.n_contrasts)
