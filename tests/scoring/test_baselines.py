from __future__ import annotations

import numpy as np
import pytest

from sphisto.field.gaussian import choose_width
from sphisto.scoring.baselines import gaussian, interpolated, nearest
from sphisto.scoring.held_out import without


def maps(train, width):
    """(G, y, x) averages of all training spots at each pixel, by the definition."""
    y, x = np.indices(train.grid.shape)
    distance = np.hypot(*(at[..., None] + 0.5 - c for at, c in zip((y, x), train.spots.centers.T, strict=True)))
    weight = distance == distance.min(axis=2, keepdims=True) if width == 0 else np.exp(-((distance / width) ** 2) / 2)
    weight = weight / weight.sum(axis=2, keepdims=True)
    return np.einsum("yxn,ng->gyx", weight, train.spots.values.toarray())


@pytest.mark.parametrize("pixels", [200_000, 100])
@pytest.mark.parametrize("width", [0.0, 9.0])
def test_averages_over_spots_are_those_of_the_maps(toy_slide, held_out, spots, width, pixels):
    train = without(toy_slide, held_out)
    found = interpolated(train, spots, width, pixels_at_once=pixels)
    np.testing.assert_allclose(found, spots.mean(maps(train, width)), rtol=1e-3)


def test_nearest_and_gaussian_are_these_averages(toy_slide, held_out, spots):
    train = without(toy_slide, held_out)
    np.testing.assert_array_equal(nearest(train, spots).values, interpolated(train, spots, 0.0))
    found, width = gaussian(train, spots)
    known = train.spots
    assert width == choose_width(known.centers, known.values.toarray(), known.pitch)
    np.testing.assert_array_equal(found.values, interpolated(train, spots, width))
    assert gaussian(train, spots, choosing=20)[1] / known.pitch == pytest.approx(0.6, abs=0.5)
