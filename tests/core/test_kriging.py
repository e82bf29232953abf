from __future__ import annotations

import numpy as np
import pytest

from sphisto.core import kriging
from sphisto.core.kriging import fit_kriging


@pytest.fixture
def spots(rng):
    """A field on a grid of 12 x 12 spots: smooth in space, and following a texture that changes from spot to spot."""
    centers = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2) * 10.0
    drift = rng.normal(size=(144, 2)) / np.sqrt(2)
    smooth = np.sin(centers[:, :1] / 30) + np.cos(centers[:, 1:] / 40)
    quantities = 5 + np.hstack([smooth, 2 * smooth + 3 * drift[:, :1], drift[:, 1:], rng.normal(size=(144, 1))])
    return centers, drift, quantities + 0.1 * rng.normal(size=(144, 4))


def test_hiding_spots_is_the_same_as_never_having_measured_them(spots, rng):
    """Brute force: solve the equations of the spots that are left."""
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, 10.0)
    hidden = rng.random(144) < 0.3
    weights = field.weights(hidden)
    covariance = kriging._spherical(centers, centers, field.reach) + field.drift_weight * drift @ drift.T
    kept = np.flatnonzero(~hidden)
    for i, nugget in enumerate(field.nuggets):
        system = covariance[np.ix_(kept, kept)] + nugget * np.eye(len(kept))
        expected = np.linalg.solve(system, field.components[kept, i])
        np.testing.assert_allclose(weights[kept, i], expected, atol=2e-3 * np.abs(expected).max())
    assert (weights[hidden] == 0).all()


def test_left_out_values_are_those_told_by_all_other_spots(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, 10.0)
    told = field.left_out()
    for i in (0, 50, 143):
        alone = np.arange(144) == i
        at_spot = field.at(centers[alone], drift[alone], field.weights(alone))
        np.testing.assert_allclose(told[i], at_spot[0], atol=1e-2)


def test_the_field_at_the_spots_is_the_field_there(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, 10.0)
    there = field.at(centers, drift, field.weights(np.zeros(144, dtype=bool)))
    np.testing.assert_allclose(field.at_spots(), there, atol=5e-3)


def test_what_texture_tells_is_used_and_noise_is_not(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, 10.0)
    blind = fit_kriging(centers, np.zeros_like(drift), quantities, 10.0)
    assert field.drift_weight > 0

    def error(f):
        return np.square(f.left_out() - quantities).mean(axis=0)

    assert (error(field)[:3] < 0.6 * error(blind)[:3] + 0.05).all()
    assert error(field)[3] < 1.1 * quantities[:, 3].var()  # pure noise is given its mean, not its neighbours


def test_far_from_all_spots_the_mean_is_said(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, 10.0)
    far = field.at(np.array([[1e5, 1e5]]), np.zeros((1, 2)), field.weights(np.zeros(144, dtype=bool)))
    np.testing.assert_allclose(far[0], quantities.mean(axis=0), atol=1e-6)


def test_constant_quantities_are_told_everywhere(spots):
    centers, drift, _ = spots
    field = fit_kriging(centers, drift, np.full((144, 3), 2.0), 10.0)
    np.testing.assert_allclose(field.left_out(), 2.0)


def test_the_covariance_of_distance_is_one_at_none_and_zero_from_its_reach(rng):
    points = rng.uniform(0, 50, (80, 2))
    covariance = kriging._spherical(points, points, 12.0)
    np.testing.assert_allclose(np.diag(covariance), 1)
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    assert (np.abs(covariance[distance >= 12]) < 1e-12).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
