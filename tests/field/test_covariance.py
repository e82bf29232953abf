from __future__ import annotations

import numpy as np

from sphisto.field import covariance


def test_the_covariance_of_distance_is_one_at_none_and_zero_from_its_reach(rng):
    points = rng.uniform(0, 50, (80, 2))
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    found = covariance.spherical(covariance._distance(points, points), 12.0)
    np.testing.assert_allclose(np.diag(found), 1)
    assert (np.abs(found[distance >= 12]) < 1e-12).all()
    assert np.linalg.eigvalsh(found).min() > -1e-9
