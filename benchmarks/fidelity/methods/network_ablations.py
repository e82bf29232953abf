"""sphisto's network with one thing changed. All of what it adds is drawn, whether or not it helps: so a change shows."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.methods.ablations import changed
from torch import Tensor, nn

from sphisto.model import batches, training
from sphisto.model.networks import NETWORKS
from sphisto.model.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.fidelity.cases import Case
    from numpy.typing import NDArray

    from sphisto.model.fitted import Fitted
    from sphisto.model.neighbours import Prior
    from sphisto.model.objectives import Objective

BLIND = {"sphisto.model.batches:_BLIND": 1.0}  # every crop hides all spots
JITTER = 0.2  # at most so much more or less of each colour's optical density
FLIPS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))
LEAST_DENSITY = 1e-3  # of the typical one, before logarithms
LEAST_SCATTER = 1e-4  # relative and squared: a size of more is a Poisson distribution


def network(
    case: Case,
    *,
    constants: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    share: float | None = 1.0,
    max_epochs: int = 12,
) -> Prediction:
    """Prior and network, with constants of the package or settings of the training changed.

    ``share`` of what the network adds is drawn; ``None``: as the package decides, by spots never learned from.
    """
    with changed(constants or {}):
        fitted, told = trained(case, config=config, share=share, max_epochs=max_epochs)
        return predicted(case, fitted, told)


def trained(
    case: Case, *, config: Mapping[str, Any] | None = None, share: float | None = 1.0, max_epochs: int = 12
) -> tuple[Fitted, Prior]:
    """Fit a network; also the prior of all spots. Factors are not found again, unless the package decides so."""
    from sphisto.model.config import FitConfig
    from sphisto.model.fit import fit
    from sphisto.model.gate import _at

    decided = {} if share is None else {"sphisto.model.fit:gated": lambda fitted, *_: (_at(fitted, share), share)}
    settings = FitConfig(**({"max_epochs": max_epochs} | dict(config or {})))
    with tempfile.TemporaryDirectory() as folder, changed(decided):
        return fit(
            case.slide, name="unet", genes=(), config=settings, seed=case.seed, device=torch.device("cpu"),
            checkpoint=Path(folder) / "checkpoint", progress=False,
        )  # fmt: skip


def predicted(case: Case, fitted: Fitted, told: Prior) -> Prediction:
    """Pool the maps over the regions; the note says how the redrawn picture is."""
    from sphisto.core.factors import rates
    from sphisto.core.footprint import TilePool
    from sphisto.core.tiles import read_window
    from sphisto.model.inference import predict_tiles, tiles_of

    slide = case.slide
    regions = case.regions.spot.footprint(slide.grid.shape, case.regions.centers, slide.grid.um_per_px)
    pool, seen = TilePool(regions, fitted.factors.n_factors), []
    for tile, maps in predict_tiles(fitted, slide, told, device=torch.device("cpu"), tiles=tiles_of(fitted, slide)):
        pool.add(tile.core, maps.factors)
        tissue = slide.tissue[tile.core.slices]
        true = read_window(slide.image, tile.core)[:, tissue] / 255
        seen.append(np.stack([maps.picture[:, tissue], true]).reshape(2, -1))
    redrawn, true = np.concatenate(seen, axis=1)
    loadings = fitted.factors.loadings[case.scored].astype(np.float64)
    area = case.regions.spot.area_px(1.0) / slide.spot.area_px(1.0)
    note = (
        f"gate {fitted.params['gate']:g}; the tissue's brightness is redrawn as {redrawn.mean():.3f} instead of "
        f"{true.mean():.3f}, pixels {np.abs(redrawn - true).mean():.3f} off"
    )
    return Prediction(rates(pool.sums / regions.area[:, None], loadings, fitted.factors.n_signed) * area, note=note)


def negative_binomial(case: Case, **options: Any) -> Prediction:
    """Counts are negative binomial instead of Poisson, with the scatter of each gene that the prior leaves open."""

    def objective(task: training.Task, modelled: NDArray[np.int64]) -> Objective:
        from sphisto.model.skill import left_out_skill

        scatter = left_out_skill(task.neighbours, task.factors, task.slide).dispersion[modelled]
        return negative_binomial_deviance(torch.from_numpy(1 / np.maximum(scatter, LEAST_SCATTER)).float())

    return network(case, constants={"sphisto.model.training:_objective": objective}, **options)


def negative_binomial_deviance(size: Tensor) -> Objective:
    """Deviance per count of a negative binomial of (G,) sizes; of infinite size it is that of Poisson counts."""

    def objective(expected: Tensor, measured: Tensor, weight: Tensor) -> Tensor:
        expected = expected + 1e-6
        counted = torch.xlogy(measured, measured) - measured * torch.log(expected)
        scattered = (measured + size) * torch.log1p((measured - expected) / (expected + size))
        deviance = 2 * (counted - scattered).sum(dim=1)
        return (weight * deviance).sum() / (weight * measured.sum(dim=1)).sum().clamp_min(1)

    return objective


def gaussian(case: Case, **options: Any) -> Prediction:
    """Squared errors in standard deviations of each gene instead of Poisson: what the package does without counts."""
    usual = training._objective

    def objective(task: training.Task, modelled: NDArray[np.int64]) -> Objective:
        slide = replace(task.slide, measured=replace(task.slide.spots, is_counts=False))
        return usual(replace(task, slide=slide), modelled)

    return network(case, constants={"sphisto.model.training:_objective": objective}, **options)


def squared_image_loss(case: Case, **options: Any) -> Prediction:
    """The redrawn picture is judged by its mean squared error instead of SSIM and colour."""
    return network(case, constants={"sphisto.model.training:dissimilarity": squared_error}, **options)


def squared_error(drawn: Tensor, picture: Tensor, _: float = 0.0) -> Tensor:
    """Mean squared difference of two pictures."""
    return torch.square(drawn - picture).mean()


def redrawn_from_factors(case: Case, **options: Any) -> Prediction:
    """The picture is redrawn by a 1 x 1 convolution of the logarithms of the factor maps, not by the shared layer."""
    with network_is(RedrawnFromFactors):
        return network(case, **options)


class RedrawnFromFactors(UNet):
    """The default network, but the picture is told by its factor maps."""

    def __init__(self, typical: Tensor) -> None:
        super().__init__(typical)
        self.redraw = nn.Conv2d(len(typical), 3, 1)

    def forward(self, picture: Tensor, prior: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
        _, maps = super().forward(picture, prior, margin)
        relative = maps[:, : len(self.typical)] / self.typical[:, None, None]
        return torch.sigmoid(self.redraw(torch.log(relative.clamp_min(0) + LEAST_DENSITY))), maps


def colour_jitter(case: Case, **options: Any) -> Prediction:
    """Each training crop has a random gain of the optical density of each colour."""
    turned = batches._turned

    def jittered(crop: Any, rng: np.random.Generator) -> Any:
        own = rng.spawn(1)[0]  # so that the crops themselves stay those of the other rows
        crop = turned(crop, rng)
        crop.picture = stained(crop.picture, own.uniform(1 - JITTER, 1 + JITTER, 3))
        return crop

    return network(case, constants={"sphisto.model.batches:_turned": jittered}, **options)


def stained(image: NDArray[np.uint8], gains: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Multiply the optical density of each colour of a (3, y, x) picture: white stays white."""
    lit = 256 * np.power((image.astype(np.float32) + 1) / 256, gains[:, None, None].astype(np.float32)) - 1
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def averaged_flips(case: Case, **options: Any) -> Prediction:
    """What is drawn is the mean of four predictions: as it is, mirrored up-down, left-right, and both."""
    with network_is(AveragedFlips):
        return network(case, **options)


class AveragedFlips(UNet):
    """The default network; when it predicts, it looks four times."""

    def forward(self, picture: Tensor, prior: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
        if self.training:
            return super().forward(picture, prior, margin)
        looks = []
        for axes in FLIPS:
            found = super().forward(picture.flip(axes), prior.flip(axes), margin)
            looks.append([maps.flip(axes) for maps in found])
        drawn, maps = (torch.stack(each).mean(dim=0) for each in zip(*looks, strict=True))
        return drawn, maps


def ensemble(case: Case, *, members: int = 3, **options: Any) -> Prediction:
    """The arithmetic mean of the rasters of three fits, which differ in everything random."""
    each = [network(replace(case, seed=case.seed + 1_000 * i), **options) for i in range(members)]
    return replace(each[0], counts=np.mean([one.counts for one in each], axis=0))


def picture_only(case: Case, **options: Any) -> Prediction:
    """No spot is ever seen, neither while learning nor when predicting: the picture alone tells."""
    with changed(BLIND):
        fitted, _ = trained(case, **options)
        return predicted(case, fitted, nothing_told(case, fitted))


def nothing_told(case: Case, fitted: Fitted) -> Prior:
    """The prior of the same slide without spots."""
    from sphisto.model.fit import prior_for

    return prior_for(fitted, replace(case.slide, measured=None))


@contextlib.contextmanager
def network_is(build: type[nn.Module]) -> Iterator[None]:
    """Let another module be the default network for a while."""
    with patch.dict(NETWORKS, {"unet": replace(NETWORKS["unet"], build=build)}):
        yield
