from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from reading_reports import read_codes, read_text
from scipy.ndimage import gaussian_filter

from sphisto.datasets import toy, toy_image
from sphisto.io.export.report.encoding import (
    TOP,
    as_text,
    block_means,
    jpeg,
    packed,
    packed_codes,
    packed_text,
    quantised,
)

RASTERS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.one_of(st.just(np.nan), st.floats(0, 2**14, width=32)),
)  # fmt: skip


def unpacked(text, dtype=np.uint8):
    return np.frombuffer(zlib.decompress(read_text(text)), dtype)


@given(RASTERS)
def test_roots_are_off_by_half_a_step_at_most(values):
    known, found = np.isfinite(values), quantised(values)
    assert (found.codes[~known] == 0).all()
    if known.any():
        high = float(values[known].max())
        assert (found.low, found.high) == (0, high)
        off = np.abs(np.sqrt(found.values[known]) - np.sqrt(values[known].astype(float)))
        assert off.max() <= np.sqrt(high) / (2 * TOP) * (1 + 1e-6)


def test_values_below_zero_widen_the_range():
    values = np.array([[-3.0, 0.0, 5.0]])
    found = quantised(values)
    assert (found.low, found.high) == (-3, 5)
    assert np.abs(np.sqrt(found.values + 3) - np.sqrt(values + 3)).max() <= np.sqrt(8) / 510


@pytest.mark.parametrize("values", [np.zeros((3, 4)), np.full((3, 4), np.nan)])
def test_nothing_but_background_has_one_code(values):
    found = quantised(values)
    assert (found.low, found.high) == (0, 0)
    assert (found.codes == 0).all()
    assert (found.values == 0).all()


@given(RASTERS)
def test_packed_codes_come_back(values):
    known, codes = np.isfinite(values), quantised(values).codes
    found = packed_codes(codes, known)
    np.testing.assert_array_equal(
        read_codes(unpacked(found.text), found.weights, found.levels, found.ends, known), codes
    )


@given(st.binary(max_size=200))
def test_bytes_come_back_from_text_that_may_stand_in_a_script(data):
    text = as_text(data)
    assert read_text(text) == data
    assert set(text) <= set(map(chr, range(ord("!"), ord("~")))) - {'"', "<"}


# nothing predicts noise: nearly each pixel is then told as one that lies further off
@pytest.mark.parametrize(("scale", "levels"), [(0.3, 4), (3, 16), (40, 4)])
def test_smooth_and_rough_codes_come_back(rng, scale, levels):
    y, x = np.mgrid[:60, :70]
    codes = np.clip(128 + 90 * np.sin(y / 9) * np.cos(x / 7) + rng.normal(0, scale, y.shape), 0, 255).astype(np.uint8)
    known = (y - 30) ** 2 + (x - 35) ** 2 < 900
    codes[~known] = 0
    found = packed_codes(codes, known)
    assert found.levels == levels
    np.testing.assert_array_equal(
        read_codes(unpacked(found.text), found.weights, found.levels, found.ends, known), codes
    )


def test_an_empty_raster_takes_nearly_nothing():
    found = packed_codes(np.zeros((1000, 1000), dtype=np.uint8), np.ones((1000, 1000), dtype=bool))
    assert len(found.text) < 2000


def test_numbers_come_back_little_endian():
    numbers = np.array([[1.5, -2], [0, 7]], dtype=">f4")
    np.testing.assert_array_equal(unpacked(packed(numbers), "<f4"), [1.5, -2, 0, 7])
    assert unpacked(packed_text("M\u00e9")).tobytes().decode() == "M\u00e9"


def test_blocks_are_means_of_what_is_known():
    values = np.arange(35, dtype=float).reshape(5, 7)
    values[0, 0] = np.nan
    values[4:, 4:] = np.nan
    found = block_means(values, 4)
    assert found.shape == (2, 2)
    assert found[0, 0] == np.nanmean(values[:4, :4])
    assert found[0, 1] == values[:4, 4:].mean()
    assert found[1, 0] == values[4:, :4].mean()
    assert np.isnan(found[1, 1])


def test_pictures_are_jpeg_of_the_same_colours():
    colours = np.full((20, 30, 3), (0.8, 0.4, 0.6), dtype=np.float32)
    image = Image.open(io.BytesIO(unpacked(jpeg(colours))))
    assert (image.format, image.size, image.mode) == ("JPEG", (30, 20), "RGB")
    assert np.abs(np.asarray(image, float) / 255 - colours).max() < 0.02


@pytest.mark.slow
def test_twenty_genes_of_tissue_everywhere_take_less_than_15_mb(rng):
    """Texture of 2, 4, 16 and 64 px, about as rough as rasters of real sections at 3 to 5 um per px.

    Bits of a pixel that its difference from left + above - above left holds, and that it takes in a file: 1.47 and 1.18
    here; 1.38 and 1.20 in a mouse olfactory bulb (4.4 um per px), 1.20 and 1.03 in a mouse brain (4.3 um), 1.28 and 0.89
    in a breast tumour (3.4 um), means of eight genes.
    """
    textures = [
        gaussian_filter(rng.normal(size=(2000, 2000)).astype(np.float32), px, mode="wrap") for px in (2, 4, 16, 64)
    ]
    textures = [texture / texture.std() for texture in textures]
    n_bytes = []
    for turn in range(4):  # each stands for five genes
        shifted = [np.roll(texture, turn * 500, axis=turn % 2) for texture in textures]
        values = np.exp(sum(share * texture for share, texture in zip((0.06, 0.15, 0.3, 0.5), shifted, strict=True)))
        codes, everywhere = quantised(values).codes, np.ones(values.shape, dtype=bool)
        assert bits_of(codes[1:, 1:] - (codes[1:, :-1] + codes[:-1, 1:] - codes[:-1, :-1])) > 1.38
        sd = quantised(block_means(values, 8)).codes
        n_bytes.append(len(packed_codes(codes, everywhere).text) + len(packed_codes(sd, np.ones_like(sd, bool)).text))
    tissue = np.asarray(toy_image(toy(1280, 1280)))[608:1108, 480:980]  # no glass
    picture = np.tile(np.concatenate([tissue, tissue[::-1]]), (2, 4, 1)) / np.float32(255)
    assert picture.shape == (2000, 2000, 3)
    assert 20 * np.mean(n_bytes) + len(jpeg(picture)) < 14.7e6  # all else in a page has some 0.2 MB


def bits_of(symbols):
    """Bits that a symbol holds, by how often each is found."""
    share = np.unique(symbols, return_counts=True)[1] / symbols.size
    return -(share * np.log2(share)).sum()
