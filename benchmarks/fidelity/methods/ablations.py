"""sphisto with one thing changed, to see what that thing is worth."""

from __future__ import annotations

import contextlib
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.methods.networks import prior as unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.fidelity.cases import Case


def prior(case: Case, *, constants: Mapping[str, Any]) -> Prediction:
    """The prior alone, with some constants of the package changed."""
    with changed(constants):
        return unchanged(case)


def network(case: Case, *, config: Mapping[str, Any], max_epochs: int = 12) -> Prediction:
    """Prior and network, with some settings of the training changed; pooled where the regions lie, nothing written."""
    import torch

    from sphisto.core.factors import rates
    from sphisto.core.footprint import TilePool
    from sphisto.model.config import FitConfig
    from sphisto.model.fit import fit
    from sphisto.model.inference import predict_tiles, tiles_of

    slide, device = case.slide, torch.device("cpu")
    settings = FitConfig(**({"max_epochs": max_epochs} | dict(config)))
    with tempfile.TemporaryDirectory() as folder:
        fitted, told = fit(
            slide, name="unet", genes=(), config=settings, seed=case.seed, device=device,
            checkpoint=Path(folder) / "checkpoint", progress=False,
        )  # fmt: skip
    regions = case.regions.spot.footprint(slide.grid.shape, case.regions.centers, slide.grid.um_per_px)
    pool = TilePool(regions, fitted.factors.n_factors)
    for tile, maps in predict_tiles(fitted, slide, told, device=device, tiles=tiles_of(fitted, slide)):
        pool.add(tile.core, maps.factors)
    loadings = fitted.factors.loadings[case.scored].astype(np.float64)
    area = case.regions.spot.area_px(1.0) / slide.spot.area_px(1.0)
    density = pool.sums / regions.area[:, None]
    return Prediction(rates(density, loadings, fitted.factors.n_signed) * area, note=f"gate {fitted.params['gate']:g}")


@contextlib.contextmanager
def changed(constants: Mapping[str, Any]) -> Iterator[None]:
    """Give names of modules, as ``"package.module:name"``, other values for a while."""
    with contextlib.ExitStack() as stack:
        for address, value in constants.items():
            module, name = address.split(":")
            stack.enter_context(patch.object(import_module(module), name, value))
        yield
