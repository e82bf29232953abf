"""Which share of what a network adds to the prior mean is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

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


class Choice(NamedTuple):
    """What watched spots say of a network."""

    gate: float  # the share that is used of its logarithmic ratios
    loss: float  # mean deviance of new spots that is expected with it
    promising: bool  # whether the smallest share gains at all: more epochs may make certain what is yet too small to be


def choose_gate(
    fitted: Fitted, slide: Slide, posterior: Posterior, watched: NDArray[np.bool_], device: torch.device
) -> Choice:
    """Choose the share of the network's logarithmic ratios that may be expected to predict new spots best.

    No step learned from the ``watched`` spots and ``posterior`` is not conditioned on them. The prior alone is kept unless the
    smallest share beats it there by more than the standard error: texture that helps by chance would only draw texture
    into genes.
    """
    rows, config, undecided = np.flatnonzero(watched), fitted.config.train, Choice(0.0, 0.0, promising=False)
    gates = [share for share in config.shares if share > 0]
    if len(rows) < 2 or not gates:
        return undecided
    spots = slide.footprint().select(rows)
    tiles, whole = _fullest(tiles_of(fitted, slide), spots, config.most_tiles, config.least_held_out)
    if not whole.any():
        return undecided
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
    gains = {gate: losses[0.0] - losses[gate] for gate in gates}
    best, gain = _expected_best(gains)
    return Choice(best, float(losses[0.0].mean()) - gain, bool(gains[min(gates)].mean() > 0))


def _expected_best(gains: Mapping[float, NDArray[np.float64]]) -> tuple[float, float]:
    """Return the share of the largest expected gain, and that gain; none where the smallest gains no more than by chance.

    ``gains`` are those of each of some spots, by share. Of the slope with which gain begins to grow, a share of
    1 / z^2 is put down to chance, where z is the slope in standard errors (Efron and Morris 1973); as much is taken off
    the gain of every share. What is barely seen is therefore used in small part.
    """
    least = min(gains)
    slope = gains[least].mean() / least
    error = gains[least].std() / np.sqrt(len(gains[least])) / least
    if slope <= error:
        return 0.0, 0.0
    expected = {share: float(gain.mean() - share * error**2 / slope) for share, gain in gains.items()}
    best = max(expected, key=lambda share: expected[share])
    return best, expected[best]


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
