"""sphisto itself, and the prototype's network, through the public verbs; and sphisto's prior without any network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import VARIABLE

LEVEL = 0.9  # of the predictive intervals

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray


def sphisto(case: Case, **options: Any) -> Prediction:
    """Fit a projection to the training spots and sum its factor maps over the regions."""
    return fitted(case, 2, options)


def seed_network(case: Case, **options: Any) -> Prediction:
    """The prototype's network, on the most variable genes: it models single genes, and takes long."""
    return fitted(case, VARIABLE, {"network": "seed", **options})


def prior(case: Case) -> Prediction:
    """What sphisto's network starts from: its factors co-kriged, with predictive intervals and the skill it expects.

    The interval is that of a negative binomial of the predicted mean and variance; as counts are whole numbers, its
    ends belong to it with the chance that makes it hold 90 % (randomised probability integral transform).
    """
    from scipy import stats

    from sphisto.model.config import FitConfig
    from sphisto.model.fit import find_factors, informative, prior_of
    from sphisto.model.skill import left_out_skill

    slide = case.slide
    known = informative(slide.spots)
    factors = find_factors(slide.spots, known, FitConfig().n_factors, case.seed)
    told, _ = prior_of(slide, factors, known)
    loadings = factors.loadings[case.scored].astype(np.float64)
    density = pooled_prior(case, told)
    area = case.regions.spot.area_px(1.0) / slide.spot.area_px(1.0)
    counts = density @ loadings.T * area
    if case.finer:
        return Prediction(counts)
    skill = left_out_skill(told, factors, slide)
    mean, dispersion = np.maximum(counts, 1e-9), skill.dispersion[case.scored]
    variance = np.square(told_sd(case, told, loadings) * mean) + dispersion * mean**2
    size = mean**2 / np.maximum(variance, 1e-9)
    chance = np.random.default_rng(case.seed).random(mean.shape)
    below = stats.nbinom.cdf(case.truth - 1, size, size / (size + mean))
    place = below + chance * stats.nbinom.pmf(case.truth, size, size / (size + mean))
    inside = np.abs(place - 0.5) < LEVEL / 2
    return Prediction(counts, inside=inside, skill=skill.pearson[case.scored], note=f"{factors.n_factors} factors")


def pooled_prior(case: Case, told: Any) -> Floats:
    """(m, K) means over the regions of the prior's maps, drawn out from its stride to pixels tile by tile."""
    from scipy.ndimage import map_coordinates

    from sphisto.core.footprint import TilePool
    from sphisto.core.tiles import Window, plan_tiles

    grid, stride = case.slide.grid, told.stride
    pool = TilePool(case.regions.spot.footprint(grid.shape, case.regions.centers, grid.um_per_px), len(told.mean))
    for tile in plan_tiles(grid.shape, size=256, multiple=stride):
        core = tile.core
        height, width = (-(-side // stride) * stride for side in core.shape)
        maps = told.prior(Window(core.y0, core.x0, core.y0 + height, core.x0 + width).grown(stride))
        at = np.stack(np.meshgrid(*((np.arange(side) + 0.5) / stride + 0.5 for side in core.shape), indexing="ij"))
        drawn = np.stack([map_coordinates(plane, at, order=1, mode="nearest") for plane in maps])
        pool.add(core, drawn * case.slide.tissue[core.slices])
    return np.nan_to_num(pool.means())


def told_sd(case: Case, told: Any, loadings: Floats) -> Floats:
    """(m, S) relative standard deviation of the rates at the middles of the regions."""
    from sphisto.core.tiles import Window

    out = np.empty((len(case.regions), len(loadings)))
    for i, (y, x) in enumerate(case.regions.centers.astype(int)):
        out[i] = told.relative_sd(Window(y, x, y + 1, x + 1), loadings)[:, 0, 0]
    return out


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
