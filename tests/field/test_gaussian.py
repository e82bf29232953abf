from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.core.spot import median_pitch
from sphisto.field.config import FieldConfig
from sphisto.field.gaussian import choose_width, fit_gaussian, gaussian_weights
from sphisto.genes.observations import Observations


def test_weights_are_the_brute_force_gaussian(rng):
    centers, points = rng.uniform(0, 10, (15, 2)), rng.uniform(0, 10, (30, 2))
    squared = ((points[:, None] - centers[None]) ** 2).sum(axis=2)
    expected = np.exp(-squared / (2 * 1.3**2))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gaussian_weights(points, centers, 1.3).toarray(), expected, atol=1e-12)


def test_width_zero_is_the_nearest_spot(rng):
    centers, points = rng.uniform(0, 10, (15, 2)), rng.uniform(0, 10, (30, 2))
    nearest = ((points[:, None] - centers[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(gaussian_weights(points, centers, 0).toarray().argmax(axis=1), nearest)


def test_places_far_from_all_spots_take_the_nearest():
    weights = gaussian_weights(np.array([[1e4, 1e4]]), np.array([[0.0, 0.0], [1.0, 1.0]]), 0.5).toarray()
    np.testing.assert_allclose(weights, [[0, 1]], atol=1e-12)


def test_smooth_fields_want_wider_averages_than_rough_ones(rng):
    centers = np.stack(np.mgrid[:20, :20], axis=-1).reshape(-1, 2).astype(float)
    smooth = rng.poisson(5 + 4 * np.sin(centers[:, :1] / 8))
    rough = rng.poisson(2 + 40 * ((centers.sum(axis=1, keepdims=True) // 2) % 2))
    assert choose_width(centers, smooth, 1.0) > choose_width(centers, rough, 1.0)


def test_the_chosen_width_predicts_left_out_spots_best(rng):
    centers = rng.uniform(0, 12, (60, 2))
    values = rng.poisson(10 * np.exp(-(((centers - 6) / 4) ** 2).sum(axis=1, keepdims=True)))

    def error(width):
        left_out = [
            gaussian_weights(centers[i : i + 1], np.delete(centers, i, 0), width) @ np.delete(values, i, 0)
            for i in range(len(centers))
        ]
        return np.square(np.sqrt(np.concatenate(left_out)) - np.sqrt(values)).sum()

    chosen = choose_width(centers, values, 1.0)
    assert error(chosen) <= min(error(w) for w in (0.4, 0.5, 0.6, 0.75, 0.9, 1.1, 1.4, 1.8)) + 1e-9


def test_few_spots_are_no_error():
    assert choose_width(np.array([[0.0, 0.0]]), np.ones((1, 1)), 2.0) > 0
    assert median_pitch(np.zeros((1, 2))) == np.inf
    assert median_pitch(np.array([[0.0, 0.0], [0.0, 3.0]])) == pytest.approx(3)


def observations(density, centers, n_contrasts=0):
    n = len(density)
    return Observations(np.zeros(n, int), np.arange(n), centers, density, None, n_contrasts, 10.0)


def test_the_field_averages_the_known_observations(rng):
    centers, density = rng.uniform(0, 100, (30, 2)), rng.random((30, 2))
    solver = fit_gaussian(observations(density, centers), None, FieldConfig())
    known = rng.random(30) < 0.6
    found = solver.given(np.flatnonzero(~known)).density(np.array([[50.0, 40.0]]))
    near = np.argsort(np.square(centers[known] - (50, 40)).sum(axis=1))[:24]
    weight = np.exp(-np.square(centers[known][near] - (50, 40)).sum(axis=1) / (2 * solver.width**2))
    np.testing.assert_allclose(found[0], weight @ density[known][near] / weight.sum(), rtol=1e-5)


def test_contrasts_have_no_say_in_the_width(rng):
    """Widths are compared by roots, which they do not have."""
    centers = np.stack(np.mgrid[:8, :8], axis=-1).reshape(-1, 2) * 10.0
    density, contrast = rng.gamma(50, 1, (64, 2)), rng.normal(size=64)  # the same everywhere but for noise
    plain = fit_gaussian(observations(density, centers), None, FieldConfig())
    both = fit_gaussian(observations(np.column_stack([density, contrast]), centers, 1), None, FieldConfig())
    assert both.width == plain.width > 10


def test_noise_of_counting_is_not_spread(rng):
    """Halves that differ as much as the spots do leave nothing to spread."""
    centers = np.stack(np.mgrid[:8, :8], axis=-1).reshape(-1, 2) * 10.0
    halves = rng.poisson(50, (64, 1)) * 2.0, rng.poisson(50, (64, 1)) * 2.0
    density = (halves[0] + halves[1]) / 2
    noisy = fit_gaussian(observations(density, centers), None, FieldConfig())
    known = fit_gaussian(replace(observations(density, centers), halves=halves), None, FieldConfig())
    assert known.spread[0] < 0.4 * noisy.spread[0]
