"""Measured and projected side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto.io.store import read as stores
from sphisto.io.store.data import table_of
from sphisto.pl._frame import (
    colour_bar,
    describe,
    draw_raster,
    dress,
    extent_of,
    finish,
    fullres_um_per_px,
    known_extent,
    limits,
    panel_size,
    panels,
    window_of,
)
from sphisto.pl._measured import draw_spots
from sphisto.pl._sources import counts_of, gene_rasters, names_of, projection_of, spots_of, stored_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox
    from sphisto.pl._frame import AnyAxes


@describe
def comparison(
    data: Data,
    genes: str | Sequence[str],
    *,
    layer: str | None = None,
    key: str = "projection",
    library_id: str | None = None,
    bbox: BBox | None = None,
    scale: int | None = None,
    cmap: Any = "viridis",
    vmin: float | str = 0,
    vmax: float | str = "p99.5",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw genes as measured beside the same genes projected, in one colour scale, a gene a row.

    A count in a spot is a count in a spot area, so both have one unit. Counts scatter about what is expected, so that
    the spots reach further up the scale than the raster, the more so the fewer there are.

    Parameters
    ----------
    %(data)s
    %(genes)s
    layer
        Layer of the measured values; default ``"counts"`` if there is one, else ``X``.
    %(key)s
    %(library_id)s
    %(bbox)s
    %(scale)s
    %(cmap)s
    %(vmin, vmax)s
    %(frame)s

    Returns
    -------
    The axes, two for each gene: measured, projected, measured, projected, ...

    Raises
    ------
    KeyError
        If there is no such gene, layer or projection.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.comparison("toy.zarr", "class1_a")  # doctest: +SKIP
    """
    names = names_of(genes)
    store, key = projection_of(data, key, library_id)
    table = table_of(data, key)
    values, _ = counts_of(table, names, layer)
    rasters = gene_rasters(store, names, key=key, bbox=bbox, scale=scale)
    spots = spots_of(table, key=key, library_id=None)
    values = values[spots.rows]
    tissue, _ = stored_image(store, _keys.image(stores.library_id(store, key)), bbox, scale)
    extent = window_of(bbox, known_extent(rasters), extent_of(rasters))
    shown = _inside(spots.xy, extent)
    titles = [f"{name}, {side}" for name in names for side in ("measured", "projected")]
    axes = panels(ax, titles, ncols=2, size=panel_size(extent), bars=1)
    for i in range(len(names)):
        column, raster = values[:, i], rasters[i]
        lows, highs = zip(limits(column[shown], vmin, vmax), limits(raster.values, vmin, vmax), strict=True)
        clim = min(lows), max(highs)
        left, right = axes[2 * i : 2 * i + 2]
        draw_spots(left, spots, column, tissue, cmap=cmap, clim=clim)
        image = draw_raster(right, raster, cmap=cmap, clim=clim)
        both = np.concatenate([column[shown], raster.values.ravel()])
        colour_bar(right, image, both, rasters.attrs["unit"])
        dress(left, titles[2 * i], extent, spots.um_per_px)
        dress(right, titles[2 * i + 1], extent, fullres_um_per_px(rasters))
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _inside(xy: NDArray[np.float64], extent: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    left, right, bottom, top = extent
    x, y = xy.T
    inside: NDArray[np.bool_] = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return inside
