"""Genes on the embedding of the spots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._former import former_keywords, named
from sphisto.io.store.data import is_anndata, table_of
from sphisto.pl._frame import PANEL, colour_bar, describe, finish, limits, panels
from sphisto.pl._sources import columns_of, groups_of, names_of, unit_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from sphisto.io.store.data import Data
    from sphisto.pl._frame import AnyAxes


@former_keywords(adata=named("data"))
@describe
def umap(
    data: Data,
    genes: str | Sequence[str],
    *,
    clusters: str | None = None,
    layer: str | None = None,
    ncols: int = 4,
    cmap: Any = "viridis",
    vmin: float | str = 0,
    vmax: float | str = "p99.5",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw genes on the UMAP of the spots, after a panel with their clusters.

    Spots with high values are drawn last, so that they are not hidden.

    Parameters
    ----------
    data
        AnnData with ``obsm["X_umap"]``, written by :func:`sphisto.pp.explore`; or path of a store whose table holds it,
        or the SpatialData read from it.
    %(genes)s
    clusters
        Column of ``obs`` with the clusters; default: those of :func:`sphisto.pp.explore`, if there are any.
    layer
        Layer of the values, or ``"raw"`` for those of ``adata.raw``; default: ``X``.
    %(ncols)s
    %(cmap)s
    %(vmin, vmax)s
    %(frame)s

    Returns
    -------
    The axes: that of the clusters if there are any, then one for each gene.

    Raises
    ------
    ValueError
        If there is no UMAP.
    KeyError
        If there is no such gene, layer or column.

    Examples
    --------
    >>> import sphisto
    >>> adata = sphisto.datasets.toy(96, 96, pitch_um=24)
    >>> sphisto.pp.normalize(adata)
    >>> sphisto.pp.explore(adata)
    >>> axes = sphisto.pl.umap(adata, ["class1_a", "nuclei_a"], show=False)
    """
    adata = table_of(data)
    if "X_umap" not in adata.obsm:
        msg = (
            'Did not find .obsm["X_umap"]. Run `sphisto.pp.explore` first'
            f"{'' if is_anndata(data) else ', before the fit that writes the table into the store'}."
        )
        raise ValueError(msg)
    names = names_of(genes)
    values = columns_of(adata, names, layer)
    unit = _unit(adata, values, layer)
    xy = np.asarray(adata.obsm["X_umap"])[:, :2]
    groups = _clusters_of(adata, clusters)
    axes = panels(ax, [*groups, *names], ncols=ncols, size=(PANEL + 0.3, PANEL + 0.4), bars=ncols)
    size = float(np.clip(12_000 / len(xy), 2, 40))  # points squared: some tens of spots and many thousands both show
    for group in groups:
        _draw_clusters(axes[0], xy, adata, group, size)
    for axis, name, column in zip(axes[len(groups) :], names, values.T, strict=True):
        low, high = limits(column, vmin, vmax)
        order = np.argsort(column, kind="stable")
        dots = axis.scatter(xy[order, 0], xy[order, 1], c=column[order], s=size, lw=0, cmap=cmap, vmin=low, vmax=high)
        colour_bar(axis, dots, column, unit)
        _dress(axis, name)
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _clusters_of(adata: AnnData, clusters: str | None) -> list[str]:
    """Return the column of the clusters, or nothing where there is none."""
    if clusters is None:
        written = adata.uns.get("explore", {}).get("params", {}).get("key_added")
        return [str(written)] if written in adata.obs else []
    if clusters not in adata.obs:
        msg = f"Found no column {clusters!r} in .obs; it holds {', '.join(map(repr, adata.obs.columns)) or 'none'}."
        raise KeyError(msg)
    return [clusters]


def _draw_clusters(ax: Axes, xy: NDArray[Any], adata: AnnData, clusters: str, size: float) -> None:
    """Draw clusters in their colours, each with its name at its middle."""
    from matplotlib.patheffects import withStroke

    groups = groups_of(adata, clusters)
    ax.scatter(xy[:, 0], xy[:, 1], c=groups.of_spots, s=size, lw=0)
    for code, group in enumerate(groups.names):
        members = xy[groups.codes == code]
        if len(members):
            halo = [withStroke(linewidth=2.5, foreground="white")]
            ax.annotate(group, np.median(members, axis=0), ha="center", va="center", path_effects=halo)
    _dress(ax, clusters)


def _dress(ax: Axes, title: str) -> None:
    ax.set(title=title, xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)


def _unit(adata: AnnData, values: NDArray[np.float64], layer: str | None) -> str:
    if layer is None and "log1p" in adata.uns:
        return "log-normalised counts"
    return unit_of(values, layer)
