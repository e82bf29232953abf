"""One section laid upon another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphisto.io.registration import image_and_tissue
from sphisto.io.sections import as_section
from sphisto.pl._frame import describe, dress, finish, panel_size, panels, window_of
from sphisto.slide.registration import Registration

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.io.understood import Section
    from sphisto.pl._frame import AnyAxes

    Points = NDArray[np.float64]

_FIXED, _MOVING = "black", "tab:orange"


@describe
def registration(
    moving: Section | AnnData | SpatialData | str | Path,
    fixed: Section | AnnData | SpatialData | str | Path,
    *,
    registration: Registration | None = None,
    key: str = "registration",
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw two sections side by side, each with the outlines of both, to see whether their tissue lies alike.

    Borders of tissue inside the section should lie alike against the outlines in both images, too. No image is resampled:
    outlines are moved.

    Parameters
    ----------
    moving, fixed
        The sections that were given to :func:`sphisto.pp.register`.
    registration
        What it returned; default: what ``moving`` holds in ``uns[key]``.
    key
        Entry of ``uns``.
    %(frame)s

    Returns
    -------
    Two axes: the fixed section, the moving one.

    Raises
    ------
    KeyError
        If there is no registration.
    ValueError
        If the registration is of other sections.

    Examples
    --------
    >>> import sphisto as sp
    >>> first = sp.datasets.toy(192, 192, pitch_um=24)
    >>> second = first.copy()
    >>> second.uns["spatial"] = {"second": second.uns["spatial"].pop("toy")}
    >>> _ = sp.pp.register(second, first)
    >>> axes = sp.pl.registration(second, first, show=False)
    """
    mover, target = as_section(moving), as_section(fixed)
    found = _found(mover, registration, key)
    if (found.moving, found.fixed) != (mover.library_id, target.library_id):
        msg = (
            f"Found a registration of {found.moving!r} to {found.fixed!r} with the sections {mover.library_id!r} and "
            f"{target.library_id!r}; expected those that were registered, in the same order."
        )
        raise ValueError(msg)
    sides = [_Side(section) for section in (target, mover)]
    other_lines = [
        [found.to_fixed(line) for line in sides[1].outlines],
        [found.to_moving(line) for line in sides[0].outlines],
    ]
    extents = [
        window_of(None, _around([*side.outlines, *lines])) for side, lines in zip(sides, other_lines, strict=True)
    ]
    axes = panels(ax, ["fixed", "moving"], ncols=2, size=panel_size(extents[0]))
    for axis, side, lines, extent, section in zip(axes, sides, other_lines, extents, (target, mover), strict=True):
        axis.imshow(side.image, extent=side.extent, interpolation="antialiased")
        is_fixed = section is target
        for own, drawn in ((True, side.outlines), (False, lines)):
            of_fixed = own == is_fixed
            name, colour = (target.library_id, _FIXED) if of_fixed else (mover.library_id, _MOVING)
            for i, line in enumerate(drawn):
                axis.plot(*line.T, color=colour, lw=1.2, ls="-" if own else "--", label=None if i else name)
        title = f"{section.library_id}, {'fixed' if is_fixed else _how(found)}"
        dress(axis, title, extent, section.grid.fullres_um_per_px)
    axes[0].legend(loc="upper right", bbox_to_anchor=(1, 0), ncols=2, fontsize="small", frameon=False, columnspacing=1)
    finish(axes, ax=ax, show=show, save=save)
    return axes


class _Side:
    """What is drawn of a section."""

    def __init__(self, section: Section) -> None:
        from skimage.measure import find_contours

        shortest = 12  # corners of an outline: shorter ones are single pixels
        pixels, tissue, fullres_per_px = image_and_tissue(section)
        self.image: NDArray[np.uint8] = pixels
        height, width = (side * scale for side, scale in zip(tissue.shape, fullres_per_px, strict=True))
        self.extent = (0.0, width, height, 0.0)
        found = find_contours(np.pad(tissue.astype(np.float64), 1), 0.5)
        self.outlines: list[Points] = [
            ((line - 0.5) * fullres_per_px)[:, ::-1] for line in found if len(line) > shortest
        ]


def _how(found: Registration) -> str:
    mirrored = "mirrored and " if found.reflected else ""
    return f"{mirrored}turned by {found.turn:.0f}°" + ("" if found.trusted else ", not trusted")


def _around(lines: list[Points]) -> tuple[float, float, float, float]:
    """(left, right, bottom, top) of some lines."""
    every = np.concatenate(lines)
    (left, top), (right, bottom) = every.min(axis=0), every.max(axis=0)
    return float(left), float(right), float(bottom), float(top)


def _found(moving: Section, registration: Registration | None, key: str) -> Registration:
    if registration is not None:
        return registration
    values: Any = None if moving.adata is None else moving.adata.uns.get(key)
    if not hasattr(values, "keys") or "matrix" not in values:
        msg = f"Did not find a registration in .uns[{key!r}]. Run `sphisto.pp.register` first, pass `registration`, or correct `key`."
        raise KeyError(msg)
    return Registration.from_dict(values)
