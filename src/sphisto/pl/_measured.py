"""Genes as the spots measured them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto.io.store import read as stores
from sphisto.io.store.data import is_anndata, store_of, table_of
from sphisto.pl._frame import colour_bar, describe, dress, finish, limits, panel_size, panels, window_of
from sphisto.pl._sources import counts_of, groups_of, is_numeric, names_of, section_image, spots_of, stored_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.collections import Collection
    from numpy.typing import NDArray

    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox
    from sphisto.pl._frame import AnyAxes, Limits
    from sphisto.pl._sources import Groups, PlacedImage, Spots

_FADED = 0.45  # opacity of the image under the spots: its structure shows, its colours do not mix with theirs


@describe
def measured(
    data: Data,
    genes: str | Sequence[str],
    *,
    library_id: str | None = None,
    layer: str | None = None,
    key: str = "projection",
    bbox: BBox | None = None,
    ncols: int = 4,
    cmap: Any = "viridis",
    vmin: float | str = 0,
    vmax: float | str = "p99.5",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw genes or columns of ``obs`` as the spots have them, each spot in its true size over the faded tissue image.

    The size is that of the area which captures RNA (55 um for Visium), not the 65 um of Space Ranger's
    ``spot_diameter_fullres``.

    Parameters
    ----------
    data
        AnnData in the Visium layout (``obsm["spatial"]``, ``uns["spatial"]``), path of a store, or the SpatialData
        read from it.
    genes
        One name or several, of ``var_names`` or of columns of ``obs``: numbers such as ``total_counts``, or groups such as
        clusters, which get a legend and scanpy's colours, if there are any.
    library_id
        Which section of ``uns["spatial"]``; needed only where there are several.
    layer
        Layer of the values, or ``"raw"`` for those of ``.raw``; default ``"counts"`` if there is one, else ``X``.
    key
        Projection whose parameters hold the size of the spots, where there is one.
    %(bbox)s
    %(ncols)s
    %(cmap)s
    %(vmin, vmax)s
    %(frame)s

    Returns
    -------
    The axes, one for each name.

    Raises
    ------
    KeyError
        If there is no such gene or column, layer or library.
    ValueError
        If there are no coordinates, or nothing states the size of the spots.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.toy(96, 96, pitch_um=24)
    >>> axes = sphisto.pl.measured(adata, ["class1_a", "nuclei_a"], show=False)
    >>> adata.obs["half"] = ["left" if x < 48 else "right" for x in adata.obsm["spatial"][:, 0]]
    >>> axes = sphisto.pl.measured(adata, "half", show=False)
    """
    names = names_of(genes)
    if not is_anndata(data):
        key = stores.projection(store_of(data), key, library_id)
    table = table_of(data, key)
    genes = [name for name in names if name in table.var_names or name not in table.obs]
    values, unit = counts_of(table, genes, layer) if genes else (np.zeros((table.n_obs, 0)), "")
    of_gene = dict(zip(genes, values.T, strict=True))
    spots = spots_of(table, key=key, library_id=library_id)
    if is_anndata(data):
        image = section_image(table, library_id)
    else:
        image = stored_image(data, _keys.image(stores.library_id(data, key)), bbox, None)[0]
    extent = window_of(bbox, spots.extent, image.extent if image else None)
    axes = panels(ax, names, ncols=ncols, size=panel_size(extent), bars=ncols)
    for axis, name in zip(axes, names, strict=True):
        if name not in of_gene and not is_numeric(table, name):
            _draw_groups(axis, spots, groups_of(table, name), image)
        else:
            column = of_gene[name] if name in of_gene else table.obs[name].to_numpy(dtype=np.float64)
            own = column[spots.rows]
            drawn = draw_spots(axis, spots, own, image, cmap=cmap, clim=limits(own, vmin, vmax))
            colour_bar(axis, drawn, own, unit if name in of_gene else "")
        dress(axis, name, extent, spots.um_per_px)
    finish(axes, ax=ax, show=show, save=save)
    return axes


def draw_spots(
    ax: Axes, spots: Spots, values: NDArray[Any], image: PlacedImage | None, *, cmap: Any, clim: Limits
) -> Collection:
    """Draw (n,) values as discs or squares of true size over a faded image."""
    if image is not None:
        ax.imshow(image.pixels, extent=image.extent, alpha=_FADED)
    drawn = _shapes(ax, spots)
    drawn.set(array=values, cmap=cmap, clim=clim, linewidth=0)
    ax.add_collection(drawn)
    return drawn


def _draw_groups(ax: Axes, spots: Spots, groups: Groups, image: PlacedImage | None) -> None:
    """Draw the groups of the spots in their colours, with a legend beside."""
    from matplotlib.patches import Patch

    if image is not None:
        ax.imshow(image.pixels, extent=image.extent, alpha=_FADED)
    colours = groups.of_spots
    drawn = _shapes(ax, spots)
    drawn.set(facecolor=[colours[row] for row in spots.rows], linewidth=0)
    ax.add_collection(drawn)
    there = np.unique(groups.codes[spots.rows])
    patches = [Patch(color=groups.colours[code], label=groups.names[code]) for code in there if code >= 0]
    ax.legend(handles=patches, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small")


def outline_spots(ax: Axes, spots: Spots) -> None:
    """Draw the outlines of spots in true size over a map."""
    drawn = _shapes(ax, spots)
    drawn.set(facecolor="none", edgecolor="white", linewidth=0.4)
    ax.add_collection(drawn, autolim=False)


def _shapes(ax: Axes, spots: Spots) -> Collection:
    """Discs or squares of the spots' size, not yet in the axes."""
    from matplotlib.collections import PolyCollection

    from sphisto.core.footprint import unit_square

    if spots.shape == "disc":
        return discs(ax, spots.xy, spots.size)
    corners = spots.size * unit_square(spots.turn)[:, ::-1]
    return PolyCollection(list(spots.xy[:, None] + corners))


def discs(ax: Axes, xy: NDArray[np.float64], size: float) -> Collection:
    """Discs of that diameter around (n, 2) x, y, not yet in the axes."""
    from matplotlib.collections import EllipseCollection

    sizes = np.full(len(xy), size)
    return EllipseCollection(sizes, sizes, np.zeros(len(xy)), units="xy", offsets=xy, offset_transform=ax.transData)
