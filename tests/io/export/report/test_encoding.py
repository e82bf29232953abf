from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from sphisto.io.export.report.encoding import TOP, block_means, jpeg, packed, packed_codes, packed_text, quantised

RASTERS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.one_of(st.just(np.nan), st.floats(0, 2**14, width=32)),
)  # fmt: skip


def unpacked(text, dtype=np.uint8):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def codes_of(text, known):
    """Undo the differences pixel by pixel, as the page does."""
    differences, codes = iter(unpacked(text).tolist()), np.zeros(known.shape, dtype=int)
    for y, x in np.argwhere(known):
        left, above = (codes[y, x - 1] if x else 0), (codes[y - 1, x] if y else 0)
        corner = codes[y - 1, x - 1] if x and y else 0
        codes[y, x] = (left + above - corner + next(differences)) % 256
    assert next(differences, None) is None
    return codes


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
    np.testing.assert_array_equal(codes_of(packed_codes(codes, known), known), codes)


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
    image = Image.open(io.BytesIO(base64.b64decode(jpeg(colours))))
    assert (image.format, image.size, image.mode) == ("JPEG", (30, 20), "RGB")
    assert np.abs(np.asarray(image, float) / 255 - colours).max() < 0.02


@pytest.mark.slow
def test_twenty_genes_of_a_drawn_section_take_less_than_15_mb():
    import sphisto as sp

    adata = sp.datasets.toy(2000, 2000)
    truth = sp.datasets.toy_truth(adata)
    n_bytes = len(jpeg(np.asarray(sp.datasets.toy_image(adata)) / np.float32(255)))
    each = []
    for rates in truth:
        values = np.where(rates > 0, rates, np.nan)
        known = np.isfinite(values)
        each.append(len(packed_codes(quantised(values).codes, known)))
    n_bytes += 20 * np.mean(each)
    assert n_bytes < 10e6  # what else is in a page has some hundred kB
