from __future__ import annotations

import numpy as np

from sphisto.field.rotation import inverse_of, rotation_of


def test_components_are_uncorrelated_of_variance_1_and_turn_back(rng):
    quantities = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))
    centred = quantities - quantities.mean(axis=0)
    rotation = rotation_of(centred, 2)
    components = centred @ inverse_of(rotation)
    np.testing.assert_allclose(components[:, :3].T @ components[:, :3] / 60, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(components[:, 3:], centred[:, 3:] / centred[:, 3:].std(axis=0))
    np.testing.assert_allclose(components @ rotation, centred, atol=1e-9)


def test_a_quantity_that_follows_from_others_is_no_component(rng):
    two = rng.normal(size=(30, 2))
    centred = np.column_stack([two, two.sum(axis=1)]) - np.append(two.mean(axis=0), two.mean(axis=0).sum())
    rotation = rotation_of(centred, 0)
    assert rotation.shape == (2, 3)
    np.testing.assert_allclose(centred @ inverse_of(rotation) @ rotation, centred, atol=1e-9)
