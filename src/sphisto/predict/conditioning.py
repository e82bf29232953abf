"""The field of a section, and the posterior under which the section is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sphisto._cores import one_blas_thread
from sphisto._settings import logger
from sphisto.config import FitConfig
from sphisto.core.upsample import COARSEST
from sphisto.features.maps import SectionFeatures
from sphisto.features.shared import Scaling
from sphisto.features.source import FeatureSource
from sphisto.features.sources import require_same
from sphisto.field.field import Field
from sphisto.field.posterior import Posterior, prior_mean
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import informative, observe
from sphisto.predict.fitted import Fitted
from sphisto.predict.sections import drift_about, field_with, uses_neighbours, warn_if_nothing_followed
from sphisto.scoring.skill import left_out_skill
from sphisto.slide.slide import Slide


def features_of(slide: Slide, sources: Sequence[FeatureSource], config: FitConfig) -> SectionFeatures | None:
    """Return the features of a slide, which are read when they are first asked for; ``None`` if none are to be used."""
    return SectionFeatures(slide, tuple(sources)) if sources and config.field.use_features else None


def fit_field(
    slide: Slide, model: GeneModel, known: NDArray[np.bool_], features: SectionFeatures | None, config: FitConfig
) -> Field:
    """Fit the field of a slide to its ``known`` (n,) spots."""
    return Field.fit(observe(slide, model, known, config.genes), features, config.field)


@one_blas_thread()
def posterior_for(
    fitted: Fitted, slide: Slide, sources: Sequence[FeatureSource], scaling: Scaling | None = None
) -> tuple[Fitted, Posterior]:
    """Condition the field of a slide on all its spots.

    Without any that were measured the prior mean is everywhere, or what the sections of the fit tell about this one, its
    features standardised as ``scaling`` says, or as they were in the fit.

    Returns
    -------
    The projection as it is in this section, and the posterior.
    """
    require_same(sources, fitted.features)
    known = np.zeros(0, dtype=bool) if slide.measured is None else informative(slide)
    features = features_of(slide, sources, fitted.config)
    if fitted.regressions:
        fitted, drift = drift_about(fitted, slide, known, sources, scaling)
        if known.any():
            observations = observe(slide, fitted.model, known, fitted.config.genes)
            field = field_with(drift, observations, features, fitted.config)
            used, posterior = uses_neighbours(field, slide), field.given("all")
            warn_if_nothing_followed(field, slide)
            if slide.name not in fitted.sections:
                fitted = _with_own_skill(fitted, field, slide)
                if field.followed is not None:
                    fitted = replace(fitted, params={**fitted.params, "followed": field.followed})
        else:
            used = None if drift is None else drift.uses_neighbours
            posterior = prior_mean(fitted.mean, COARSEST, drift)
        if used is not None and slide.name not in fitted.sections:  # of one of the fit it is recorded as the fit had it
            fitted = replace(fitted, params={**fitted.params, "registered_used": used})
        return fitted, posterior
    if not known.any():
        logger.warning(
            "%r has no spots, and the projection is of one section, of which only the network, where it is used, knows other "
            "images: what it starts from is the same everywhere, and standard deviations are unknown. Fit a list of sections, also of one: "
            "`sphisto.tl.fit_projection([section])`.", slide.name,
        )  # fmt: skip
        return replace(fitted, skill=fitted.skill.unknown()), prior_mean(fitted.mean, COARSEST)
    field = fit_field(slide, fitted.model, known, features, fitted.config)
    warn_without_features(field, slide)
    return _with_own_skill(fitted, field, slide), field.given("all")


def _with_own_skill(fitted: Fitted, field: Field, slide: Slide) -> Fitted:
    """Return a projection with the skill of genes in a section that it may not have been fitted to, where skill is known at all."""
    if not (fitted.is_counts and np.isfinite(fitted.skill.pearson).any()):
        return fitted
    measured = fitted.model.measured_by(slide.spots.genes)
    own = left_out_skill(field, measured, slide)
    return replace(fitted, skill=fitted.skill.over(own, fitted.model.places(measured.genes)))


def warn_without_features(field: Field, slide: Slide) -> None:
    """Warn if a field does not use the image."""
    if not field.uses_features:
        logger.warning(
            "The image did not help to predict left-out spots of %r, or there are too few spots to decide: the prior "
            "between spots depends on position alone. It is decided from `least_spots` of `FieldConfig` on; other `features` may help, and `use_features=False` spares the attempt.",
            slide.name,
        )
