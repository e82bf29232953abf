from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.field import kriging
from sphisto.field.config import FieldConfig
from sphisto.field.kriging import fit_kriging

PITCH = 10.0
CONFIG = FieldConfig()
EVERYONE = np.ones(144, dtype=bool)


@pytest.fixture
def spots(rng):
    """A field on a grid of 12 x 12 spots: smooth in space, and following a features that changes from spot to spot."""
    centers = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2) * PITCH
    features = rng.normal(size=(144, 2)) / np.sqrt(2)
    smooth = np.sin(centers[:, :1] / 30) + np.cos(centers[:, 1:] / 40)
    quantities = 5 + np.hstack([smooth, 2 * smooth + 3 * features[:, :1], features[:, 1:], rng.normal(size=(144, 1))])
    return centers, features, quantities + 0.1 * rng.normal(size=(144, 4))


def at_spots(field):
    return field.given(EVERYONE).at(field.centers, field.features)


def solved(field, kept):
    """Brute force: weights of the kept spots, from the equations of these alone, for each nugget."""
    matrix = field.covariance.between(field.centers, field.features, field.centers, field.features)
    systems = (matrix[np.ix_(kept, kept)] + nugget * np.eye(len(kept)) for nugget in CONFIG.nuggets)
    return [np.linalg.solve(system, field.components[kept]) for system in systems]


def test_hiding_spots_is_the_same_as_never_having_measured_them(spots, rng):
    field = fit_kriging(*spots, PITCH, CONFIG)
    hidden = rng.random(144) < 0.3
    kept = np.flatnonzero(~hidden)
    expected = sum(share * alpha for share, alpha in zip(field.model.shares, solved(field, kept), strict=True))
    found = field.given(~hidden)
    np.testing.assert_allclose(found.smooth[kept], expected * field.model.slopes, atol=2e-3 * np.abs(expected).max())
    assert not found.smooth[hidden].any()
    assert not found.local[hidden].any()


def test_left_out_values_are_those_told_by_all_other_spots(spots):
    centers, features, quantities = spots
    field = fit_kriging(centers, features, quantities, PITCH, CONFIG)
    told = field.left_out()
    for i in (0, 50, 143):
        alone = np.arange(144) == i
        at_spot = field.given(~alone).at(centers[alone], features[alone])
        np.testing.assert_allclose(told[i], at_spot[0], atol=1e-2)


def test_the_variance_is_that_of_the_equations(spots, rng):
    centers, features, quantities = spots
    field = fit_kriging(centers, features, quantities, PITCH, CONFIG, halves=0.2 * rng.normal(size=(144, 4)))
    points, seen = rng.uniform(0, 110, (7, 2)), rng.normal(size=(7, 2))
    across = field.covariance.between(points, seen, centers, features)
    within = field.covariance.within(points, centers)
    matrix = field.covariance.between(centers, features, centers, features)
    expected = np.zeros((7, len(field.model.slopes)))
    for nugget, share, scale, local in zip(
        CONFIG.nuggets, field.model.shares, field.model.scales, field.model.locals, strict=True
    ):
        inverse = np.linalg.inv(matrix + nugget * np.eye(144))
        for q in range(expected.shape[1]):
            known = across + local[q] * within
            left = field.covariance.at(seen) + local[q] - ((known @ inverse) * known).sum(axis=1)
            expected[:, q] += share[q] * scale[q] * left
    np.testing.assert_allclose(field.given(EVERYONE).variance(points, seen), expected, rtol=0.02, atol=2e-3)


def test_left_out_errors_are_as_wide_as_their_variance_says(rng):
    """A field drawn from the model itself, with noise that is known."""
    centers = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2) * PITCH
    covariance = kriging.Covariance(PITCH, np.inf, CONFIG)
    matrix = covariance.between(centers, np.zeros((400, 1)), centers, np.zeros((400, 1)))
    field = np.linalg.cholesky(matrix + 1e-9 * np.eye(400)) @ rng.normal(size=(400, 3))
    noise = 0.5
    halves = 2 * noise * rng.normal(size=(400, 3))  # each half has twice the variance, their difference four times
    fitted = fit_kriging(
        centers, np.zeros((400, 1)), field + noise * rng.normal(size=(400, 3)), PITCH, CONFIG, halves=halves
    )
    error = (fitted.left_out() - field) @ np.linalg.pinv(fitted.model.rotation)
    assert np.square(error).mean() / fitted.left_out_variance().mean() == pytest.approx(1, abs=0.35)


def test_what_features_tells_is_used_and_noise_is_not(spots):
    centers, features, quantities = spots
    field = fit_kriging(centers, features, quantities, PITCH, CONFIG)
    blind = fit_kriging(centers, np.zeros_like(features), quantities, PITCH, CONFIG)
    assert field.covariance.uses_features
    assert not blind.covariance.uses_features

    def error(f):
        return np.square(f.left_out() - quantities).mean(axis=0)

    assert (error(field)[:3] < 0.6 * error(blind)[:3] + 0.05).all()
    assert error(field)[3] < 1.1 * quantities[:, 3].var()  # pure noise is given its mean, not its neighbours


def test_features_that_tells_nothing_is_not_looked_at(spots, rng):
    centers, _, quantities = spots
    smooth = quantities[:, :1]
    assert not fit_kriging(
        centers, rng.normal(size=(144, 8)) / np.sqrt(8), smooth, PITCH, CONFIG
    ).covariance.uses_features


def test_features_that_is_the_same_almost_everywhere_is_not_looked_at(spots):
    centers, features, quantities = spots
    speck = np.where(np.arange(len(features))[:, None] == 7, 12.0, np.zeros_like(features))
    field = fit_kriging(centers, speck, quantities, PITCH, CONFIG)
    assert not field.covariance.uses_features
    assert np.isfinite(at_spots(field)).all()


def test_what_is_particular_to_a_spot_is_kept_there_unless_it_is_noise(spots):
    centers, features, quantities = spots
    rough = quantities[:, 3:]  # different at each spot
    exact = fit_kriging(centers, features, rough, PITCH, CONFIG, halves=np.zeros_like(rough))
    noisy = fit_kriging(centers, features, rough, PITCH, CONFIG)
    error = [np.square(at_spots(f) - rough).mean() for f in (exact, noisy)]
    assert error[0] < 0.2 * error[1]
    between = centers[:1] + PITCH / 2 * np.sqrt(2)
    assert abs(exact.given(EVERYONE).at(between, features[:1]) - rough.mean()) < abs(rough[0] - rough.mean())


def test_spots_are_close_to_themselves_only(spots):
    field = fit_kriging(*spots, PITCH, CONFIG)
    points = field.centers[:1] + np.array([[0, 0], [0, -5], [0, -PITCH], [-1e4, 0]])
    close = field.given(EVERYONE).closeness(points)
    assert close[0] == pytest.approx(1)
    assert 0 < close[1] < 1
    np.testing.assert_allclose(close[2:], 0)


def test_quantities_apart_are_components_of_their_own(spots):
    field = fit_kriging(*spots, PITCH, CONFIG, apart=1)
    np.testing.assert_allclose(field.model.rotation[:-1, -1], 0)
    np.testing.assert_allclose(field.model.rotation[-1, :-1], 0)
    np.testing.assert_allclose(field.components @ field.model.rotation + field.model.mean, spots[2], atol=1e-8)


def test_far_from_all_spots_the_mean_is_said(spots):
    centers, features, quantities = spots
    field = fit_kriging(centers, features, quantities, PITCH, CONFIG)
    far = field.given(EVERYONE).at(np.array([[1e5, 1e5]]), np.zeros((1, 2)))
    np.testing.assert_allclose(far[0], quantities.mean(axis=0), atol=1e-6)


def test_constant_quantities_are_told_everywhere(spots):
    centers, features, _ = spots
    field = fit_kriging(centers, features, np.full((144, 3), 2.0), PITCH, CONFIG)
    np.testing.assert_allclose(field.left_out(), 2.0)


def test_points_may_be_asked_in_parts(spots, monkeypatch):
    centers, features, _ = spots
    kriged = fit_kriging(*spots, PITCH, CONFIG).given(EVERYONE)
    whole = kriged.at(centers, features), kriged.variance(centers, features)
    monkeypatch.setattr(kriging, "_AT_ONCE", 10)
    np.testing.assert_allclose(kriged.at(centers, features), whole[0], atol=1e-4)
    np.testing.assert_allclose(kriged.variance(centers, features), whole[1], atol=1e-4)


def test_far_spots_enter_by_features_alone(spots):
    """What is far is summed up by its features: the same as adding its covariances one by one."""
    centers, features, quantities = spots
    apart = centers * 10  # most spots lie beyond the reach of position
    field = fit_kriging(apart, features, quantities, PITCH, CONFIG)
    kriged = replace(field, covariance=kriging.Covariance(PITCH, 1.0, CONFIG)).given(EVERYONE)
    points = apart[:3] + 1
    expected = (
        kriged.covariance.between(points, features[:3], apart, features) @ kriged.smooth
        + kriged.covariance.within(points, apart) @ kriged.local
    ) @ kriged.model.rotation + kriged.model.mean
    np.testing.assert_allclose(kriged.at(points, features[:3]), expected, atol=1e-3)


def test_with_one_nugget_it_is_a_gaussian_process(spots, rng):
    """Against scikit-learn's, given the same covariance: mean, variance and left-out values."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Kernel

    class Ours(Kernel):
        """The covariance of places (y, x) with their features beside them."""

        def __init__(self, covariance):
            self.covariance = covariance

        def __call__(self, x, y=None, eval_gradient=False):
            y = x if y is None else y
            return self.covariance.between(x[:, :2], x[:, 2:], y[:, :2], y[:, 2:])

        def diag(self, x):
            return self.covariance.at(x[:, 2:])

        def is_stationary(self):
            return False

    centers, features, quantities = spots
    config = FieldConfig(nuggets=(0.5,))
    field = fit_kriging(centers, features, quantities, PITCH, config)
    assert field.covariance.uses_features
    known, places = rng.random(144) < 0.7, np.hstack([centers, features])
    process = GaussianProcessRegressor(Ours(field.covariance), alpha=0.5, optimizer=None)
    points = np.hstack([rng.uniform(0, 110, (9, 2)), rng.normal(size=(9, 2))])
    for rows in (known, EVERYONE):
        process.fit(places[rows], field.components[rows])
        mean, deviation = process.predict(points, return_std=True)
        components = mean.reshape(9, -1) * field.model.slopes
        found = field.given(rows).at(points[:, :2], points[:, 2:])
        np.testing.assert_allclose(found, field.model.quantities(components), atol=5e-3)
    variance = np.square(deviation).reshape(9, -1) * field.model.scales[0]
    np.testing.assert_allclose(
        field.given(EVERYONE).variance(points[:, :2], points[:, 2:]), variance, rtol=0.02, atol=2e-3
    )
    others = np.arange(144) != 50
    process.fit(places[others], field.components[others])
    alone = process.predict(places[50:51]).reshape(1, -1) * field.model.slopes
    np.testing.assert_allclose(field.left_out()[50], field.model.quantities(alone)[0], atol=5e-3)
