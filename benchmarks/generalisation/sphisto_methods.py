"""sphisto without a network: the target with what the other sections tell, and alone."""

import time

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
from sphisto.predict.sections import field_of, fit_together
from sphisto.scoring.at_spots import Prediction, pool_posterior, variance_at
from sphisto.scoring.skill import left_out_skill


def sphisto(case, *, scaling="section"):
    """Shared loadings, and under the kriging of the target's known spots the drift that the other sections teach.

    Without any known spot the genes' scatter beyond what is foreseen is that of the first other section.
    """
    started, config = time.process_time(), FitConfig()
    shared = fit_together(case.slides, case.kept, [Texture()], config, scaling, case.seed)

    def fitted(section):
        slide = case.slides[section]
        return field_of(slide, shared, section, case.kept[section], texture_of(slide), config)

    own = fitted(case.at) if case.known.any() else None
    posterior = own.given("all") if own else prior_mean(shared.taught.roots.mean, COARSEST, shared.drift(case.at))
    values = _expected(case, posterior, shared.model.of(case.at))
    seconds = time.process_time() - started
    section = case.at if own else case.others[0]
    skill = left_out_skill(own or fitted(section), shared.model.of(section), case.slides[section])
    return _predicted(case, posterior, shared.model.of(case.at), values, skill.dispersion, seconds)


def alone(case):
    """The prior of a fit to the target's known spots, which is what a section has without others: its own co-kriging."""
    started, config = time.process_time(), FitConfig()
    model = fit_factors(case.slide.spots, case.known, config.genes, case.seed)
    field = fit_field(case.slide, model, case.known, texture_of(case.slide), config)
    posterior = field.given("all")
    values = _expected(case, posterior, model)
    seconds = time.process_time() - started
    return _predicted(case, posterior, model, values, left_out_skill(field, model, case.slide).dispersion, seconds)


def _expected(case, posterior, model):
    """(m, G) counts that a posterior expects at the hidden spots."""
    tiles = plan_tiles(case.slide.grid.shape, size=256, multiple=posterior.stride)
    density = np.nan_to_num(pool_posterior(posterior, case.slide, case.slide.footprint().select(case.hidden), tiles))
    return rates(density, model.loadings.astype(np.float64), model.n_contrasts)


def _predicted(case, posterior, model, values, scatter, seconds):
    """With variances of the scored genes; NaN for the others."""
    scored = model.of([gene for gene, kept in zip(model.genes, case.scored, strict=True) if kept])
    variance = np.full_like(values, np.nan)
    centers = case.slide.spots.centers[case.hidden]
    variance[:, case.scored] = variance_at(posterior, centers, scored, values[:, case.scored], scatter[case.scored])
    return Prediction(values, seconds, variance)
