from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.halving import any_of_four, half, halve, twice
from sphisto.core.tiles import Window


@pytest.mark.parametrize("shape", [(2, 6, 8), (3, 7, 9), (1, 300, 513)])
def test_means_are_of_known_pixels_on_tissue(rng, shape):
    """Beside a loop over blocks that leaves out what is not known, and what is no tissue."""
    values, tissue = rng.normal(size=shape).astype(np.float32), rng.random(shape[1:]) < 0.6
    values[:, ~tissue] = 0
    values[rng.random(shape) < 0.1] = np.nan
    found, inside = halve(values, tissue), any_of_four(tissue)
    assert found.shape == (shape[0], shape[1] // 2, shape[2] // 2)
    for y, x in np.ndindex(found.shape[1:]):
        block = (slice(None), slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
        four = values[block][:, tissue[block[1:]]]
        assert inside[y, x] == (four.shape[1] > 0)
        for channel, known in enumerate(four):
            known = known[np.isfinite(known)]
            expected = 0.0 if not inside[y, x] else known.mean() if len(known) else np.nan
            np.testing.assert_allclose(found[channel, y, x], expected, rtol=1e-5, atol=1e-6)


def test_without_tissue_means_are_of_all(rng):
    values = rng.random((2, 4, 6), dtype=np.float32)
    np.testing.assert_allclose(halve(values, None), values.reshape(2, 2, 2, 3, 2).mean(axis=(2, 4)), rtol=1e-6)


def test_windows_of_two_levels_belong_together():
    window = Window(3, 4, 10, 12)
    assert half(twice(window)) == window
