from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.bins import square_bins
from sphisto.core.grid import Grid
from sphisto.core.tiles import Window


@pytest.mark.parametrize(("side_um", "shape"), [(2.0, (20, 15)), (8.0, (5, 4)), (5.0, (8, 6)), (100.0, (1, 1))])
def test_bins_tile_the_grid(side_um, shape):
    grid = Grid(20, 15, 2.0)
    found, place = square_bins(grid, side_um)
    assert tuple(place.max(axis=0) + 1) == shape
    assert len(found) == len(place) == np.prod(shape)
    drawn = found.within(Window(0, 0, *grid.shape))
    covered = np.zeros(grid.shape)
    np.add.at(covered, (drawn.y, drawn.x), drawn.weight)
    np.testing.assert_allclose(covered, 1, atol=1e-6)
    np.testing.assert_allclose(found.area, (side_um / 2) ** 2)


def test_bins_smaller_than_a_pixel_are_refused():
    with pytest.raises(ValueError, match="square_um=1.9; expected at least a pixel of the raster, 2 um"):
        square_bins(Grid(20, 15, 2.0), 1.9)
