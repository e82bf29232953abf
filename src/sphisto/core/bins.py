"""Square bins that tile a raster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import require_positive
from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.spot import Spot


def square_bins(grid: Grid, side_um: float) -> tuple[LazyFootprint, NDArray[np.int64]]:
    """Cover a grid with squares of a side in um, row by row from its upper left corner.

    Returns
    -------
    The bins, those at the far edges reaching beyond the grid, and their (n, 2) row and column.
    """
    side = require_positive(side_um, "square_um") / grid.um_per_px
    if side < 1 - 1e-6:
        msg = f"Found square_um={side_um:g}; expected at least a pixel of the raster, {grid.um_per_px:.4g} um: smaller bins hold no more."
        raise ValueError(msg)
    rows, columns = (int(np.ceil(n / side - 1e-6)) for n in grid.shape)
    place = np.indices((rows, columns)).reshape(2, -1).T
    return LazyFootprint(Spot(side_um, "square"), grid, (place.astype(np.float64) + 0.5) * side), place
