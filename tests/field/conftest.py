from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.features.maps import SectionFeatures
from sphisto.features.texture import Texture
from sphisto.field.config import FieldConfig
from sphisto.field.field import Field
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.genes.observations import observe
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


@pytest.fixture
def fit():
    """Fit a field to the known spots of a slide, of 4 factors and without contrasts unless a model is given."""

    def fitted(slide, known=None, model=None, config=FieldConfig()):
        known = np.ones(len(slide.spots.centers), dtype=bool) if known is None else known
        if model is None:
            found = fit_factors(slide.spots, known, GeneModelConfig(n_factors=4), 0)
            model = type(found)(found.genes, found.loadings[:, : found.n_factors - found.n_contrasts])
        features = SectionFeatures(slide, (Texture(),))
        return Field.fit(observe(slide, model, known, GeneModelConfig()), features, config)

    return fitted
