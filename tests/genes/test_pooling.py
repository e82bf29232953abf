"""Factors of bins that hold a handful of counts each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sphisto.config import GeneModelConfig
from sphisto.genes.factorize import _side_of_pools, fit_factors
from sphisto.slide.slide import Measured

SIDE, PITCH = 60, 2.5


@pytest.fixture
def bins(rng):
    """Bins of some four counts, left and right of two kinds of tissue; and the (2, G) profiles of these."""
    y, x = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
    profiles = rng.dirichlet(np.full(30, 0.3), size=2)
    rates = 4 * profiles[(x >= SIDE // 2).astype(int)]
    counts = sparse.csr_array(rng.poisson(rates).astype(np.float32))
    centers = (np.stack([y, x], axis=1) + 0.5) * PITCH
    return Measured(centers, counts, tuple(f"g{i}" for i in range(30)), True, PITCH), profiles


def nearest(loadings, profiles):
    """Mean over profiles of the least distance (total variation) to a loading."""
    shares = loadings / loadings.sum(axis=0)
    return np.mean([0.5 * np.abs(shares - profile[:, None]).sum(axis=0).min() for profile in profiles])


def test_loadings_of_pooled_bins_are_nearer_to_the_truth(bins):
    measured, profiles = bins
    every, config = np.ones(len(measured.centers), dtype=bool), GeneModelConfig(least_factors=2, n_factors=2)
    pooled = fit_factors(measured, every, config, 0)
    single = fit_factors(measured, every, replace(config, pooled_counts=1e-6), 0)
    found, without = (nearest(model.loadings[:, :2].astype(float), profiles) for model in (pooled, single))
    assert found < 0.05
    assert found < without


def test_spots_of_many_counts_and_few_spots_are_not_pooled(bins):
    measured, _ = bins
    config = GeneModelConfig()
    assert _side_of_pools(measured.values, config) == 2  # enough sums must be left
    assert _side_of_pools(measured.values, replace(config, sample=400)) == 4
    assert _side_of_pools(measured.values * 20, config) == 1
    assert _side_of_pools(measured.values[:300], config) == 1


def test_rows_outside_a_window_are_pooled_in_runs(bins):
    measured, profiles = bins
    left = measured.centers[:, 1] < SIDE / 2 * PITCH
    window = replace(
        measured, centers=measured.centers[left], values=measured.values[left], others=measured.values[~left]
    )
    config = GeneModelConfig(least_factors=2, n_factors=2, sample=200)
    model = fit_factors(window, np.ones(left.sum(), dtype=bool), config, 0)
    assert nearest(model.loadings[:, :2].astype(float), profiles) < 0.06
