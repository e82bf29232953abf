"""sphisto without a network: the target with what the other sections tell, and alone."""

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
from benchmarks.generalisation.cases import texture_of

from sphisto.config import FitConfig
from sphisto.core.tiles import plan_tiles
from sphisto.core.upsample import COARSEST
from sphisto.features.texture import Texture
from sphisto.field.posterior import prior_mean
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.predict.conditioning import fit_field
from sphisto.predict.sections import field_of, fit_together, shared_model, wide_maps
from sphisto.scoring.at_spots import pool_posterior
from sphisto.scoring.skill import left_out_skill

CONFIG = FitConfig()


def sphisto(case, *, scaling="section", registered=False):
    """Shared loadings, and under the kriging of the target's known spots the drift that the other sections teach.

    Without any known spot the genes' scatter beyond what is foreseen is that of the first other section.
    """
    slides = case.slides if registered else [replace(slide, frame=None) for slide in case.slides]
    shared = fit_together(
        slides, case.kept, [Texture()], CONFIG, scaling, case.seed,
        model=_model(case), maps=[_wide_maps(slide) for slide in case.slides],
    )  # fmt: skip
    at = case.at if case.known.any() else case.others[0]
    slide = slides[at]
    field = field_of(slide, shared, at, case.kept[at], texture_of(case.slides[at]), CONFIG)
    alone = prior_mean(shared.regression.roots.mean, COARSEST, shared.drift(case.at))
    posterior = field.given("all") if at == case.at else alone
    return _predicted(case, posterior, shared.model.of(case.at), left_out_skill(field, shared.model.of(at), slide))


def pooled(case):
    """The same with features scaled over all sections."""
    return sphisto(case, scaling="pooled")


def registered(case):
    """The same with what the other sections, each laid upon the one before, measured at the same place."""
    return sphisto(case, registered=True)


def alone(case):
    """The prior of a fit to the target's known spots, which is what a section has without others: its own co-kriging."""
    model = fit_factors(case.slide.spots, case.known, CONFIG.genes, case.seed)
    field = fit_field(case.slide, model, case.known, texture_of(case.slide), CONFIG)
    return _predicted(case, field.given("all"), model, left_out_skill(field, model, case.slide))


@lru_cache(maxsize=1)
def _model(case):
    """Loadings, which do not depend on where sections lie."""
    return shared_model(case.slides, case.kept, CONFIG, case.seed, None)


@cache
def _wide_maps(slide):
    return wide_maps([slide], [Texture()], CONFIG)[0]


def _predicted(case, posterior, model, skill):
    """With variances of the scored genes; NaN for the others."""
    tiles = plan_tiles(case.slide.grid.shape, size=256, multiple=posterior.stride)
    density = np.nan_to_num(pool_posterior(posterior, case.slide, case.slide.footprint().select(case.hidden), tiles))
    values, scored = rates(density, model.loadings.astype(np.float64), model.n_contrasts), case.scored
    some = model.of([gene for gene, kept in zip(model.genes, scored, strict=True) if kept])
    variance, centers = np.full_like(values, np.nan), case.slide.spots.centers[case.hidden]
    variance[:, scored] = posterior.variance_at(centers, some, values[:, scored], skill.dispersion[scored])
    return values, variance
