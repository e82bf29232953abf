from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.core.resize import coarse_window
from sphisto.core.tiles import Window


def brute_force(fine, height, width, ratio):
    """Each coarse pixel by itself: every fine pixel that it covers, by the area that it covers of it."""
    out = np.zeros((height, width, fine.shape[2]))
    for i in range(height):
        for j in range(width):
            bounds = [(k * r, min((k + 1) * r, n)) for k, r, n in zip((i, j), ratio, fine.shape[:2], strict=True)]
            total = 0.0
            for y in range(fine.shape[0]):
                for x in range(fine.shape[1]):
                    sides = [max(min(b, p + 1) - max(a, p), 0) for (a, b), p in zip(bounds, (y, x), strict=True)]
                    total += sides[0] * sides[1]
                    out[i, j] += sides[0] * sides[1] * fine[y, x]
            out[i, j] /= total
    return out


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3]),
    st.floats(0.8, 4), st.floats(0.8, 4), st.integers(0, 99),
)  # fmt: skip
def test_coarse_pixels_are_means_by_area(height, width, channels, ratio_y, ratio_x, seed):
    fine = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    ratio = (ratio_y, ratio_x)
    shape = [max(1, int(side / r)) for side, r in zip((height, width), ratio, strict=True)]
    found = coarse_window(lambda w: fine[w.slices], Window(0, 0, *shape), ratio=ratio, fine_shape=(height, width))
    assert found.dtype == np.uint8
    # half an integer by rounding, and what float32 rounds
    assert np.abs(found - brute_force(fine, *shape, ratio)).max() <= 0.5 + 1e-3


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(9, 60), st.integers(9, 60), st.integers(0, 99))
def test_whole_blocks_are_exactly_their_means(block, height, width, seed):
    fine = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    h, w = height // block, width // block
    blocks = fine[: h * block, : w * block].reshape(h, block, w, block, 3)
    found = coarse_window(
        lambda part: fine[part.slices], Window(0, 0, h, w), ratio=(block, block), fine_shape=(height, width)
    )
    np.testing.assert_array_equal(found, blocks.mean(axis=(1, 3), dtype=np.float32).round().astype(np.uint8))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_where_a_window_begins_changes_nothing(data):
    fine = np.random.default_rng(1).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    ratio = (data.draw(st.floats(0.9, 3)), data.draw(st.floats(0.9, 3)))
    height, width = int(70 / ratio[0]), int(50 / ratio[1])
    whole = coarse_window(lambda w: fine[w.slices], Window(0, 0, height, width), ratio=ratio, fine_shape=(70, 50))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(y, x, data.draw(st.integers(y + 1, height)), data.draw(st.integers(x + 1, width)))
    part = coarse_window(lambda w: fine[w.slices], window, ratio=ratio, fine_shape=(70, 50))
    np.testing.assert_array_equal(part, whole[window.slices])


def test_no_more_is_read_than_is_covered_and_little_at_once():
    fine = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    windows = []

    def read(window):
        windows.append(window)
        return fine[window.slices]

    coarse_window(read, Window(2, 3, 10, 8), ratio=(4, 4), fine_shape=(64, 64), at_once=200)
    assert windows[0].y0 == 8
    assert windows[-1].y1 == 40
    assert {(w.x0, w.x1) for w in windows} == {(12, 32)}
    assert max(np.prod(w.shape) for w in windows) <= 200
    assert [w.y0 for w in windows[1:]] == [w.y1 for w in windows[:-1]]


def test_pixels_beyond_the_picture_are_refused():
    with pytest.raises(ValueError, match="Pixels 0 to 4 of 2 px each lie beyond the 6 px of the finer image"):
        coarse_window(lambda w: np.zeros((*w.shape, 1), np.uint8), Window(0, 0, 4, 3), ratio=(2, 2), fine_shape=(6, 6))
