from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors, scores
from sphisto.genes.observations import informative, observe
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def with_counts(slide, counts):
    values = sparse.csr_array(np.asarray(counts, dtype=np.float32))
    return replace(slide, measured=replace(slide.spots, values=values))


def test_spots_without_counts_have_failed_unless_few_counts_are_usual(slide):
    n, g = slide.spots.values.shape
    many, few = np.full((n, g), 10.0), np.zeros((n, g))
    many[0] = 0
    few[::2, 0] = 1
    np.testing.assert_array_equal(informative(with_counts(slide, many)), np.arange(n) > 0)
    assert informative(with_counts(slide, few)).all()
    assert not informative(with_counts(slide, np.zeros((n, g)))).any()


def test_spots_off_the_image_tell_nothing(slide):
    centers = slide.spots.centers.copy()
    centers[:3] = ((-1, 5), (5, 112), (1e300, 5))
    moved = replace(slide, measured=replace(slide.spots, centers=centers))
    np.testing.assert_array_equal(informative(moved), np.arange(len(centers)) >= 3)


def test_observations_are_densities_of_the_known_spots(slide):
    known = np.arange(len(slide.spots.centers)) % 3 > 0
    model = fit_factors(slide.spots, known, GeneModelConfig(n_factors=4), 0)
    found = observe(slide, model, known, GeneModelConfig())
    np.testing.assert_array_equal(found.spots, np.flatnonzero(known))
    np.testing.assert_array_equal(found.centers, slide.spots.centers[known])
    assert (found.section == 0).all()
    share = slide.footprint().mean(slide.tissue)[known, 0]
    values = scores(model, slide.spots.values[np.flatnonzero(known)], GeneModelConfig(), is_counts=True)
    np.testing.assert_allclose(found.density * np.maximum(share, 0.25)[:, None], values, rtol=1e-6)
    assert found.plain.shape == (known.sum(), 4)
    # both halves are measurements of the same, with twice the noise
    for half in found.halves:
        assert half.sum() == pytest.approx(found.density.sum(), rel=0.1)


def test_values_that_are_no_counts_have_no_halves(slide):
    plain = replace(slide, measured=replace(slide.spots, is_counts=False))
    known = np.ones(len(slide.spots.centers), dtype=bool)
    assert (
        observe(
            plain, fit_factors(plain.spots, known, GeneModelConfig(n_factors=4), 0), known, GeneModelConfig()
        ).halves
        is None
    )
