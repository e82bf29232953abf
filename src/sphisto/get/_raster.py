"""Read a window of a stored raster."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.core.tiles import Window
from sphisto.io.store import read as stores
from sphisto.io.store.data import store_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xarray import DataArray

    from sphisto.core.grid import Grid
    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox


def raster(store: Data, name: str, *, bbox: BBox | None = None, scale: int = 0) -> DataArray:
    """Read an image or mask of a store by its element's name.

    Parameters
    ----------
    store
        Path of a store, the SpatialData read from it, or the AnnData that was fitted.
    name
        Name of the element, for instance ``"projection_factors"``, ``"projection_reconstruction"``,
        ``"{library}_image"`` or ``"{library}_tissue"``.
    bbox
        ``(x_min, y_min, x_max, y_max)`` in ``global`` (full-resolution px); default: everything.
    scale
        Pyramid level; each halves the resolution, 0 is the finest.

    Returns
    -------
    DataArray ``(c, y, x)``, or ``(y, x)`` for a mask. Factor maps, genes and standard deviations are NaN outside tissue,
    where the store holds 0; standard deviations on a coarser grid are interpolated to that of the genes. The coordinates ``y`` and ``x`` are the pixels' centres in
    ``global``; ``attrs["um_per_px"]`` is the size of a pixel of this level in um.

    Raises
    ------
    KeyError
        If there is no such raster.
    TypeError
        If it is nothing that leads to a store.
    ValueError
        If the level is not there or the box lies outside the raster, or an AnnData was fitted into several stores.

    Examples
    --------
    >>> import sphisto as sp
    >>> image = sp.get.raster("toy.zarr", "toy_image", scale=1)  # doctest: +SKIP
    """
    stored = stores.raster(store_of(store), name)
    grid = stored.grid_at(scale)
    window = window_of(grid, bbox)
    return as_dataarray(stored.read(scale, window), stored.channels, grid, window, name)


def window_of(grid: Grid, bbox: BBox | None) -> Window:
    """Return the pixels that a box in ``global`` touches, cut off at the raster's border."""
    whole = Window(0, 0, *grid.shape)
    if bbox is None:
        return whole
    x_min, y_min, x_max, y_max = bbox
    low, high = grid.from_fullres(np.array([[y_min, x_min], [y_max, x_max]]))
    window = Window(
        max(math.floor(low[0]), 0),
        max(math.floor(low[1]), 0),
        min(math.ceil(high[0]), grid.height),
        min(math.ceil(high[1]), grid.width),
    )
    if min(window.shape) < 1:
        far = grid.to_fullres(np.array([[grid.height, grid.width]]))[0]
        msg = (
            f"bbox={tuple(map(float, bbox))} holds no pixel; expected (x_min, y_min, x_max, y_max) within "
            f"(0, 0, {far[1]:.0f}, {far[0]:.0f}) full-resolution px."
        )
        raise ValueError(msg)
    return window


def as_dataarray(values: NDArray[Any], channels: Any, grid: Grid, window: Window, name: str) -> DataArray:
    """Label (c, y, x) or (y, x) values with channel names and pixel centres in ``global``."""
    from xarray import DataArray

    rows = (np.arange(window.y0, window.y1) + 0.5) * grid.fullres_per_px[0]
    columns = (np.arange(window.x0, window.x1) + 0.5) * grid.fullres_per_px[1]
    coords: dict[str, Any] = {"y": rows, "x": columns}
    dims = ["y", "x"]
    if values.ndim == 3:
        coords["c"], dims = list(channels), ["c", "y", "x"]
    return DataArray(values, dims=dims, coords=coords, name=name, attrs={"um_per_px": grid.um_per_px})
