from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import sphisto as sp
from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.features.config import DriftConfig
from sphisto.features.maps import FeatureMaps, SectionFeatures
from sphisto.features.shared import share_features
from sphisto.features.texture import Texture
from sphisto.field.config import FieldConfig
from sphisto.field.field import Field
from sphisto.field.regress import regress
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.genes.observations import Observations, observe
from sphisto.io.slides import make_slide
from sphisto.slide.slide import Slide

SIDE, PITCH, N_PLAIN, NEVER = 160, 8.0, 3, np.inf


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


class Tissue:
    """Sections whose factors follow two features of the image; a third feature tells nothing."""

    def __init__(self, rng):
        self.rng, self.weights = rng, rng.normal(0, 0.5, (2, N_PLAIN))

    def section(self, name, level=1.0):
        rng = self.rng
        smooth = ndimage.gaussian_filter(rng.normal(size=(3, SIDE // 2, SIDE // 2)), (0, 5, 5)) * 18
        grid, tissue = Grid(SIDE, SIDE, 10.0), np.ones((SIDE, SIDE), dtype=bool)
        slide = Slide(name, np.zeros((3, SIDE, SIDE), dtype=np.uint8), grid, tissue, Spot(55.0))
        maps = FeatureMaps(smooth.astype(np.float32), (0, 0), 2, slide.spot, 10.0)
        centers = np.stack(np.meshgrid(*2 * [np.arange(PITCH, SIDE - PITCH, PITCH)], indexing="ij"), axis=-1)
        centers = centers.reshape(-1, 2)
        rate = 40 * level * np.exp(maps.at_spots(centers)[:, :2] @ self.weights)
        return slide, maps, self.observed(centers, rate)

    def observed(self, centers, rate):
        halves = tuple(2.0 * self.rng.poisson(rate / 2) for _ in range(2))
        contrasts = [np.column_stack([half, half[:, :1] - half[:, 1:2]]) for half in halves]
        density, n = (contrasts[0] + contrasts[1]) / 2, len(centers)
        return Observations(np.zeros(n, dtype=int), np.arange(n), centers, density, tuple(contrasts), 1, PITCH)


@pytest.fixture
def tissue(rng):
    return Tissue(rng)


@pytest.fixture
def sections(tissue):
    return [tissue.section(name) for name in "abc"]


@pytest.fixture
def taught_by():
    """What sections teach, and the shared features that they are bound to."""

    def regression(sections, config=DriftConfig(), features=None):
        if features is None:
            slides, maps, _ = zip(*sections, strict=True)
            features = share_features(slides, maps, "section", config, 0)
        told = [(slide.name, observed, features.of(slide, maps)) for slide, maps, observed in sections]
        return regress(features, told, config, least_sum=NEVER), told

    return regression
