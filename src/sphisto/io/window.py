"""A window of a large section: its rows, and a sample of the others, by which genes are put together."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sphisto.io.bins import block_centers, choose_bins, places_of, summed
from sphisto.io.rows import taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.io.layouts import Layout

BBox = tuple[float, float, float, float]

_RUNS, _RUN = 64, 64  # of rows that follow each other, drawn at random: 4,096, as many as a gene model is fitted to


def as_bbox(bbox: Sequence[float]) -> BBox:
    """Return (x_min, y_min, x_max, y_max) as numbers."""
    try:
        x_min, y_min, x_max, y_max = (float(each) for each in bbox)
    except (TypeError, ValueError) as error:
        msg = f"Found bbox={bbox!r}; expected (x_min, y_min, x_max, y_max) in full-resolution px."
        raise ValueError(msg) from error
    if not (np.isfinite([x_min, y_min, x_max, y_max]).all() and x_min < x_max and y_min < y_max):
        msg = f"Found bbox={(x_min, y_min, x_max, y_max)}; expected (x_min, y_min, x_max, y_max) in that order, in full-resolution px."
        raise ValueError(msg)
    return x_min, y_min, x_max, y_max


def inside(centers: NDArray[np.float64], bbox: BBox) -> NDArray[np.bool_]:
    """(n,) whether (n, 2) centres (y, x) lie in a window."""
    x_min, y_min, x_max, y_max = bbox
    y, x = centers.T
    return np.asarray((x >= x_min) & (x < x_max) & (y >= y_min) & (y < y_max))


def within(found: Layout, bbox: BBox, factor: int = 1) -> tuple[Layout, AnnData | None]:
    """Cut a section to the rows of which the centre lies in a window; also return a sample of the others.

    Of a table that stays in its file only rows that are needed are read. ``factor`` is bins along the side of the
    larger ones that will be summed up: of these the centre decides.

    Returns
    -------
    The section with a table of its own, and a table of about 4,000 other rows in runs at random places; ``None`` if there are none.
    """
    places = None if factor == 1 else places_of(found.adata, found.rows)
    centers = found.centers if places is None else block_centers(found.centers, places, factor)
    kept = inside(centers, bbox)
    if not kept.any():
        raise ValueError(nothing_in(bbox, found.centers))
    words = f"{int(kept.sum())} of these lie in bbox={tuple(f'{each:g}' for each in bbox)}".replace("'", "")
    own = np.sort(found.rows[kept])
    order = np.argsort(found.rows[kept], kind="stable")
    cut = replace(
        found,
        adata=taken(found.adata, own),
        rows=np.arange(len(own)),
        centers=found.centers[kept][order],
        concluded={**found.concluded, "rows": f"{found.concluded['rows']}; {words}"},
    )
    beside = np.flatnonzero(~kept)
    keys = np.arange(len(found.rows))
    if places is not None:  # one whole number for each larger bin, in their order
        blocks = places // factor
        keys = blocks[:, 0] * (blocks[:, 1].max() + 1) + blocks[:, 1]
    beside = beside[sample_of(keys[beside])]
    return cut, taken(found.adata, np.sort(found.rows[beside])) if len(beside) else None


def nothing_in(bbox: BBox, centers: NDArray[np.float64]) -> str:
    """Say that no row lies in a window, and where they are."""
    reach = ""
    if len(centers):
        (y_min, x_min), (y_max, x_max) = centers.min(axis=0), centers.max(axis=0)
        reach = f" Their centres reach from x = {x_min:.5g} to {x_max:.5g} and from y = {y_min:.5g} to {y_max:.5g}."
    return (
        f"Found no spot or bin under tissue with its centre in bbox={bbox}; expected some.{reach} Choose a window (x_min, y_min, "
        "x_max, y_max) on the tissue, in full-resolution px."
    )


def sample_of(keys: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.intp]:
    """Entries (ascending) of a sample of keys, in runs of keys that follow each other: these are read fast."""
    different = np.unique(keys)
    if len(different) <= _RUNS * _RUN:
        return np.arange(len(keys))
    starts = np.random.default_rng(seed).choice(len(different) // _RUN, _RUNS, replace=False) * _RUN
    chosen = different[(np.sort(starts)[:, None] + np.arange(_RUN)).ravel()]
    place = np.minimum(np.searchsorted(chosen, keys), len(chosen) - 1)
    return np.flatnonzero(chosen[place] == keys)


def part_of_section(found: Layout, bin_um: float | None, bbox: BBox | None) -> tuple[Layout, AnnData | None]:
    """Take bins of a size, and rows in a window; also return a sample of the other rows, if there is a window."""
    factor, others = 1, None
    if bin_um is not None:
        if found.bin_um is None:
            msg = (
                f"Found bin_um={bin_um:g}, and spots that nothing states to be bins; expected bins of Visium HD, with "
                "`bin_size_um` among the scale factors. Add it, or leave `bin_um` out; `spot_um` is the size of other spots."
            )
            raise ValueError(msg)
        _, factor = choose_bins([found.bin_um], bin_um, "the table")
    if bbox is not None:
        found, others = within(found, bbox, factor)
    if factor == 1:
        return found, others
    larger = _larger(found, factor)
    return larger, None if others is None else summed(others, factor, larger.bin_um or 0.0)


def _larger(found: Layout, factor: int) -> Layout:
    """Sum a section's bins up to larger ones, in a table of its own."""
    side = (found.bin_um or 0) * factor
    larger = summed(taken(found.adata, np.sort(found.rows)), factor, side, found.centers[np.argsort(found.rows)])
    rows = f"{found.concluded['rows']}; they were summed up, {factor} x {factor} each, to {larger.n_obs} bins of {side:g} um"
    return replace(
        found,
        library_id=re.sub(r"square_\d{3}um", f"square_{side:03.0f}um", found.library_id),
        adata=larger,
        rows=np.arange(larger.n_obs),
        centers=larger.obsm["spatial"][:, ::-1].copy(),
        spot_px=None if found.spot_px is None else found.spot_px * factor,
        bin_um=side,
        concluded={**found.concluded, "rows": rows},
    )
