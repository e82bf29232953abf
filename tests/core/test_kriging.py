from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.core import kriging
from sphisto.core.kriging import fit_kriging

PITCH = 10.0
NOBODY = np.zeros(144, dtype=bool)


@pytest.fixture
def spots(rng):
    """A field on a grid of 12 x 12 spots: smooth in space, and following a texture that changes from spot to spot."""
    centers = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2) * PITCH
    drift = rng.normal(size=(144, 2)) / np.sqrt(2)
    smooth = np.sin(centers[:, :1] / 30) + np.cos(centers[:, 1:] / 40)
    quantities = 5 + np.hstack([smooth, 2 * smooth + 3 * drift[:, :1], drift[:, 1:], rng.normal(size=(144, 1))])
    return centers, drift, quantities + 0.1 * rng.normal(size=(144, 4))


def solved(field, kept):
    """Brute force: weights of the kept spots, from the equations of these alone, for each nugget."""
    matrix = field.covariance.between(field.centers, field.drift, field.centers, field.drift)
    systems = (matrix[np.ix_(kept, kept)] + nugget * np.eye(len(kept)) for nugget in kriging._NUGGETS)
    return [np.linalg.solve(system, field.components[kept]) for system in systems]


def test_hiding_spots_is_the_same_as_never_having_measured_them(spots, rng):
    field = fit_kriging(*spots, PITCH)
    hidden = rng.random(144) < 0.3
    kept = np.flatnonzero(~hidden)
    expected = sum(share * alpha for share, alpha in zip(field.shares, solved(field, kept), strict=True))
    found = field.weights(hidden)
    np.testing.assert_allclose(found.smooth[kept], expected * field.slopes, atol=2e-3 * np.abs(expected).max())
    assert not found.smooth[hidden].any()
    assert not found.local[hidden].any()


def test_left_out_values_are_those_told_by_all_other_spots(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, PITCH)
    told = field.left_out()
    for i in (0, 50, 143):
        alone = np.arange(144) == i
        at_spot = field.at(centers[alone], drift[alone], field.weights(alone))
        np.testing.assert_allclose(told[i], at_spot[0], atol=1e-2)


def test_the_variance_is_that_of_the_equations(spots, rng):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, PITCH, halves=0.2 * rng.normal(size=(144, 4)))
    points, seen = rng.uniform(0, 110, (7, 2)), rng.normal(size=(7, 2))
    across = field.covariance.between(points, seen, centers, drift)
    within = field.covariance.within(points, centers)
    matrix = field.covariance.between(centers, drift, centers, drift)
    expected = np.zeros((7, len(field.slopes)))
    for nugget, share, scale, local in zip(kriging._NUGGETS, field.shares, field.scales, field.locals, strict=True):
        inverse = np.linalg.inv(matrix + nugget * np.eye(144))
        for q in range(expected.shape[1]):
            known = across + local[q] * within
            left = field.covariance.at(seen) + local[q] - ((known @ inverse) * known).sum(axis=1)
            expected[:, q] += share[q] * scale[q] * left
    np.testing.assert_allclose(field.variance(points, seen), expected, rtol=0.02, atol=2e-3)


def test_left_out_errors_are_as_wide_as_their_variance_says(rng):
    """A field drawn from the model itself, with noise that is known."""
    centers = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2) * PITCH
    covariance = kriging.Covariance(PITCH, np.inf)
    matrix = covariance.between(centers, np.zeros((400, 1)), centers, np.zeros((400, 1)))
    field = np.linalg.cholesky(matrix + 1e-9 * np.eye(400)) @ rng.normal(size=(400, 3))
    noise = 0.5
    halves = 2 * noise * rng.normal(size=(400, 3))  # each half has twice the variance, their difference four times
    fitted = fit_kriging(centers, np.zeros((400, 1)), field + noise * rng.normal(size=(400, 3)), PITCH, halves=halves)
    error = (fitted.left_out() - field) @ np.linalg.pinv(fitted.rotation)
    assert np.square(error).mean() / fitted.left_out_variance().mean() == pytest.approx(1, abs=0.35)


def test_what_texture_tells_is_used_and_noise_is_not(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, PITCH)
    blind = fit_kriging(centers, np.zeros_like(drift), quantities, PITCH)
    assert field.sees_texture
    assert not blind.sees_texture

    def error(f):
        return np.square(f.left_out() - quantities).mean(axis=0)

    assert (error(field)[:3] < 0.6 * error(blind)[:3] + 0.05).all()
    assert error(field)[3] < 1.1 * quantities[:, 3].var()  # pure noise is given its mean, not its neighbours


def test_texture_that_tells_nothing_is_not_looked_at(spots, rng):
    centers, _, quantities = spots
    smooth = quantities[:, :1]
    assert not fit_kriging(centers, rng.normal(size=(144, 8)) / np.sqrt(8), smooth, PITCH).sees_texture


def test_texture_that_is_the_same_almost_everywhere_is_not_looked_at(spots):
    centers, drift, quantities = spots
    speck = np.where(np.arange(len(drift))[:, None] == 7, 12.0, np.zeros_like(drift))
    field = fit_kriging(centers, speck, quantities, PITCH)
    assert not field.sees_texture
    assert np.isfinite(field.at_spots()).all()


def test_what_is_particular_to_a_spot_is_kept_there_unless_it_is_noise(spots):
    centers, drift, quantities = spots
    rough = quantities[:, 3:]  # different at each spot
    exact = fit_kriging(centers, drift, rough, PITCH, halves=np.zeros_like(rough))
    noisy = fit_kriging(centers, drift, rough, PITCH)
    error = [np.square(f.at_spots() - rough).mean() for f in (exact, noisy)]
    assert error[0] < 0.2 * error[1]
    between = centers[:1] + PITCH / 2 * np.sqrt(2)
    assert abs(exact.at(between, drift[:1], exact.weights(NOBODY)) - rough.mean()) < abs(rough[0] - rough.mean())


def test_spots_are_close_to_themselves_only(spots):
    field = fit_kriging(*spots, PITCH)
    points = field.centers[:1] + np.array([[0, 0], [0, -5], [0, -PITCH], [-1e4, 0]])
    close = field.closeness(points, field.weights(NOBODY))
    assert close[0] == pytest.approx(1)
    assert 0 < close[1] < 1
    np.testing.assert_allclose(close[2:], 0)


def test_quantities_apart_are_components_of_their_own(spots):
    field = fit_kriging(*spots, PITCH, apart=1)
    np.testing.assert_allclose(field.rotation[:-1, -1], 0)
    np.testing.assert_allclose(field.rotation[-1, :-1], 0)
    np.testing.assert_allclose(field.components @ field.rotation + field.mean, spots[2], atol=1e-8)


def test_far_from_all_spots_the_mean_is_said(spots):
    centers, drift, quantities = spots
    field = fit_kriging(centers, drift, quantities, PITCH)
    far = field.at(np.array([[1e5, 1e5]]), np.zeros((1, 2)), field.weights(NOBODY))
    np.testing.assert_allclose(far[0], quantities.mean(axis=0), atol=1e-6)


def test_constant_quantities_are_told_everywhere(spots):
    centers, drift, _ = spots
    field = fit_kriging(centers, drift, np.full((144, 3), 2.0), PITCH)
    np.testing.assert_allclose(field.left_out(), 2.0)


def test_points_may_be_asked_in_parts(spots, monkeypatch):
    centers, drift, _ = spots
    field = fit_kriging(*spots, PITCH)
    weights = field.weights(NOBODY)
    whole = field.at(centers, drift, weights), field.variance(centers, drift)
    monkeypatch.setattr(kriging, "_AT_ONCE", 10)
    np.testing.assert_allclose(field.at(centers, drift, weights), whole[0], atol=1e-4)
    np.testing.assert_allclose(field.variance(centers, drift), whole[1], atol=1e-4)


def test_far_spots_speak_by_texture_alone(spots):
    """What is far is summed up by its texture: the same as adding its covariances one by one."""
    centers, drift, quantities = spots
    apart = centers * 10  # most spots lie beyond the reach of position
    field = fit_kriging(apart, drift, quantities, PITCH)
    field = replace(field, covariance=kriging.Covariance(PITCH, 1.0))
    weights = field.weights(NOBODY)
    points = apart[:3] + 1
    expected = (
        field.covariance.between(points, drift[:3], apart, drift) @ weights.smooth
        + field.covariance.within(points, apart) @ weights.local
    ) @ field.rotation + field.mean
    np.testing.assert_allclose(field.at(points, drift[:3], weights), expected, atol=1e-3)


def test_the_covariance_of_distance_is_one_at_none_and_zero_from_its_reach(rng):
    points = rng.uniform(0, 50, (80, 2))
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    covariance = kriging._spherical(kriging._distance(points, points), 12.0)
    np.testing.assert_allclose(np.diag(covariance), 1)
    assert (np.abs(covariance[distance >= 12]) < 1e-12).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
