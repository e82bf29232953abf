"""Gene rasters over the section."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

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
from sphisto.pl._measured import outline_spots
from sphisto.pl._sources import gene_rasters, names_of, projection_of, sd_rasters, skill_of, spots_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox
    from sphisto.pl._frame import AnyAxes

_Layer = Literal["mean", "sd"]
_NO_SKILL = 0.05  # chance alone gives such correlations among some hundreds of spots
_DIMMED = 0.35  # opacity of genes without skill: they are visible, but not prominent


@describe
def projection(
    data: Data,
    genes: str | Sequence[str],
    *,
    key: str = "projection",
    library_id: str | None = None,
    layer: _Layer = "mean",
    spots: bool = False,
    bbox: BBox | None = None,
    scale: int | None = None,
    ncols: int = 4,
    cmap: Any = "viridis",
    vmin: float | str = 0,
    vmax: float | str = "p99.5",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw genes at every pixel of the section, in counts per spot area.

    Pixels outside tissue are left blank; a thin line is drawn around the tissue. Beside a gene's name stands its skill:
    the Pearson correlation, at spots that the fit left out one by one, of log-normalised expression. Genes below 0.05
    are dimmed and marked "no skill": nothing should be concluded from their maps.

    Parameters
    ----------
    %(data)s
    %(genes)s
    %(key)s
    %(library_id)s
    layer
        ``"mean"``: what is expected; ``"sd"``: its standard deviation, of genes that were written as rasters.
    spots
        Whether the outlines of the spots are drawn, in their true size.
    %(bbox)s
    %(scale)s
    %(ncols)s
    %(cmap)s
    %(vmin, vmax)s
    %(frame)s

    Returns
    -------
    The axes, one for each gene.

    Raises
    ------
    KeyError
        If there is no such gene or projection, or no standard deviation of a gene.
    ValueError
        If ``layer`` is another word.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.projection("toy.zarr", ["class1_a", "nuclei_a"], vmax=20)  # doctest: +SKIP
    >>> axes = sphisto.pl.projection("toy.zarr", "class1_a", layer="sd", spots=True)  # doctest: +SKIP
    """
    if layer not in get_args(_Layer):
        msg = f"Found layer={layer!r}; expected {' or '.join(map(repr, get_args(_Layer)))}."
        raise ValueError(msg)
    names = names_of(genes)
    store, key = projection_of(data, key, library_id)
    read = sd_rasters if layer == "sd" else gene_rasters
    rasters = read(store, names, key=key, bbox=bbox, scale=scale)
    outlined = spots_of(table_of(data, key), key=key, library_id=None) if spots else None
    extent = window_of(bbox, known_extent(rasters), extent_of(rasters))
    axes = panels(ax, names, ncols=ncols, size=panel_size(extent), bars=ncols)
    for axis, name, raster, skill in zip(axes, names, rasters, skill_of(data, names, key), strict=True):
        dimmed = _DIMMED if skill < _NO_SKILL else None
        image = draw_raster(axis, raster, cmap=cmap, clim=limits(raster.values, vmin, vmax), alpha=dimmed)
        colour_bar(axis, image, raster.values, rasters.attrs["unit"])
        if outlined is not None:
            outline_spots(axis, outlined)
        dress(axis, _titled(name, skill), extent, fullres_um_per_px(rasters))
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _titled(name: str, skill: float) -> str:
    """Name with its skill, if that is known."""
    if math.isnan(skill):
        return name
    return f"{name}  r = {skill:.2f}" if skill >= _NO_SKILL else f"{name}  no skill"
