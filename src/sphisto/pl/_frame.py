"""What all plots share: axes, colour limits and bars, tissue outline, scale bar, saving and showing."""

from __future__ import annotations

import inspect
import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from sphisto.io.window import as_bbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray
    from xarray import DataArray

    AnyAxes: TypeAlias = Axes | Iterable[Axes]
    Limits: TypeAlias = tuple[float, float]
    Extent: TypeAlias = tuple[float, float, float, float]

Plot = TypeVar("Plot", bound="Callable[..., Any]")

PANEL = 3.2  # inches, the longer side of a panel

_SHARED = {
    "data": """
        Path of a store, the SpatialData read from it, or the AnnData that was fitted (its ``uns[key]["store"]`` says
        where the store is).""",
    "genes": """
        One name or several, of ``var_names``.""",
    "key": """
        Which projection.""",
    "library_id": """
        Which section, where several were fitted together.""",
    "bbox": """
        ``(x_min, y_min, x_max, y_max)`` in full-resolution px; default: the whole section. Set it to look closer: a
        finer level of the rasters is then read.""",
    "scale": """
        Pyramid level of the rasters, 0 is the finest; default: the finest with at most 1024 px on the longer side.""",
    "ncols": """
        Panels in a row.""",
    "cmap": """
        Colour map of matplotlib.""",
    "vmin, vmax": """
        Ends of the colour scale: a number in the unit of the colour bar, or a percentile of what is drawn, such as
        ``"p99"``. The scale starts at zero, so that a gene with few counts is not stretched until its noise shows;
        give numbers to compare genes or sections by eye.""",
    "ax": """
        Axes to draw in, as many as there are panels; default: those of a new figure. Give your own figure
        ``layout="constrained"``, so that it leaves room for colour bars.""",
    "show": """
        Whether to call :func:`matplotlib.pyplot.show`; default: only for a new figure that is not saved, on a screen.""",
    "save": """
        Path of an image file to write; its ending decides the format.""",
}


def describe(plot: Plot) -> Plot:
    """Fill a docstring's ``%(name)s`` lines with the descriptions which plots share."""
    text = inspect.getdoc(plot)
    if text:  # python -OO has none
        parts = {names: f"{names}\n{_indented(about)}" for names, about in _SHARED.items()}
        parts["frame"] = "\n".join(parts[name] for name in ("ax", "show", "save"))
        plot.__doc__ = text % parts
    return plot


def panels(
    ax: AnyAxes | None,
    names: Sequence[str],
    *,
    ncols: int = 1,
    size: tuple[float, float],
    bars: int = 0,
    bar: float = 0.85,
    **subplots: Any,
) -> list[Axes]:
    """Return one axes a panel: the given ones if their number is right, else those of a new figure.

    ``names`` say what each shows, ``size`` is (width, height) of one in inches; ``bars`` columns have colour bars, with
    their labels ``bar`` inches wide. What else is given goes to :func:`matplotlib.pyplot.subplots`.
    """
    from matplotlib import pyplot as plt

    if ax is not None:
        given: list[Axes] = np.ravel(np.asarray(ax, dtype=object)).tolist()
        if len(given) != len(names):
            msg = (
                f"Found {len(given)} axes in `ax`; expected {len(names)}, one for each panel: {', '.join(names)}. "
                "Pass as many, or none for a new figure."
            )
            raise ValueError(msg)
        return given
    if ncols < 1:
        msg = f"`ncols` must be at least 1, found {ncols}."
        raise ValueError(msg)
    ncols = min(ncols, len(names))
    nrows = -(-len(names) // ncols)
    figsize = (ncols * size[0] + min(bars, ncols) * bar, nrows * size[1])
    figure, grid = plt.subplots(nrows, ncols, figsize=figsize, layout="constrained", squeeze=False, **subplots)
    figure.get_layout_engine().set(h_pad=0.08)
    for spare in grid.flat[len(names) :]:
        spare.remove()
    return list(grid.flat[: len(names)])


def finish(axes: Sequence[Axes], *, ax: AnyAxes | None, show: bool | None, save: str | Path | None) -> None:
    """Save the figure and show it, as requested."""
    # the canvas knows the whole figure, also where the axes lie in a part of one
    canvas = axes[0].figure.canvas
    if save is not None:
        canvas.figure.savefig(save, dpi=200, bbox_inches="tight")
    # in notebooks a new figure shows itself
    on_screen = getattr(canvas, "required_interactive_framework", None) is not None
    if show if show is not None else (ax is None and save is None and on_screen):
        from matplotlib import pyplot as plt

        plt.show()


def limits(values: NDArray[Any], vmin: float | str, vmax: float | str) -> Limits:
    """Turn numbers or percentiles such as ``"p99"`` of the values (any shape, NaN left out) into colour limits."""
    known = values[np.isfinite(values)]
    low, high = _limit(known, vmin, "vmin"), _limit(known, vmax, "vmax")
    if high > low:
        return low, high
    if isinstance(vmax, str):
        return low, low + 1  # nothing but zeros: one count is then full colour
    msg = f"The colours would go from vmin={low:g} to vmax={high:g}; expected vmax to be larger."
    raise ValueError(msg)


def colour_bar(ax: Axes, mappable: ScalarMappable, values: NDArray[Any], label: str) -> None:
    """Draw a colour bar of the panel's height, with an arrow at the end that the values exceed."""
    low, high = mappable.get_clim()
    known = values[np.isfinite(values)]
    below, above = bool((known < low).any()), bool((known > high).any())
    extend = ("neither", "min", "max", "both")[below + 2 * above]
    inset = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = ax.figure.colorbar(mappable, cax=inset, extend=extend, extendfrac=0.03)
    bar.set_label(label, size="small")
    bar.ax.tick_params(labelsize="small", length=2)
    bar.outline.set_linewidth(0.5)


def draw_raster(ax: Axes, raster: DataArray, *, cmap: Any, clim: Limits, alpha: float | None = None) -> AxesImage:
    """Draw a (y, x) raster at its place in full-resolution px, NaN transparent, with the outline of what is known.

    An ``alpha`` below 1 dims it towards the background.
    """
    image = ax.imshow(raster.values, cmap=cmap, vmin=clim[0], vmax=clim[1], extent=extent_of(raster), alpha=alpha)
    known = np.isfinite(raster.values)
    if known.any() and not known.all() and min(known.shape) > 1:
        x, y = raster["x"].values, raster["y"].values
        ax.contour(x, y, known, levels=[0.5], colors="0.2", linewidths=0.6)
    return image


def dress(ax: Axes, title: str, extent: Extent, um_per_px: float) -> None:
    """Give a map its title, window, equal sides and scale bar; no ticks.

    ``extent`` is (left, right, bottom, top) in full-resolution px, of which ``um_per_px`` is the size.
    """
    ax.set_title(title)
    ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    ax.set_axis_off()
    _scale_bar(ax, extent, um_per_px)


def panel_size(extent: Extent) -> tuple[float, float]:
    """(width, height) in inches for a map of that extent with its title and scale bar."""
    width, height = extent[1] - extent[0], extent[2] - extent[3]
    inches = PANEL / max(width, height)
    return width * inches + 0.1, height * inches + 0.6


def extent_of(raster: DataArray) -> Extent:
    """(left, right, bottom, top) of a raster's pixels, whose centres are its coordinates."""
    height, width = pixel_size(raster)
    y, x = raster["y"].values, raster["x"].values
    return (float(x[0] - width / 2), float(x[-1] + width / 2), float(y[-1] + height / 2), float(y[0] - height / 2))


def known_extent(raster: DataArray) -> Extent:
    """(left, right, bottom, top) of the pixels that are not NaN in (..., y, x); of all if none is known."""
    known = np.isfinite(raster.values).reshape(-1, *raster.shape[-2:]).any(axis=0)
    if not known.any():
        return extent_of(raster)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    return extent_of(raster[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def pixel_size(raster: DataArray) -> tuple[float, float]:
    """(height, width) of a raster's pixels in full-resolution px."""
    steps = [(v[-1] - v[0]) / (len(v) - 1) if len(v) > 1 else None for v in (raster["y"].values, raster["x"].values)]
    height, width = (float(own or other or 1.0) for own, other in (steps, steps[::-1]))
    return height, width


def fullres_um_per_px(raster: DataArray) -> float:
    """Um per full-resolution px of a raster's frame."""
    return float(raster.attrs["um_per_px"]) / math.sqrt(math.prod(pixel_size(raster)))


def window_of(
    bbox: tuple[float, float, float, float] | None, known: Extent, whole: Extent | None = None, *, margin: float = 0.05
) -> Extent:
    """Extent to show: that of a box (x_min, y_min, x_max, y_max), else what is known and a margin within the whole.

    The margin is a share of the longer side.
    """
    if bbox is None:
        left, right, bottom, top = known
        wide = margin * max(right - left, bottom - top)
        grown = left - wide, right + wide, bottom + wide, top - wide
        if whole is None:
            return grown
        return max(grown[0], whole[0]), min(grown[1], whole[1]), min(grown[2], whole[2]), max(grown[3], whole[3])
    x_min, y_min, x_max, y_max = as_bbox(bbox)
    return x_min, x_max, y_max, y_min


def round_length(longest: float) -> float:
    """Largest 1, 2 or 5 times a power of ten that is no longer than ``longest``."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def _scale_bar(ax: Axes, extent: Extent, um_per_px: float, *, share: float = 0.25) -> None:
    """Draw a bar of a round length below the map's left corner, where it is readable whatever the map shows.

    It is at most that share of the map's width.
    """
    import matplotlib as mpl

    left, right = extent[:2]
    length_um = round_length(share * (right - left) * um_per_px)
    end, y, colour = left + length_um / um_per_px, -0.03, mpl.rcParams["text.color"]
    below = ax.get_xaxis_transform()  # x in px of the map, y as a share of its height
    ax.plot(
        [left, end], [y, y], transform=below, color=colour, lw=2.5, solid_capstyle="butt", clip_on=False,
        gid="scale bar",
    )  # fmt: skip
    label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} \N{MICRO SIGN}m"
    ax.annotate(
        label, (end, y), xycoords=below, xytext=(4, 0), textcoords="offset points", va="center", size="small",
        annotation_clip=False, gid="scale bar",
    )  # fmt: skip


def _limit(known: NDArray[Any], limit: float | str, name: str) -> float:
    if not isinstance(limit, str):
        return float(limit)
    percentile = re.fullmatch(r"p(\d+(?:\.\d+)?)", limit)
    if percentile is None or float(percentile[1]) > 100:
        msg = f"Found {name}={limit!r}; expected a number, or a percentile from 'p0' to 'p100'."
        raise ValueError(msg)
    return float(np.percentile(known, float(percentile[1]))) if known.size else 0.0


def _indented(text: str) -> str:
    return "\n".join(f"    {line.strip()}" for line in text.strip().splitlines())
