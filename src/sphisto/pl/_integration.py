"""How much sections differ, before and after their offsets were taken off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.io.store.data import table_of
from sphisto.pl._frame import PANEL, colour_bar, describe, finish, limits, panels
from sphisto.pl._measured import discs
from sphisto.pl._sources import counts_of, groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    from sphisto.io.store.data import Data
    from sphisto.pl._frame import AnyAxes

_SECTIONS, _BIOLOGY = "sections: chance is best", "biology: higher is better"
_OF_SECTIONS = {"section_accuracy": "section\nidentity", "section_silhouette": "silhouette", "section_mixing": "mixing"}
_OF_BIOLOGY = {
    "clusters_kept": "clusters\nkept",
    "label_silhouette": "silhouette",
    "label_purity": "purity",
    "label_connectivity": "connec-\ntivity",
}


@describe
def integration(
    data: Data | Sequence[AnnData],
    *,
    key: str = "integration",
    gene: str | None = None,
    factor: int = 0,
    cmap: Any = "viridis",
    vmin: float | str = "p0.5",
    vmax: float | str = "p99.5",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw what tells sections apart, and what biology is kept, before and after their offsets were taken off.

    UMAP of the spots before and after, coloured by section, and by label if there are labels; beside them the figures of
    :func:`sphisto.tl.integration`, with lines at chance: sections should be near it, biology above it. Then a map of each section's spots with one factor or gene in one colour scale: steps from section to section that no
    tissue explains are what is left of their differences.

    Parameters
    ----------
    data
        AnnData that :func:`sphisto.tl.integration` wrote to, with ``obsm["spatial"]``, or the list of them; or path of a store whose table holds
        it, or the SpatialData read from it.
    key
        Which result.
    gene
        Gene whose measured counts are mapped; default: a factor.
    factor
        Which column of the representation after is mapped, where no gene is.
    %(cmap)s
    %(vmin, vmax)s
    %(frame)s

    Returns
    -------
    The axes: UMAP by section before and after, figures of sections, (UMAP by label before and after,) figures of biology, a
    map of each section.

    Raises
    ------
    KeyError
        If there is no such result or gene.
    ValueError
        If there is no such factor.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.integration(adata)  # doctest: +SKIP
    """
    adata = _joined(data, key) if isinstance(data, list | tuple) else table_of(data)
    record = _record_of(adata, key)
    params: Mapping[str, Any] = record["params"]
    sections = groups_of(adata, params["section_key"])
    drawn = [code for code in range(len(sections.names)) if (sections.codes == code).any()]
    mapped, title, unit = _mapped(adata, params, key, gene, factor)
    coloured = [params["section_key"], *([params["label_key"]] if "label_key" in params else [])]
    shown = [column.removeprefix(f"{key}_") for column in coloured]
    pairs = [[f"before, by {column}", f"after, by {column}"] for column in shown]
    names = [*pairs[0], _SECTIONS, *(pairs[1] if len(pairs) > 1 else []), _BIOLOGY, *(sections.names[c] for c in drawn)]
    axes = panels(_new_axes(len(names) - len(drawn), len(drawn)) if ax is None else ax, names, size=(PANEL, PANEL))
    at = dict(zip(names, axes, strict=False))
    for column, pair in zip(coloured, pairs, strict=True):
        for stage, name in zip(("before", "after"), pair, strict=True):
            _draw_umap(at[name], adata.obsm[f"{key}_umap_{stage}"], groups_of(adata, column), legend=stage == "after")
            at[name].set_title(name, fontsize="medium")
    for name, figures in ((_SECTIONS, _OF_SECTIONS), (_BIOLOGY, _OF_BIOLOGY)):
        _draw_figures(at[name], record["table"], record["chance"], figures)
        at[name].set_title(name, fontsize="medium")
    maps, clim = axes[-len(drawn) :], limits(mapped, vmin, vmax)
    for axis, code in zip(maps, drawn, strict=True):
        rows = sections.codes == code
        image = _draw_map(axis, np.asarray(adata.obsm["spatial"])[rows, :2], mapped[rows], cmap, clim)
        axis.set_title(f"{sections.names[code]}, {title}", fontsize="medium")
    colour_bar(maps[-1], image, mapped, unit)
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _new_axes(n_figures: int, n_maps: int, most: int = 4) -> list[Axes]:
    """Axes of a new figure: UMAPs and figures in one or two rows, maps in rows of their own."""
    from matplotlib import pyplot as plt

    columns = n_figures if n_figures <= most else n_figures // 2
    rows, map_rows = n_figures // columns, -(-n_maps // most)
    width = max(columns, min(n_maps, most)) * PANEL + 0.6
    figure = plt.figure(figsize=(width, (rows + map_rows) * PANEL), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[rows, map_rows])
    above, below = parts
    maps = below.subplots(map_rows, min(n_maps, most), squeeze=False).ravel().tolist()
    for spare in maps[n_maps:]:
        spare.remove()
    return [*above.subplots(rows, columns, squeeze=False).ravel().tolist(), *maps[:n_maps]]


def _record_of(adata: AnnData, key: str) -> Mapping[str, Any]:
    record: Any = adata.uns.get(key)
    if not hasattr(record, "keys") or not {"table", "chance", "params"} <= set(record):
        msg = f"Did not find figures of an integration in .uns[{key!r}]. Run `sphisto.tl.integration` first, or correct `key`."
        raise KeyError(msg)
    return record  # type: ignore[no-any-return]


def _joined(tables: Sequence[AnnData], key: str) -> AnnData:
    """Return one table of several that were judged together."""
    import anndata as ad

    for table in tables:
        _record_of(table, key)
    joined = ad.concat(tables, join="inner", index_unique="-")
    joined.uns[key] = tables[0].uns[key]
    return joined


def _mapped(
    adata: AnnData, params: Mapping[str, Any], key: str, gene: str | None, factor: int
) -> tuple[NDArray[np.float64], str, str]:
    """(n,) values to map, their name and unit."""
    if gene is not None:
        values, unit = counts_of(adata, [gene], None)
        return values[:, 0], gene, unit
    after = str(params["after"])
    of_projection = after not in adata.obsm
    name = f"{key}_after" if of_projection else after
    of_all = np.asarray(adata.obsm[name], dtype=np.float64).reshape(adata.n_obs, -1)
    if not 0 <= factor < of_all.shape[1]:
        msg = f"Found factor={factor}; obsm[{name!r}] has those from 0 to {of_all.shape[1] - 1}."
        raise ValueError(msg)
    return of_all[:, factor], f"factor {factor}", "root of its share in a spot" if of_projection else after


def _draw_umap(ax: Axes, places: Any, groups: Any, *, legend: bool) -> None:
    """Draw spots in an order that does not depend on their groups: no section lies on top of the others."""
    order = np.random.default_rng(0).permutation(len(places))
    colours = np.asarray(groups.of_spots, dtype=object)
    size = float(np.clip(6_000 / max(len(places), 1), 1, 12))
    x, y = np.asarray(places)[order].T
    ax.scatter(x, y, c=colours[order].tolist(), s=size, lw=0, rasterized=True)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    if legend:
        from matplotlib.lines import Line2D

        there = [code for code in np.unique(groups.codes) if code >= 0]
        dots = [Line2D([], [], marker="o", ls="", ms=4, color=groups.colours[c], label=groups.names[c]) for c in there]
        ax.legend(handles=dots, frameon=False, fontsize="x-small", loc="best", handletextpad=0.1)


def _draw_figures(ax: Axes, table: DataFrame, chance: Mapping[str, float], figures: Mapping[str, str]) -> None:
    """Draw bars of some figures, one for each representation, with a dashed line at chance."""
    known = [name for name in figures if np.isfinite(table[name]).any()]
    width = 0.8 / len(table)
    for i, stage in enumerate(table.index):
        places = np.arange(len(known)) + (i - (len(table) - 1) / 2) * width
        ax.bar(places, table.loc[stage, known].to_numpy(dtype=float), width * 0.92, label=str(stage), color=f"C{i}")
    for place, name in enumerate(known):
        if np.isfinite(chance[name]):
            ax.plot(
                [place - 0.46, place + 0.46],
                [chance[name]] * 2,
                color="0.2",
                ls="--",
                lw=1.2,
                label="chance" if not place else None,
            )
    ax.axhline(0, color="0.6", lw=0.8, zorder=0)
    ax.set_xticks(np.arange(len(known)), [figures[name] for name in known], fontsize="small")
    top = max(1.0, float(np.nanmax(table[known].to_numpy(dtype=float), initial=0)))
    ax.set_ylim(min(0.0, float(np.nanmin(table[known].to_numpy(dtype=float), initial=0))) - 0.03, top * 1.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper left")


def _draw_map(
    ax: Axes, xy: NDArray[np.float64], values: NDArray[np.float64], cmap: Any, clim: tuple[float, float]
) -> Any:
    """Draw spots of one section as discs that nearly touch."""
    from sphisto.core.spot import median_pitch

    size = 0.95 * median_pitch(xy)
    spots = discs(ax, xy, size)
    spots.set(array=values, cmap=cmap, clim=clim, linewidth=0)
    ax.add_collection(spots)
    (left, top), (right, bottom) = xy.min(axis=0) - size, xy.max(axis=0) + size
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.set_axis_off()
    return spots
