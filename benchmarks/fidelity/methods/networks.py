"""sphisto itself, and the prototype's network, through the public verbs only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import VARIABLE

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray


def sphisto(case: Case, **options: Any) -> Prediction:
    """Fit a projection to the training spots and sum its factor maps over the regions."""
    return fitted(case, 2, options)


def seed_network(case: Case, **options: Any) -> Prediction:
    """The prototype's network, on the most variable genes: it models single genes, and takes long."""
    return fitted(case, VARIABLE, {"network": "seed", **options})


def fitted(case: Case, n_genes: int, options: dict[str, Any]) -> Prediction:
    """Fit, then pool factor maps and turn them into genes; NaN for genes that the network does not model."""
    import sphisto as sp

    genes = [case.slide.spots.genes[i] for i in case.scored[case.variable()[:n_genes]]]
    adata = case.adata.copy()
    adata.uns.pop("toy", None)  # the truth's recipe is not for the fit
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "case.zarr"
        sp.tl.fit_projection(adata, store=store, genes=genes, rng=case.seed, **(dict(case.options) | options))
        maps = sp.get.raster(store, "projection_factors")
    density = pooled(case, maps.to_numpy(), maps.attrs["um_per_px"])
    loadings = np.asarray(adata.varm["projection_loadings"], dtype=np.float64)[case.scored]
    area = case.regions.spot.area_px(1.0) / case.slide.spot.area_px(1.0)
    seconds = ", ".join(f"{phase} {value:.0f} s" for phase, value in adata.uns["projection"]["seconds"].items())
    return Prediction(np.asarray(density @ loadings.T) * area, note=seconds)


def pooled(case: Case, maps: NDArray[np.float32], um_per_px: float) -> Floats:
    """Mean of each map over each region; nothing lies outside tissue."""
    ratio = um_per_px / case.slide.grid.um_per_px
    footprint = case.regions.spot.footprint(maps.shape[1:], case.regions.centers / ratio, um_per_px)
    return footprint.pool(maps) / footprint.area[:, None]
