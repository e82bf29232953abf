"""Figures of an integration on clouds whose sections and labels are known."""

from __future__ import annotations

import numpy as np
import pytest

from sphisto.scoring.integration import (
    FIGURES,
    Representation,
    clusters_kept,
    figures_of,
    label_connectivity,
    label_purity,
    leiden,
    section_accuracy,
    section_mixing,
)


@pytest.fixture
def clouds(rng):
    """Three labels far apart, two sections that differ in nothing."""
    labels, sections = np.repeat(np.arange(3), 60), np.tile([0, 1], 90)
    return rng.normal(size=(180, 5)) + 8 * np.eye(5)[labels], sections, labels


def test_equal_sections_are_at_chance_and_labels_apart(clouds):
    values, sections, labels = clouds
    alone = leiden(values, sections, 10, 0)
    found = dict(zip(FIGURES, figures_of(Representation(values, sections, labels), alone, 10, 0), strict=True))
    assert found["section_accuracy"] == pytest.approx(0.5, abs=0.12)
    assert found["section_silhouette"] == pytest.approx(0, abs=0.03)
    assert found["section_mixing"] == pytest.approx(1, abs=0.1)
    assert found["label_silhouette"] > 0.5
    assert found["label_purity"] == 1
    assert found["label_connectivity"] == 1
    assert found["clusters_kept"] > 0.6


def test_shifted_sections_are_told(clouds):
    values, sections, labels = clouds
    shifted = values + 20 * sections[:, None]
    found = dict(zip(FIGURES, figures_of(Representation(shifted, sections), labels, 10, 0), strict=True))
    assert found["section_accuracy"] > 0.99
    assert found["section_silhouette"] > 0.4
    assert found["section_mixing"] == 0
    assert np.isnan(found["label_purity"])


def test_accuracy_is_balanced(rng):
    sections = np.repeat([0, 1], [180, 20])
    found = section_accuracy(Representation(rng.normal(size=(200, 4)), sections), 0)
    assert found == pytest.approx(0.5, abs=0.06)


def test_figures_by_hand():
    sections, labels = np.array([0, 0, 1, 1]), np.array([0, 1, 0, -1])
    nearest = np.array([[1, 2], [0, 2], [0, 1], [2, 0]])
    assert section_mixing(nearest, sections) == pytest.approx((5 / 8) / 0.5)
    assert label_purity(nearest, labels, sections) == pytest.approx(2 / 4)
    assert label_connectivity(np.array([[2], [0], [0], [1]]), np.array([0, 0, 0, 1])) == 1
    assert label_connectivity(np.array([[1], [0], [3], [2]]), np.zeros(4, int)) == 0.5
    assert clusters_kept(np.array([0, 0, 1, 1]), np.array([5, 5, 7, 7]), np.zeros(4, int)) == 1
