"""sphisto itself, and the prototype's network, through the public verbs; and sphisto's prior without any network."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray

    from sphisto.field.field import Field
    from sphisto.field.posterior import Posterior
    from sphisto.genes.model import GeneModel

LEVEL = 0.9  # of the predictive intervals


def sphisto(case: Case, **options: Any) -> Prediction:
    """Fit a projection to the training spots and sum its factor maps over the regions."""
    return fitted(case, 2, options)


def seed_network(case: Case, **options: Any) -> Prediction:
    """The prototype's network, on the most variable genes: it models single genes, and takes long."""
    return fitted(case, VARIABLE, {"network": "seed", **options})


def prior(case: Case, *, settings: Mapping[str, Any] | None = None) -> Prediction:
    """What sphisto's network starts from: its factors co-kriged, with predictive intervals and the skill it expects."""
    from sphisto.scoring import metrics
    from sphisto.scoring.skill import left_out_skill
    from sphisto.tl._held_out import variance_at

    field, factors = kriged(case, settings=settings)
    posterior = field.given("all")
    counts = expected(case, posterior, factors)
    if case.finer:
        return Prediction(counts)
    skill = left_out_skill(field, factors, case.slide)
    mean, scatter = np.maximum(counts, 1e-9), skill.dispersion[case.scored]
    variance = variance_at(posterior, case.regions.centers, scored_of(case, factors), mean, scatter)
    place = metrics.predictive_place(case.truth, mean, variance, np.random.default_rng(case.seed))
    inside = np.abs(place - 0.5) < LEVEL / 2
    return Prediction(counts, inside=inside, skill=skill.pearson[case.scored], note=f"{factors.n_factors} factors")


def kriged(
    case: Case, factors: GeneModel | None = None, *, settings: Mapping[str, Any] | None = None
) -> tuple[Field, GeneModel]:
    """Field of all training spots, and its factors: those given, or their own."""
    from sphisto.field.config import FieldConfig
    from sphisto.genes.observations import informative
    from sphisto.predict.conditioning import features_of, fit_field
    from sphisto.train.config import FitConfig
    from sphisto.train.fit import find_factors

    known, config = informative(case.slide), FieldConfig(**(settings or {}))
    factors = factors or find_factors(case.slide.spots, known, FitConfig().n_factors, case.seed)
    return fit_field(case.slide, factors, known, features_of(case.slide, config), config), factors


def expected(case: Case, posterior: Posterior, factors: GeneModel) -> Floats:
    """Counts that are expected in the regions."""
    from sphisto.core.tiles import plan_tiles
    from sphisto.genes.model import rates
    from sphisto.tl._held_out import pool_posterior

    slide, scored = case.slide, scored_of(case, factors)
    regions = case.regions.spot.footprint(slide.grid.shape, case.regions.centers, slide.grid.um_per_px)
    tiles = plan_tiles(slide.grid.shape, size=256, multiple=posterior.stride)
    density = np.nan_to_num(pool_posterior(posterior, slide, regions, tiles))
    area = case.regions.spot.area_px(1.0) / slide.spot.area_px(1.0)
    return rates(density, scored.loadings.astype(np.float64), scored.n_contrasts) * area


def scored_of(case: Case, factors: GeneModel) -> GeneModel:
    """Model of the scored genes."""
    return factors.of([factors.genes[i] for i in case.scored])


def fitted(case: Case, n_genes: int, options: dict[str, Any]) -> Prediction:
    """Fit, then pool factor maps and turn them into genes; NaN for genes that the network does not model."""
    import sphisto as sp
    from sphisto.genes.model import rates
    from sphisto.io.store import read as stores

    genes = [case.slide.spots.genes[i] for i in case.scored[case.variable()[:n_genes]]]
    adata = case.adata.copy()
    adata.uns.pop("toy", None)  # the truth's recipe is not for the fit
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "case.zarr"
        sp.tl.fit_projection(
            case.section(adata), store=store, genes=genes, rng=case.seed, **(case.resolution | options)
        )
        maps, n_contrasts = sp.get.raster(store, "projection_factors"), stores.n_contrasts(store, "projection")
    density = pooled(case, maps.to_numpy(), maps.attrs["um_per_px"])
    loadings = np.asarray(adata.varm["projection_loadings"], dtype=np.float64)
    area = case.regions.spot.area_px(1.0) / case.slide.spot.area_px(1.0)
    seconds = ", ".join(f"{phase} {value:.0f} s" for phase, value in adata.uns["projection"]["seconds"].items())
    return Prediction(rates(density, loadings[case.scored], n_contrasts) * area, note=seconds)


def pooled(case: Case, maps: NDArray[np.float32], um_per_px: float) -> Floats:
    """Mean of each map over each region; nothing lies outside tissue."""
    ratio = um_per_px / case.slide.grid.um_per_px
    if not np.allclose(np.multiply(maps.shape[1:], ratio), case.slide.grid.shape, atol=2 * ratio):
        msg = f"Maps of {maps.shape[1:]} px of {um_per_px:g} um do not cover the case's grid {case.slide.grid}."
        raise ValueError(msg)
    footprint = case.regions.spot.footprint(maps.shape[1:], case.regions.centers / ratio, um_per_px)
    return footprint.pool(maps) / footprint.area[:, None]
