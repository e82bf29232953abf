from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sphisto.core.tiles import Window
from sphisto.features.config import TextureConfig
from sphisto.features.texture import block_of, texture


@pytest.fixture
def picture(rng):
    return ndimage.gaussian_filter(rng.integers(0, 256, (3, 120, 150)).astype(float), (0, 1, 1)).astype(np.uint8)


def test_tiles_do_not_change_it(picture):
    whole = texture(picture, 4.0, 4)
    np.testing.assert_allclose(texture(picture, 4.0, 4, tile_blocks=32), whole, atol=1e-3)
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


@pytest.fixture
def fine(rng):
    """A picture with detail of several sizes, of which each px is drawn 2 x 2 times."""
    noise = rng.normal(size=(3, 180, 190))
    drawn = sum(ndimage.gaussian_filter(noise, (0, s, s)) * s for s in (0.0, 3.0, 12.0)) * 60 + 128
    return np.clip(drawn, 0, 255).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)


def test_pixels_far_finer_than_spots_are_averaged_first(fine):
    assert [block_of(radius) for radius in (3.0, 14.0, 27.9, 28.0, 55.0)] == [1, 1, 1, 2, 3]
    found, expected = texture(fine, 28.0, 16), texture(fine[:, ::2, ::2], 14.0, 8)
    assert found.shape == expected.shape
    # at the border pictures are mirrored, not blocks: the nearest surroundings are free of it 4.5 radii further in
    np.testing.assert_allclose(found[:10, 8:-8, 8:-8], expected[:10, 8:-8, 8:-8], rtol=1e-4, atol=1e-4)


def test_averaging_first_loses_next_to_nothing(fine):
    blurred = ndimage.gaussian_filter(fine.astype(float), (0, 2, 2)).astype(np.uint8)
    averaged = texture(blurred, 30.0, 16)
    full = texture(blurred, 30.0, 16, config=TextureConfig(finest_px=1000))
    for found, expected in zip(averaged, full, strict=True):
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_tiles_and_strips_do_not_change_what_was_averaged_first(fine):
    whole = texture(fine[:, :250, :301], 30.0, 16)
    assert whole.shape[1:] == (16, 19)
    np.testing.assert_allclose(
        texture(fine[:, :250, :301], 30.0, 16, tile_blocks=32, strip_blocks=50), whole, atol=1e-3
    )


@pytest.mark.parametrize("stride", [2, 8])
def test_a_window_is_part_of_the_whole(fine, stride):
    """What lies around the window counts as it does for the whole, and is mirrored only where the picture ends."""
    radius = 3.0 if stride == 2 else 30.0
    window = Window(6 * stride, 0, 30 * stride + 1, fine.shape[2])
    whole = texture(fine, radius, stride)
    np.testing.assert_allclose(texture(fine, radius, stride, window), whole[:, 6:31], atol=1e-3)


def test_a_stride_that_cuts_blocks_is_refused(fine):
    with pytest.raises(ValueError, match="stride of 8 px; expected a multiple of 3 px"):
        texture(fine, 42.0, 8)
