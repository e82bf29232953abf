from __future__ import annotations

import numpy as np
import pytest

from sphisto.features.components import EXTREME, basis_of, moments, standardised


@pytest.fixture
def features():
    drawn = np.random.default_rng(0)
    return drawn.normal(size=(300, 3)) @ drawn.normal(size=(3, 7)) * 5 + 2


def test_components_have_a_mean_squared_length_of_one_and_roots_of_their_spreads(features):
    standard = standardised(features, *moments(features))
    components = standard @ basis_of(standard)
    assert components.shape == (300, 3)  # three patterns make up the seven features
    np.testing.assert_allclose(np.square(components).sum(axis=1).mean(), 1)
    spread = np.linalg.eigvalsh(standard.T @ standard)[::-1][:3]
    np.testing.assert_allclose(np.square(components).sum(axis=0), np.sqrt(spread) * 300 / np.sqrt(spread).sum())


def test_extremes_are_cut_off_and_a_flat_feature_stays_flat(features):
    features[0, 0], features[:, 1] = 1e6, 3.0
    standard = standardised(features, *moments(features))
    assert np.abs(standard).max() == EXTREME
    assert not standard[:, 1].any()


def test_features_that_are_all_the_same_have_no_components():
    assert basis_of(np.zeros((20, 4))) is None
