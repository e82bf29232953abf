from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.interpolate import choose_width, gaussian_weights, median_pitch


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
