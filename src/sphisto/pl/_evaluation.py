"""How well held-out spots were predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._former import former_keywords, named
from sphisto.io.store.data import table_of
from sphisto.pl._frame import describe, finish, panels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from sphisto.io.store.data import Data
    from sphisto.pl._frame import AnyAxes

_OWN = "sphisto"


@former_keywords(adata=named("data"))
@describe
def evaluation(
    data: Data,
    *,
    key: str = "evaluation",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw how well each method predicted the held-out spots, gene by gene.

    Left: the genes' Pearson correlations, sorted for each method by itself, below the noise ceiling, which is sorted
    too. Right: each gene by sphisto against the same gene by the best of the simpler methods; above the line sphisto
    is better.

    Parameters
    ----------
    data
        AnnData that :func:`sphisto.tl.evaluate` wrote to; or path of a store whose table holds it, or the SpatialData read
        from it.
    key
        Which evaluation.
    %(frame)s

    Returns
    -------
    Two axes: all methods, sphisto against the best other.

    Raises
    ------
    KeyError
        If there is no such evaluation.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.evaluation(adata)  # doctest: +SKIP
    """
    adata = table_of(data)
    record = _record_of(adata, key)
    by_method: DataFrame = adata.varm[_keys.by_method(key)]
    table: DataFrame = record["table"]
    best = str(table.drop(index=_OWN)["mean_pearson"].idxmax())
    axes = panels(ax, ["all methods", f"{_OWN} against {best}"], ncols=2, size=(4.3, 3.9))
    _draw_sorted(axes[0], by_method, adata.var[_keys.ceiling(key)].to_numpy())
    axes[0].set_title(_split_in_words(record["split"]), fontsize="medium")
    _draw_against(axes[1], by_method[best].to_numpy(), by_method[_OWN].to_numpy(), best)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _record_of(adata: AnnData, key: str) -> Mapping[str, Any]:
    record: Any = adata.uns.get(key)
    if not hasattr(record, "keys") or "table" not in record or _keys.by_method(key) not in adata.varm:
        msg = f"Did not find an evaluation in .uns[{key!r}]. Run `sphisto.tl.evaluate` first, or correct `key`."
        raise KeyError(msg)
    return record  # type: ignore[no-any-return]


def _draw_sorted(ax: Axes, by_method: DataFrame, ceiling: Any) -> None:
    """Draw each method's (G,) scores from the lowest to the highest, and the ceiling's."""
    styles: list[dict[str, Any]] = [{"color": "C0", "lw": 3, "zorder": 1}]  # wide and below: a curve on it shows
    styles += [{"color": f"C{i}", "lw": 1.2} for i in range(1, by_method.shape[1])]
    for (name, scores), style in zip(by_method.items(), styles, strict=True):
        _draw_curve(ax, str(name), scores.to_numpy(), style)
    if np.isfinite(ceiling).any():
        _draw_curve(ax, "noise ceiling", ceiling, {"color": "0.5", "lw": 1.2, "ls": "--"})
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.set(xlabel="genes, % (sorted)", ylabel="Pearson at held-out spots", xlim=(0, 100))
    ax.legend(frameon=False, fontsize="small")


def _draw_curve(ax: Axes, name: str, scores: Any, style: dict[str, Any]) -> None:
    known = np.sort(scores[np.isfinite(scores)].astype(np.float64))
    if len(known):
        rank = (np.arange(len(known)) + 0.5) / len(known) * 100
        ax.plot(rank, known, label=f"{name}, mean {known.mean():.3f}", **style)


def _draw_against(ax: Axes, other: Any, own: Any, name: str, *, tie: float = 1e-3) -> None:
    """Draw (G,) scores of sphisto over those of another method, and write how many genes lie off the line.

    Correlations that differ by less than ``tie`` are equal: where the network does not help, sphisto is the prior but for
    rounding.
    """
    known = np.isfinite(other) & np.isfinite(own)
    other, own = other[known], own[known]
    low, high = (min(other.min(), own.min()), max(other.max(), own.max())) if len(own) else (0.0, 1.0)
    margin = 0.03 * max(high - low, 1e-6)
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color="0.6", lw=1, zorder=0)
    size = float(np.clip(4_000 / max(len(own), 1), 3, 25))  # points squared: a dozen genes and thousands both show
    ax.scatter(other, own, s=size, color="C0", alpha=0.5, lw=0)
    ax.set(xlim=ends, ylim=ends, xlabel=f"Pearson, {name}", ylabel=f"Pearson, {_OWN}", aspect="equal")
    if len(own):
        better, worse = np.mean(own > other + tie), np.mean(other > own + tie)
        ax.set_title(f"of {len(own):,} genes {better:.0%} better, {worse:.0%} worse", fontsize="medium")


def _split_in_words(split: Mapping[str, Any]) -> str:
    n_out = int(split["held_out"])
    if split["kind"] == "section":
        return f"all {n_out:,} spots held out"
    kind = "in blocks" if split["kind"] == "blocks" else "at random"
    return f"{n_out:,} of {n_out + int(split['left']):,} spots held out {kind}"
