"""Which share of what a network adds to the prior mean is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from sphisto._progress import stage
from sphisto._settings import logger
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.pieces import in_pieces
from sphisto.core.tiles import Tile
from sphisto.field.posterior import Posterior
from sphisto.genes.model import GeneModel, rates
from sphisto.predict.fitted import Fitted
from sphisto.predict.tiles import predict_points, tiles_of
from sphisto.scoring import metrics
from sphisto.slide.slide import Slide


def gated(
    fitted: Fitted, slide: Slide, posterior: Posterior, watched: NDArray[np.bool_], device: torch.device
) -> tuple[Fitted, float, float]:
    """Choose the share of the network's logarithmic ratios that predicts the ``watched`` spots best.

    No step learned from these spots and ``posterior`` is not conditioned on them. The prior alone is kept unless a share beats it
    by more than the standard error over the spots: texture that helps by chance would only draw texture into genes.

    Also returns the share, and the mean deviance of the watched spots with it.
    """
    rows = np.flatnonzero(watched)
    if len(rows) < 2:
        return _at(fitted, 0.0), 0.0, 0.0
    spots, config = slide.footprint().select(rows), fitted.config.train
    gates = config.shares
    tiles, whole = _fullest(tiles_of(fitted, slide), spots, config.most_tiles, config.least_held_out)
    sums = {gate: np.zeros((len(spots), fitted.model.n_factors)) for gate in (0.0, *gates)}
    with stage("held-out spots", len(tiles), unit="tile") as bar:
        parts = [spots.within(tile.core) for tile in tiles]
        points = [(tile, part.y, part.x) for tile, part in zip(tiles, parts, strict=True)]
        found = predict_points(_at(fitted, 1.0), slide, posterior, points, device=device)
        for part, (full, alone) in zip(parts, found, strict=True):
            for gate, total in sums.items():
                total += part.pool_points(_with_share(full, alone, fitted.model.n_contrasts, gate))
            bar.update()
    means = {gate: (total / spots.covered[:, None])[whole] for gate, total in sums.items()}
    losses = {gate: _deviances(fitted.model, found, slide, rows[whole]) for gate, found in means.items()}
    best = min(gates, key=lambda gate: losses[gate].mean())
    gain = losses[0.0] - losses[best]
    if not len(gain) or gain.mean() <= gain.std() / np.sqrt(len(gain)):
        best = 0.0
    return _at(fitted, best), best, float(losses[best].mean()) if len(gain) else 0.0


def report_gate(gate: float, n_watched: int) -> None:
    """Say what the watched spots decided."""
    if n_watched < 2:
        logger.warning(
            "There are too few spots to decide whether the network helps: the rasters are the co-kriging of the spots. It "
            "is decided by a share `held_out` of them, `least_held_out` at least: `FitConfig(train=TrainConfig(...))`."
        )
    elif gate == 0:
        logger.warning(
            "The network did not help to predict held-out spots beyond chance: the rasters are the "
            "co-kriging of the spots. An `image` of higher resolution, or a smaller `um_per_px`, may change that."
        )
    else:
        used = f"{gate:.0%}"
        logger.info("The network helped to predict held-out spots: %s of its correction is used (the gate).", used)


def _deviances(
    model: GeneModel, density: NDArray[np.float64], slide: Slide, spots: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(m,) Poisson deviance of some spots where densities are (m, K); all genes of few of them are in memory at once."""
    loadings, parts = model.loadings.astype(np.float64), []
    for part in in_pieces(len(spots), len(model.genes)):
        counts = slide.spots.values[spots[part]].toarray().astype(np.float64)
        parts.append(metrics.poisson_deviance(rates(density[part], loadings, model.n_contrasts).T, counts.T))
    return np.concatenate(parts)


def _fullest(tiles: list[Tile], spots: LazyFootprint, most: int, least: int) -> tuple[list[Tile], NDArray[np.bool_]]:
    """Choose the tiles with most of the spots' pixels; also return which spots have all of theirs in them.

    More tiles than ``most`` are chosen until ``least`` spots have: few do where a spot is nearly as large as a tile.
    """
    # (spots, tiles); sparse, as a spot lies in few of them
    pixels = sparse.hstack([sparse.csc_array(np.diff(spots.within(tile.core).indptr)[:, None]) for tile in tiles])
    chosen, touched = np.zeros(len(tiles), dtype=bool), sparse.csr_array(pixels > 0).astype(np.int64)
    chosen[np.argsort(-pixels.sum(axis=0), kind="stable")[:most]] = True
    while True:
        missing = touched @ ~chosen
        if (missing == 0).sum() >= min(least, len(spots)):
            return [tile for tile, used in zip(tiles, chosen, strict=True) if used], missing == 0
        nearest = np.flatnonzero(missing)[np.argmin(missing[missing > 0])]
        chosen |= touched[[nearest]].toarray()[0] > 0


def _with_share(
    full: NDArray[np.float32], alone: NDArray[np.float32], n_contrasts: int, gate: float
) -> NDArray[np.float32]:
    """(K, m) values with a share of the network's logarithmic ratios: it multiplies what has signs by that of the sums."""
    n_plain = len(alone) - n_contrasts
    plain, signed = np.split(alone, [n_plain])
    shared = plain * np.power(np.divide(full[:n_plain], plain, where=plain > 0, out=np.ones_like(plain)), gate)
    total = plain.sum(axis=0)
    return np.concatenate(
        [shared, signed * np.divide(shared.sum(axis=0), total, where=total > 0, out=np.ones_like(total))]
    )


def _at(fitted: Fitted, gate: float) -> Fitted:
    return replace(fitted, weights={**fitted.weights, "gate": torch.tensor(float(gate))})
