from __future__ import annotations

import numpy as np
import pytest

from sphisto.field.roots import Roots, composition_error, composition_errors
from sphisto.scoring.metrics import poisson_deviance


@pytest.mark.parametrize("level", [None, 30.0])
def test_densities_come_back_from_their_roots(rng, level):
    density = np.column_stack([rng.gamma(5, 2, (20, 3)), rng.normal(0, 2, (20, 2))])
    roots = Roots(density.mean(axis=0), 2, level)
    quantities = roots.quantities(density)
    assert quantities.shape == (20, 6)
    np.testing.assert_allclose(roots.density(quantities, np.ones(4)), density, rtol=1e-9)


@pytest.mark.parametrize("level", [None, 40.0])
def test_variance_of_rates_is_that_of_small_changes_of_the_components(rng, level):
    """Against differences of the rates when one component after the other is moved a little."""
    wanted = np.column_stack([rng.gamma(2, 20, (3, 4)), rng.normal(0, 5, (3, 2))])  # far from where it is cut off
    loadings = rng.gamma(1, 0.1, (7, 6))
    roots, gain = Roots(wanted.mean(axis=0), 2, level), rng.uniform(1, 1.5, 5)
    rotation = np.zeros((7, 7))
    rotation[:4, :4], rotation[4:, 4:] = rng.normal(0, 1, (4, 4)), np.diag([0.7, 1.1, 0.4])
    quantities = roots.quantities(wanted)
    quantities[:, :5] /= np.sqrt(gain)
    components = quantities @ np.linalg.pinv(rotation)
    variance = rng.uniform(0.1, 1, components.shape)

    def rates_of(components):
        density = roots.density(components @ rotation, gain)
        return density, density @ loadings.T

    density, rates = rates_of(components)
    expected = np.zeros_like(rates)
    for q, step in enumerate(1e-5 * np.eye(7)):
        expected += (
            np.square((rates_of(components + step)[1] - rates_of(components - step)[1]) / 2e-5) * variance[:, [q]]
        )
    found = roots.rate_variance(density, variance, rotation, gain, loadings)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_common_sum_takes_depth_out_of_the_roots_but_for_that_of_the_sum(rng):
    density, depth = rng.gamma(5, 2, (20, 3)), rng.uniform(0.5, 2, (20, 1))
    roots = Roots(density.mean(axis=0), 0, 30.0)
    even, uneven = roots.quantities(density), roots.quantities(density * depth)
    np.testing.assert_allclose(uneven[:, :3], even[:, :3])
    assert not np.allclose(uneven[:, 3], even[:, 3])


def test_spots_of_next_to_no_counts_are_not_blown_up(rng):
    found = Roots(np.full(3, 10.0), 0, 30.0).quantities(np.full((1, 3), 1e-6))
    assert np.abs(found).max() < 1


def test_gain_makes_squares_of_smoothed_roots_right(rng):
    """A mean of roots, squared, falls short of the mean: by a factor that is known here."""
    density = np.column_stack([rng.gamma(4, 5, 4_000), rng.gamma(2, 5, 4_000)])
    roots = Roots(density.mean(axis=0), 0, None)
    quantities = roots.quantities(density)
    gain = np.square(quantities).mean(axis=0) / np.square(quantities.mean(axis=0))
    np.testing.assert_allclose(roots.density(quantities.mean(axis=0)[None], gain)[0], density.mean(axis=0), rtol=1e-6)
    assert roots.density(quantities.mean(axis=0)[None], np.ones(3)).sum() < density.mean(axis=0).sum()


def test_the_error_of_a_composition_is_a_quarter_of_its_deviance_and_blind_to_depth(rng):
    measured = rng.poisson(200, (50, 4)).astype(float)
    predicted = np.full((50, 4), 200.0)
    errors = composition_errors(predicted, measured, 4)
    assert composition_error(predicted, measured, 4) == pytest.approx(errors.sum())
    sums = measured.sum(axis=1, keepdims=True)
    deviance = poisson_deviance(predicted / 800 * sums, measured).sum() * 50
    assert errors.sum() == pytest.approx(deviance / 4, rel=0.05)
    depth = rng.uniform(0.1, 10, (50, 1))
    np.testing.assert_allclose(composition_errors(predicted * depth, measured, 4), errors)
    # contrasts have no part in it
    with_contrast = np.column_stack([measured, rng.normal(0, 9, 50)])
    np.testing.assert_allclose(composition_errors(predicted, with_contrast, 4), errors)
