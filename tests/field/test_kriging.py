from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.core.places import Places
from sphisto.field import kriging
from sphisto.field.config import FieldConfig
from sphisto.field.covariance import Covariance
from sphisto.field.equations import solve
from sphisto.field.kriging import choose_covariance, fit_kriging
from sphisto.field.rotation import inverse_of, rotation_of
from sphisto.field.windows import one_window

PITCH = 10.0
CONFIG = FieldConfig()
NOBODY = np.zeros(0, dtype=int)


def krige(centers, features, quantities, config=CONFIG, *, halves=None, apart=0, covariance=None, components=None):
    """Choose a covariance and solve its equations, as the co-kriging of densities does."""
    mean = quantities.mean(axis=0)
    rotation = rotation_of(quantities - mean, apart)
    places = Places(centers)
    covariance = covariance or choose_covariance(
        places, features, (quantities - mean) @ inverse_of(rotation), np.square(rotation).sum(axis=1), PITCH, config
    )
    equations = solve(places, features, covariance, quantities - mean, config)
    return fit_kriging(equations, np.eye(len(mean)), mean, config, halves=halves, apart=apart, rotation=components)


def whole(covariance, a, f, b, g):
    """The covariance with its trend."""
    return covariance.between(a, f, b, g) + covariance.trend(f) @ covariance.trend(g).T


@pytest.fixture
def spots(rng):
    """A field on a grid of 12 x 12 spots: smooth in space, and following a features that changes from spot to spot."""
    centers = np.stack(np.mgrid[:12, :12], axis=-1).reshape(-1, 2) * PITCH
    features = rng.normal(size=(144, 2)) / np.sqrt(2)
    smooth = np.sin(centers[:, :1] / 30) + np.cos(centers[:, 1:] / 40)
    quantities = 5 + np.hstack([smooth, 2 * smooth + 3 * features[:, :1], features[:, 1:], rng.normal(size=(144, 1))])
    return centers, features, quantities + 0.1 * rng.normal(size=(144, 4))


def at_spots(field):
    return field.given(NOBODY).at(field.places.centers, field.features)


def by_brute_force(field, kept, points, features):
    """Weights of the kept spots from the equations of these alone, for each nugget; what they say at points."""
    model, centers = field.model, field.places.centers[kept]
    matrix = whole(field.covariance, centers, field.features[kept], centers, field.features[kept])
    across = whole(field.covariance, points, features, centers, field.features[kept])
    around = field.covariance.within(points, centers)
    found = np.zeros((len(points), len(model.slopes)))
    for nugget, share, part in zip(model.nuggets, model.shares, model.locals, strict=True):
        weights = np.linalg.solve(matrix + nugget * np.eye(len(kept)), field.components[kept])
        found += share * (model.slopes * (across @ weights) + part * (around @ weights))
    return model.quantities(found)


@pytest.mark.parametrize("halved", [False, True])
def test_hiding_spots_is_the_same_as_never_having_measured_them(spots, rng, halved):
    halves = 0.2 * rng.normal(size=(144, 4)) if halved else None
    field = krige(*spots, halves=halves)
    assert field.covariance.uses_features
    hidden = rng.random(144) < 0.3
    points, features = rng.uniform(0, 110, (9, 2)), rng.normal(size=(9, 2))
    expected = by_brute_force(field, np.flatnonzero(~hidden), points, features)
    found = field.given(np.flatnonzero(hidden)).at(points, features)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_components_that_others_know_are_kept_and_predicted_as_they_are(spots, rng):
    """Few spots would find other components, and slopes far from 1."""
    centers, features, quantities = (each[:25] for each in spots)
    known = rotation_of(spots[2] - spots[2].mean(axis=0), 1)
    found, alone = (krige(centers, features, quantities, apart=1, components=each) for each in (known, None))
    np.testing.assert_array_equal(found.model.rotation, known)
    np.testing.assert_array_equal(found.model.slopes, 1)
    assert np.abs(alone.model.slopes - 1).max() > 0.1
    np.testing.assert_allclose(found.components @ known, quantities - quantities.mean(axis=0), atol=1e-9)
    kept, points, there = np.arange(25) % 3 > 0, rng.uniform(0, 40, (9, 2)), rng.normal(size=(9, 2))
    expected = by_brute_force(found, np.flatnonzero(kept), points, there)
    np.testing.assert_allclose(found.given(np.flatnonzero(~kept)).at(points, there), expected, atol=2e-4)


def test_what_a_spot_is_given_is_what_is_asked_there(spots, rng):
    field = krige(*spots, halves=0.2 * rng.normal(size=(144, 4)))
    np.testing.assert_allclose(field.at_spots, at_spots(field), atol=2e-4)


def test_left_out_values_are_those_told_by_all_other_spots(spots):
    centers, features, quantities = spots
    field = krige(centers, features, quantities)
    told = field.left_out
    for i in (0, 50, 143):
        alone = np.arange(144) == i
        at_spot = field.given(np.flatnonzero(alone)).at(centers[alone], features[alone])
        np.testing.assert_allclose(told[i], at_spot[0], atol=1e-2)


def test_the_variance_is_that_of_the_equations(spots, rng):
    centers, features, quantities = spots
    field = krige(centers, features, quantities, halves=0.2 * rng.normal(size=(144, 4)))
    points, seen = rng.uniform(0, 110, (7, 2)), rng.normal(size=(7, 2))
    across = whole(field.covariance, points, seen, centers, features)
    within = field.covariance.within(points, centers)
    matrix = whole(field.covariance, centers, features, centers, features)
    at = field.covariance.at + np.square(field.covariance.trend(seen)).sum(axis=1)
    expected = np.zeros((7, len(field.model.slopes)))
    for nugget, share, scale, local in zip(
        CONFIG.nuggets, field.model.shares, field.model.scales, field.model.locals, strict=True
    ):
        inverse = np.linalg.inv(matrix + nugget * np.eye(144))
        for q in range(expected.shape[1]):
            known = across + local[q] * within
            left = at + local[q] - ((known @ inverse) * known).sum(axis=1)
            expected[:, q] += share[q] * scale[q] * left
    np.testing.assert_allclose(field.given(NOBODY).variance(points, seen), expected, rtol=0.02, atol=2e-3)


def test_left_out_errors_are_as_wide_as_their_variance_says(rng):
    """A field drawn from the model itself, with noise that is known."""
    centers = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2) * PITCH
    covariance = Covariance(PITCH, np.inf, CONFIG)
    matrix = covariance.between(centers, np.zeros((400, 1)), centers, np.zeros((400, 1)))
    field = np.linalg.cholesky(matrix + 1e-9 * np.eye(400)) @ rng.normal(size=(400, 3))
    noise = 0.5
    halves = 2 * noise * rng.normal(size=(400, 3))  # each half has twice the variance, their difference four times
    fitted = krige(centers, np.zeros((400, 1)), field + noise * rng.normal(size=(400, 3)), halves=halves)
    error = (fitted.left_out - field) @ np.linalg.pinv(fitted.model.rotation)
    assert np.square(error).mean() / fitted.left_out_variance.mean() == pytest.approx(1, abs=0.35)


def test_what_features_tells_is_used_and_noise_is_not(spots):
    centers, features, quantities = spots
    field = krige(centers, features, quantities)
    blind = krige(centers, np.zeros_like(features), quantities)
    assert field.covariance.uses_features
    assert not blind.covariance.uses_features

    def error(f):
        return np.square(f.left_out - quantities).mean(axis=0)

    assert (error(field)[:3] < 0.6 * error(blind)[:3] + 0.05).all()
    assert error(field)[3] < 1.1 * quantities[:, 3].var()  # pure noise is given its mean, not its neighbours


def test_features_that_tells_nothing_is_not_looked_at(spots, rng):
    centers, _, quantities = spots
    smooth = quantities[:, :1]
    assert not krige(centers, rng.normal(size=(144, 8)) / np.sqrt(8), smooth).covariance.uses_features


def test_features_that_is_the_same_almost_everywhere_is_not_looked_at(spots):
    centers, features, quantities = spots
    speck = np.where(np.arange(len(features))[:, None] == 7, 12.0, np.zeros_like(features))
    field = krige(centers, speck, quantities)
    assert not field.covariance.uses_features
    assert np.isfinite(at_spots(field)).all()


def test_what_is_particular_to_a_spot_is_kept_there_unless_it_is_noise(spots):
    centers, features, quantities = spots
    rough = quantities[:, 3:]  # different at each spot
    exact = krige(centers, features, rough, halves=np.zeros_like(rough))
    noisy = krige(centers, features, rough)
    error = [np.square(at_spots(f) - rough).mean() for f in (exact, noisy)]
    assert error[0] < 0.2 * error[1]
    between = centers[:1] + PITCH / 2 * np.sqrt(2)
    assert abs(exact.given(NOBODY).at(between, features[:1]) - rough.mean()) < abs(rough[0] - rough.mean())


def test_spots_are_close_to_themselves_only(spots):
    field = krige(*spots)
    points = field.places.centers[:1] + np.array([[0, 0], [0, -5], [0, -PITCH], [-1e4, 0]])
    close = field.given(NOBODY).closeness(points)
    assert close[0] == pytest.approx(1)
    assert 0 < close[1] < 1
    np.testing.assert_allclose(close[2:], 0)


def test_quantities_apart_are_components_of_their_own(spots):
    field = krige(*spots, apart=1)
    np.testing.assert_allclose(field.model.rotation[:-1, -1], 0)
    np.testing.assert_allclose(field.model.rotation[-1, :-1], 0)
    np.testing.assert_allclose(field.components @ field.model.rotation + field.model.mean, spots[2], atol=1e-8)


def test_far_from_all_spots_the_mean_is_said(spots):
    centers, features, quantities = spots
    field = krige(centers, features, quantities)
    far = field.given(NOBODY).at(np.array([[1e5, 1e5]]), np.zeros((1, 2)))
    np.testing.assert_allclose(far[0], quantities.mean(axis=0), atol=1e-6)


def test_constant_quantities_are_told_everywhere(spots):
    centers, features, _ = spots
    field = krige(centers, features, np.full((144, 3), 2.0))
    np.testing.assert_allclose(field.left_out, 2.0)


def test_points_may_be_asked_in_parts(spots, monkeypatch):
    centers, features, _ = spots
    kriged = krige(*spots).given(NOBODY)
    at_once = kriged.at(centers, features), kriged.variance(centers, features)
    monkeypatch.setattr(kriging, "_AT_ONCE", 10)
    np.testing.assert_allclose(kriged.at(centers, features), at_once[0], atol=1e-4)
    np.testing.assert_allclose(kriged.variance(centers, features), at_once[1], atol=1e-4)


def test_far_spots_enter_by_features_alone(spots):
    """Those beyond the reach of position, by the trend: the same as adding their covariances one by one."""
    centers, features, quantities = spots
    apart = centers * 10  # most spots lie beyond the reach of position
    field = krige(apart, features, quantities, covariance=Covariance(PITCH, 1.0, CONFIG))
    points = apart[:3] + 1
    expected = by_brute_force(field, np.arange(144), points, features[:3])
    np.testing.assert_allclose(field.given(NOBODY).at(points, features[:3]), expected, atol=1e-3)


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
            return whole(self.covariance, x[:, :2], x[:, 2:], y[:, :2], y[:, 2:])

        def diag(self, x):
            return self.covariance.at + np.square(self.covariance.trend(x[:, 2:])).sum(axis=1)

        def is_stationary(self):
            return False

    centers, features, quantities = spots
    config = FieldConfig(nuggets=(0.5,))
    field = krige(centers, features, quantities, config)
    assert field.covariance.uses_features
    known, places = rng.random(144) < 0.7, np.hstack([centers, features])
    process = GaussianProcessRegressor(Ours(field.covariance), alpha=0.5, optimizer=None)
    points = np.hstack([rng.uniform(0, 110, (9, 2)), rng.normal(size=(9, 2))])
    for rows in (known, np.ones(144, dtype=bool)):
        process.fit(places[rows], field.components[rows])
        mean, deviation = process.predict(points, return_std=True)
        components = mean.reshape(9, -1) * field.model.slopes
        found = field.given(np.flatnonzero(~rows)).at(points[:, :2], points[:, 2:])
        np.testing.assert_allclose(found, field.model.quantities(components), atol=5e-3)
    variance = np.square(deviation).reshape(9, -1) * field.model.scales[0]
    np.testing.assert_allclose(
        field.given(NOBODY).variance(points[:, :2], points[:, 2:]), variance, rtol=0.02, atol=2e-3
    )
    others = np.arange(144) != 50
    process.fit(places[others], field.components[others])
    alone = process.predict(places[50:51]).reshape(1, -1) * field.model.slopes
    np.testing.assert_allclose(field.left_out[50], field.model.quantities(alone)[0], atol=5e-3)


# Windows


def wide(rng, n=40):
    """A larger field on n x n spots: smooth at two scales, and following features."""
    centers = np.stack(np.mgrid[:n, :n], axis=-1).reshape(-1, 2) * PITCH
    features = rng.normal(size=(n * n, 3)) / np.sqrt(3)
    waves = [np.sin(centers @ rng.normal(0, 1 / 60, 2) + rng.uniform(0, 6)) for _ in range(4)]
    quantities = np.stack([waves[0] + features[:, 0], waves[1] + waves[2], features[:, 1] + 0.3 * waves[3]], axis=1)
    return centers, features, 3 + quantities + 0.5 * rng.normal(size=quantities.shape)


def test_windows_give_what_all_spots_together_do(rng):
    centers, features, quantities = wide(rng)
    halves = rng.normal(size=quantities.shape)
    dense, windows = (
        krige(centers, features, quantities, replace(CONFIG, most_spots=most), halves=halves) for most in (2_000, 500)
    )
    assert len(dense.windows) == 1
    assert len(windows.windows) == 9
    np.testing.assert_array_equal(windows.rows, np.arange(1600))
    spread = quantities.std()
    points, at = rng.uniform(0, 390, (400, 2)), rng.normal(size=(400, 3)) / np.sqrt(3)
    for found, expected in (
        (windows.left_out, dense.left_out),
        (windows.at_spots, dense.at_spots),
        (windows.given(NOBODY).at(points, at), dense.given(NOBODY).at(points, at)),
    ):
        assert np.sqrt(np.square(found - expected).mean()) < 0.02 * spread
    for found, expected in (
        (windows.left_out_variance, dense.left_out_variance),
        [field.given(NOBODY).variance(points, at) for field in (windows, dense)],
    ):
        assert found.mean() / expected.mean() == pytest.approx(1, abs=0.05)
        np.testing.assert_allclose(found, expected, rtol=0.15, atol=2e-3)


def test_windows_have_no_seams(rng):
    field = krige(*wide(rng), replace(CONFIG, most_spots=500)).given(NOBODY)
    line = np.stack([np.linspace(0, 390, 3_901), np.full(3_901, 133.0)], axis=1)
    step = np.abs(np.diff(field.at(line, np.zeros((3_901, 3))), axis=0))
    assert (step.max(axis=0) < 5 * np.quantile(step, 0.9, axis=0)).all()


def test_hiding_spots_in_a_window_is_as_in_the_whole(rng):
    centers, features, quantities = wide(rng)
    field = krige(centers, features, quantities)
    hidden = np.flatnonzero((rng.random(1600) < 0.5) & (np.abs(centers - 200).max(axis=1) < 60))
    window = one_window(np.array([150, 150]), np.array([250, 250]), 8 * PITCH)
    points, at = rng.uniform(150, 250, (200, 2)), rng.normal(size=(200, 3)) / np.sqrt(3)
    found, expected = field.given(hidden, window).at(points, at), field.given(hidden).at(points, at)
    assert np.sqrt(np.square(found - expected).mean()) < 0.03 * quantities.std()


def test_of_very_many_spots_some_windows_are_enough(rng):
    centers, features, quantities = wide(rng)
    config = replace(CONFIG, most_spots=500)
    every, some = (krige(centers, features, quantities, replace(config, sample=sample)) for sample in (20_000, 400))
    assert 400 <= len(some.rows) < 800
    points, at = rng.uniform(0, 390, (400, 2)), rng.normal(size=(400, 3)) / np.sqrt(3)
    found, expected = (field.given(NOBODY).at(points, at) for field in (some, every))
    assert np.sqrt(np.square(found - expected).mean()) < 0.15 * quantities.std()


def test_some_windows_stand_for_all_in_the_trend(rng):
    """Weights of what follows features alone: those of a sample are as if all had been solved for."""
    centers, features, _ = wide(rng)
    follows = 5 * features + 0.5 * rng.normal(size=features.shape)
    config = replace(CONFIG, most_spots=500)
    every, some = (
        solve(Places(centers), features, Covariance(PITCH, 1.0, config), follows, replace(config, sample=n))
        for n in (20_000, 400)
    )
    assert some.times > 2
    at = np.isin(every.rows, some.rows)
    found, expected = some.weights(np.eye(3)), every.weights(np.eye(3))[:, at]

    def apart(weights):
        return np.sqrt(np.square(weights - expected).mean())

    assert apart(found) < 0.25 * apart(every.solved[:, at])  # which would be two thirds, were they not scaled up
