"""How the losses went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.io.store.data import record_of, table_of
from sphisto.pl._frame import describe, finish, panels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from sphisto.io.store.data import Data
    from sphisto.pl._frame import AnyAxes

_PHASES = {"image": "image", "joint": "image and spots"}
_LINE: dict[str, Any] = {"marker": "o", "ms": 3, "lw": 1.5}


@describe
def history(
    data: Data,
    *,
    key: str = "projection",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw how the losses and the learning rate went, epoch by epoch, through both phases.

    The held-out loss is that of spots which were never learned from; where it lies below the dashed line, the network
    predicts them better than the prior it starts from. At the end these spots decide how much of what the network adds
    is used (``params["gate"]``).

    Parameters
    ----------
    data
        The AnnData that was fitted, path of a store, or the SpatialData read from it.
    %(key)s
    %(frame)s

    Returns
    -------
    Three axes: image loss, spot loss, learning rate.

    Raises
    ------
    KeyError
        If there is no such projection.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.history("toy.zarr")  # doctest: +SKIP
    """
    from matplotlib.ticker import MaxNLocator

    past = {name: np.asarray(values) for name, values in record_of(table_of(data, key), key)["history"].items()}
    names = ["image loss", "spot loss", "learning rate"]
    axes = panels(ax, names, size=(6, 2.2), sharex=True, height_ratios=[3, 3, 1.4])
    epochs = past["epoch"]
    axes[0].plot(epochs, past["image_loss"], color="C0", **_LINE)
    _draw_spot_losses(axes[1], past)
    axes[2].plot(epochs, past["learning_rate"], color="0.6", lw=1.2)
    for axis, name in zip(axes, names, strict=True):
        _shade_image_phase(axis, past)
        axis.set_ylabel(name)
        axis.spines[["top", "right"]].set_visible(False)
    axes[2].set_xlabel("epoch")
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2].ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _name_phases(axes[0], past)
    finish(axes, ax=ax, show=show, save=save)
    return axes


def _draw_spot_losses(ax: Axes, past: Mapping[str, NDArray[Any]]) -> None:
    """Draw loss of the learned and of the held-out spots, and what the prior alone gives."""
    lines: dict[str, tuple[str, dict[str, Any]]] = {
        "spot_loss": ("spots learned from", {"color": "C1", **_LINE}),
        "held_out_loss": ("spots held out", {"color": "C3", **_LINE}),
        "held_out_interpolated": ("held out, prior alone", {"color": "0.3", "ls": "--", "lw": 1.2}),
    }
    for name, (label, style) in lines.items():
        if np.isfinite(past[name]).any():
            ax.plot(past["epoch"], past[name], label=label, **style)
    if ax.lines:
        ax.legend(frameon=False, fontsize="small")


def _shade_image_phase(ax: Axes, past: Mapping[str, NDArray[Any]]) -> None:
    epochs = past["epoch"][past["phase"] == "image"]
    if len(epochs):
        ax.axvspan(epochs.min() - 0.5, epochs.max() + 0.5, color="0.94", lw=0, zorder=0)


def _name_phases(ax: Axes, past: Mapping[str, NDArray[Any]]) -> None:
    """Write above the axes what was learned when."""
    for phase, text in _PHASES.items():
        epochs = past["epoch"][past["phase"] == phase]
        if len(epochs):
            where = (float(epochs.mean()), 1.0)
            ax.annotate(
                text, where, xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                ha="center", va="bottom", color="0.4", fontsize="small",
            )  # fmt: skip
