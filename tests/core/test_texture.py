from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sphisto.core import texture as room
from sphisto.core.texture import texture


@pytest.fixture
def picture(rng):
    return ndimage.gaussian_filter(rng.integers(0, 256, (3, 120, 150)).astype(float), (0, 1, 1)).astype(np.uint8)


def test_tiles_do_not_change_it(picture, monkeypatch):
    whole = texture(picture, 4.0, 4)
    monkeypatch.setattr(room, "_TILE", 32)
    np.testing.assert_allclose(texture(picture, 4.0, 4), whole, atol=1e-3)
    assert whole.shape[1:] == (30, 38)


def test_the_first_feature_is_the_mean_optical_density_around(picture):
    found = texture(picture, 6.0, 1)[0]
    density = -np.log((picture[0].astype(np.float32) + 1) / 256)
    expected = ndimage.gaussian_filter(density, 3.0, truncate=3.0, mode="mirror")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_grain_is_felt_where_colour_is_the_same():
    flat = np.full((3, 64, 128), 128, dtype=np.uint8)
    checks = np.indices((64, 64)).sum(axis=0) // 2 % 2
    flat[:, :, 64:] = 98 + 60 * checks
    found = texture(flat, 6.0, 4)
    left, right = found[:, 8, 3], found[:, 8, 24]
    assert abs(left[0] - right[0]) < 0.1 < right[1] - left[1]


def test_a_blank_picture_has_finite_texture():
    assert np.isfinite(texture(np.full((3, 40, 40), 255, dtype=np.uint8), 3.0, 2)).all()
