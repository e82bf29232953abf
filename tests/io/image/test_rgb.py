from __future__ import annotations

import re
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from sphisto.io.image.config import ColourConfig, PyramidConfig
from sphisto.io.image.pyramid import Pyramid, as_pyramid

RGB = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
GREY = RGB[..., 0]


# the least that can be sampled, and nothing that is kept
SPARSELY = PyramidConfig(kept=0, colours=ColourConfig(sample_px=2, samples=2))


def to_rgb8(image, config=PyramidConfig()):
    """The image as (y, x, 3), and the note on what was done."""
    taken = replace(as_pyramid(image), config=config)
    return np.moveaxis(taken.rgb(), 0, -1), taken.conversion.note


def lazy(array):
    return da.from_array(array, chunks=10)


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("image", "expected", "said"),
    [
        (RGB, RGB, None),
        (np.moveaxis(RGB, -1, 0), RGB, r"channels were moved last, from shape \(3, 23, 31\)"),
        (GREY, np.dstack([GREY] * 3), "grey was repeated"),
        (GREY[..., None], np.dstack([GREY] * 3), "grey was repeated"),
        (GREY > 99, np.dstack([GREY > 99] * 3) * 255, "true and false became 255 and 0"),
        (RGB / np.float32(255), RGB, "values from 0 to 1 were multiplied by 255"),
        (RGB.astype(np.float64), RGB, "float64 values from 0 to 255 were rounded"),
        (RGB.astype(np.int64), RGB, "int64 values from 0 to 255 were rounded"),
        (RGB.astype(np.uint16) * 257, RGB, "values up to 65535 were taken for 16 bits and divided by 257"),
    ],
    ids=["rgb", "first", "grey", "grey3", "bool", "float1", "float255", "int64", "uint16"],
)
def test_all_forms_become_rgb(image, expected, said, wrap):
    found, note = to_rgb8(wrap(image))
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert (found == expected).all()
    assert (note is None) if said is None else re.search(said, note)


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
def test_transparent_parts_become_white(wrap):
    alpha = np.full((23, 31, 1), 255, dtype=np.uint8)
    alpha[:5] = 0
    alpha[5:10] = 51
    found, note = to_rgb8(wrap(np.concatenate([RGB, alpha], axis=2)))
    assert (found[:5] == 255).all()
    assert (found[5:10] == np.rint(RGB[5:10] * 0.2 + 255 * 0.8)).all()
    assert (found[10:] == RGB[10:]).all()
    assert "the alpha channel was put on white" in note


def test_small_images_with_two_channel_axes_keep_the_last():
    image = np.zeros((3, 5, 4), dtype=np.uint8)
    assert to_rgb8(image)[0].shape == (3, 5, 3)


@pytest.mark.parametrize("shape", [(5,), (5, 5, 2), (7, 8, 9), (2, 5, 5, 3), (0, 5, 3)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(ValueError, match=rf"an array of shape \({', '.join(map(str, shape))},?\) in place of an image"):
        to_rgb8(np.zeros(shape))


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "Found 1 NaN or infinite values"),
        (np.inf, "Found 1 NaN or infinite values"),
        (-0.5, "Found image values from -0.5 to"),
        (1e6, r"to 1e\+06. Expected 0 to 1, 0 to 255 or 0 to 65535"),
    ],
)
def test_impossible_values_are_refused(wrap, value, message):
    image = RGB / 255
    image[11, 7, 1] = value
    with pytest.raises(ValueError, match=message):
        to_rgb8(wrap(image))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="Found values of type complex128 in place of an image"):
        to_rgb8(np.zeros((4, 4), dtype=complex))


def test_lazy_images_are_judged_by_a_sample_and_checked_when_computed():
    image = RGB / 255
    found, note = to_rgb8(lazy(image), SPARSELY)
    assert "judged by a sample" in note
    assert isinstance(found, da.Array)
    assert (found.compute() == RGB).all()
    image[11, 7] = np.nan
    with pytest.raises(ValueError, match="Found 3 NaN"):
        to_rgb8(lazy(image), SPARSELY)[0].compute()
    image[11, 7] = 200
    with pytest.raises(ValueError, match=r"values up to 200 where a sample .* had at most 1"):
        to_rgb8(lazy(image), SPARSELY)[0].compute()


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_cameras_have_other_numbers_of_bits(wrap, bits, dtype):
    image = np.rint(RGB * ((2**bits - 1) / 255)).astype(dtype)
    found, note = to_rgb8(wrap(image))
    assert (found == RGB).all()
    assert f"were taken for {bits} bits and divided by" in note


@pytest.mark.parametrize(("dtype", "white"), [(np.int16, 32767), (np.int8, 127)])
def test_signed_types_have_their_own_white(dtype, white):
    found, _ = to_rgb8(np.rint(RGB * (white / 255)).astype(dtype))
    assert np.abs(found.astype(int) - RGB).max() <= 1


def test_bytes_taken_for_signed_ones_are_refused():
    with pytest.raises(ValueError, match="Found image values from -128 to 127"):
        to_rgb8(RGB.view(np.int8))


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_what_interpolation_leaves_beyond_the_range_is_clipped(wrap, white):
    image = RGB * np.float32(white / 255)
    image[3, 4], image[5, 6] = 1.04 * white, -0.03 * white
    found, note = to_rgb8(wrap(image))
    expected = RGB.copy()
    expected[3, 4], expected[5, 6] = 255, 0
    assert (found == expected).all()
    assert "were clipped" in note


def test_floats_between_two_ranges_are_refused():
    with pytest.raises(ValueError, match="Found image values from 0 to 3. Expected 0 to 1, 0 to 255 or 0 to 65535"):
        to_rgb8(RGB / 255 * 3)


def test_dark_floats_stay_dark():
    assert (to_rgb8(RGB / 2550)[0] == np.rint(RGB / 10)).all()


# --- four channels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize("alpha", [None, "straight", "premultiplied"])
def test_an_unused_fourth_plane_is_left_out(wrap, alpha):
    image = np.dstack([RGB, np.zeros_like(GREY)])
    level = wrap(image)
    taken = Pyramid((level,), alpha=alpha)
    assert (np.moveaxis(np.asarray(taken.rgb()), 0, -1) == RGB).all()
    assert "the alpha channel, zero everywhere, was taken for an unused plane" in taken.conversion.note


def test_nothing_is_seen_where_all_is_transparent_and_alike():
    assert (to_rgb8(np.zeros((9, 9, 4), np.uint8))[0] == 255).all()


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize(("colours", "opaque"), [(np.uint8, 1), (np.float32, 1)])
def test_alpha_has_its_own_range(wrap, colours, opaque):
    alpha = np.where(GREY > 99, opaque, 0)
    values = RGB if colours is np.uint8 else RGB / np.float32(255)
    image = np.dstack([values, alpha]).astype(colours)
    found, note = to_rgb8(wrap(image))
    assert (found == np.where(alpha[..., None] > 0, RGB, 255)).all()
    assert "the alpha channel" in note


def test_colours_that_were_multiplied_with_alpha():
    alpha = np.full_like(GREY, 51)
    image = np.dstack([np.rint(RGB * 0.2).astype(np.uint8), alpha])
    taken = Pyramid((image,), alpha="premultiplied")
    expected = np.rint(RGB * 0.2) + 204
    assert (np.moveaxis(taken.rgb(), 0, -1) == expected).all()
    assert "its colours were multiplied with, was put on white" in taken.conversion.note


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
def test_four_channels_of_fluorescence_are_no_alpha(wrap):
    image = np.dstack([RGB, GREY]).astype(np.uint16) * 100
    with pytest.raises(ValueError, match="Found four channels of uint16 .* fluorescence or other multi-channel"):
        to_rgb8(wrap(image))


def test_opaque_pictures_of_16_bits():
    image = np.dstack([RGB, np.full_like(GREY, 255)]).astype(np.uint16) * 257
    assert (to_rgb8(image)[0] == RGB).all()


@pytest.mark.parametrize("n_channels", [2, 5])
def test_other_numbers_of_channels(n_channels):
    with pytest.raises(ValueError, match="in place of an image. .* fluorescence or other multi-channel image"):
        to_rgb8(np.zeros((20, 30, n_channels), np.uint8))


def test_lazy_alpha_that_the_sample_did_not_show():
    image = np.dstack([RGB, np.zeros_like(GREY)])
    image[11, 7, 3] = 255
    with pytest.raises(ValueError, match="Found alpha up to 255 where a sample of the lazy image had at most"):
        to_rgb8(lazy(image), SPARSELY)[0].compute()


def test_the_given_image_is_left_as_it_is():
    image = RGB / 255
    before = image.copy()
    to_rgb8(image)
    assert (image == before).all()
