from __future__ import annotations

import numpy as np
import torch
from scipy.stats import poisson

from sphisto.networks.losses import dissimilarity, poisson_deviance, scaled_squares


def test_deviance_is_twice_the_gap_of_log_likelihoods_per_count(rng):
    rate, counts = rng.gamma(2, 2, (5, 7)), rng.poisson(3, (5, 7)).astype(float)
    weight = np.array([1, 0, 0.5, 1, 2])
    gap = poisson.logpmf(counts, np.maximum(counts, 1e-300)) - poisson.logpmf(counts, rate)
    expected = (weight * 2 * gap.sum(axis=1)).sum() / (weight * counts.sum(axis=1)).sum()
    found = poisson_deviance(torch.tensor(rate), torch.tensor(counts), torch.tensor(weight))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_finite_where_nothing_was_counted():
    rate = torch.zeros(2, 3, requires_grad=True)
    poisson_deviance(rate, torch.tensor([[0.0, 1, 5], [0, 0, 0]]), torch.ones(2)).backward()
    assert torch.isfinite(rate.grad).all()


def test_scaled_squares_is_the_weighted_mean():
    objective = scaled_squares(torch.tensor([1.0, 2.0]))
    found = objective(torch.tensor([[1.0, 2], [0, 0]]), torch.tensor([[0.0, 0], [3, 0]]), torch.tensor([1.0, 3.0]))
    np.testing.assert_allclose(found, (1 * (1 + 1) / 2 + 3 * 9 / 2) / 4)


def test_a_batch_without_weight_is_zero_and_not_nan():
    nothing = torch.zeros(0, 3)
    assert poisson_deviance(nothing, nothing, torch.zeros(0)) == 0
    assert scaled_squares(torch.ones(3))(torch.ones(1, 3), torch.zeros(1, 3), torch.zeros(1)) == 0


def test_a_picture_is_like_itself_and_small_pictures_work():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 40, 40)
    assert abs(dissimilarity(picture, picture)) < 1e-5
    assert dissimilarity(torch.rand(1, 3, 40, 40), picture) > 0.5
    assert abs(dissimilarity(picture[..., :8, :8], picture[..., :8, :8])) < 1e-5


def test_a_colour_cast_is_felt_by_the_colour_term():
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 40, 40) * 0.5
    cast = picture + torch.tensor([0.0, 0.1, 0.2])[:, None, None]
    structure = dissimilarity(cast, picture)
    np.testing.assert_allclose(dissimilarity(cast, picture, 2.0), structure + 2 * 0.1, rtol=1e-4)
