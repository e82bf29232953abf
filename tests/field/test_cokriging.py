from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.datasets import toy
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.io.slides import make_slide


def unevenly_measured(slide, rng):
    """The same spots, each measured so much better or worse than it should have been."""
    depth = np.exp(rng.normal(0, 1, len(slide.spots.centers)))
    values = sparse.csr_array(rng.poisson(slide.spots.values.toarray() * depth[:, None]).astype(np.float32))
    return replace(slide, measured=replace(slide.spots, values=values))


def test_spots_are_brought_to_a_common_sum_only_where_sums_tell_of_the_measurement(fit, rng):
    even = make_slide(sp.io.section(toy(240, 240, pitch_um=24, rng=1)))
    for section, brought in ((even, False), (unevenly_measured(even, rng), True)):
        known = np.ones(len(section.spots.centers), dtype=bool)
        field = fit(section, model=fit_factors(section.spots, known, GeneModelConfig(n_factors=8), 0))
        assert (field.solver.roots.level is not None) == brought


def test_the_maps_hold_what_the_spots_measured(slide, fit):
    field = fit(slide)
    maps = field.given("all").maps(Window(0, 0, *(side // 8 * 8 for side in slide.grid.shape)))
    y, x = ((slide.spots.centers / field.stride).astype(int)).T
    inside = (y < maps.shape[1]) & (x < maps.shape[2])
    expected = field.observations.density[inside].sum()
    assert maps[:, y[inside], x[inside]].sum() == pytest.approx(expected, rel=0.15)


def test_variance_grows_away_from_spots(slide, fit):
    kriged = fit(slide).given("all").solution.kriged
    known, far = slide.spots.centers[:1], slide.spots.centers.max(axis=0)[None] + 1e4
    blank = np.zeros((1, kriged.kriging.features.shape[1]))
    assert kriged.variance(known, blank).sum() < kriged.variance(far, blank).sum()
