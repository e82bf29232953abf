"""The field of a section, and the posterior under which the section is predicted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from sphisto.features.maps import SectionFeatures
from sphisto.field.config import FieldConfig
from sphisto.field.field import COARSEST, Field, stride_of
from sphisto.field.posterior import Posterior, prior_mean
from sphisto.genes.observations import informative, observe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sphisto.genes.model import GeneModel
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide

logger = logging.getLogger("sphisto")


def features_of(slide: Slide, config: FieldConfig) -> SectionFeatures:
    """Return the features of a slide on the grid of its field."""
    return SectionFeatures(slide, stride_of(slide.spots.pitch, config))


def fit_field(
    slide: Slide, model: GeneModel, known: NDArray[np.bool_], features: SectionFeatures, config: FieldConfig
) -> Field:
    """Fit the field of a slide to its ``known`` (n,) spots."""
    return Field.fit(observe(slide, model, known), features, config)


def posterior_for(fitted: Fitted, slide: Slide) -> Posterior:
    """Condition the field of a slide on all its spots; without any that tells something the prior mean is everywhere."""
    known = np.zeros(0, dtype=bool) if slide.measured is None else informative(slide)
    if not known.any():
        return prior_mean(fitted.mean, COARSEST)
    config = FieldConfig()
    field = fit_field(slide, fitted.model, known, features_of(slide, config), config)
    warn_without_features(field, slide)
    return field.given("all")


def warn_without_features(field: Field, slide: Slide) -> None:
    """Say so if a field does not use the image."""
    if not field.uses_features:
        logger.warning(
            "The image did not help to predict left-out spots of %r, or there are too few or too many spots to tell: "
            "what the spots around predict goes by position alone.",
            slide.name,
        )
