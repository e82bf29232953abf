"""What registered sections measured: an average near by, which nothing far away and nothing missing changes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from sphisto.core.pieces import in_pieces
from sphisto.features.config import DriftConfig
from sphisto.field.neighbours import Neighbour, Neighbours
from sphisto.slide.frames import Frame

CONFIG, PITCH = DriftConfig(), 100.0


def frame(step):
    return Frame("a", np.eye(3), step)


def neighbour(places, step=1):
    places = np.asarray(places, dtype=np.float64)
    return Neighbour(frame(step), places, PITCH, np.zeros((len(places), 1)), np.zeros((len(places), 1)))


def told(sections, rest, places, config=CONFIG):
    return Neighbours(frame(0), sections, rest, config).at(np.asarray(places, dtype=np.float64))


def test_it_is_the_weighted_mean_of_all_of_them(rng, monkeypatch):
    sections = [neighbour(rng.uniform(0, 400, (12, 2)), step) for step in (1, 2)]
    rest, places = [rng.normal(size=(12, 3)) for _ in sections], rng.uniform(0, 400, (7, 2))
    far, sums, weights = CONFIG.near * PITCH, 0.0, CONFIG.near_spots
    for step, each, values in zip((1, 2), sections, rest, strict=True):
        apart = np.linalg.norm(places[:, None] - each.places, axis=2)
        weight = np.where(apart < 3 * far, np.exp(-(apart**2) / (2 * far**2)), 0) * CONFIG.per_section**step
        sums, weights = sums + weight @ values, weights + weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told(sections, rest, places), sums / weights, atol=1e-9)
    one_by_one = partial(in_pieces, at_once=1)
    monkeypatch.setattr("sphisto.field.neighbours.in_pieces", one_by_one)
    np.testing.assert_allclose(told(sections, rest, places), sums / weights, atol=1e-9)
    assert told(sections, rest, np.zeros((0, 2))).shape == (0, 3)


def test_far_away_it_says_nothing(rng):
    found = told([neighbour(rng.uniform(0, 400, (12, 2)))], [np.full((12, 2), 5.0)], [[4_000, 0], [0, 4_000]])
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("n", [1, 60])
def test_a_single_observation_and_many_at_one_place(n):
    """One counts as much as the one of nothing beside it, times its share; many of them are believed."""
    found = told([neighbour(np.zeros((n, 2)))], [np.ones((n, 1))], [[0, 0]])
    weight = min(n, 48) * CONFIG.per_section
    assert found[0, 0] == pytest.approx(weight / (weight + CONFIG.near_spots))
