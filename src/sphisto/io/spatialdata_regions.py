"""The region of a SpatialData that is a section's spots or bins: its table, its rows and the size of its shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from sphisto import _keys
from sphisto._settings import logger
from sphisto.io.bins import choose_bins
from sphisto.io.layouts import under_tissue
from sphisto.slide.lattice import turn_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from geopandas import GeoDataFrame
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.core.spot import SpotShape

BINS = re.compile(r"(?:^|_)square_(\d{3})um(?:-.+)?$")
"""What spatialdata-io and Space Ranger call bins, with their side in um."""


def choose_region(sdata: SpatialData, library_id: str | None, bin_um: float | None = None) -> tuple[str, AnnData, str]:
    """Return a table, its name and the shapes element it annotates; of bins of several sizes those to make ``bin_um`` of."""
    found = annotated_regions(sdata)
    drawn = [each for each in found if each[2] in sdata.shapes]
    if not drawn and any(region in sdata.labels for _, _, region in found):
        of_labels = ", ".join(f"{name!r} annotates {region!r}" for name, _, region in found)
        msg = (
            f"Found tables that annotate labels only ({of_labels}); expected one that annotates circles or squares. Read bins "
            "with `annotate_table_by_labels=False`; cells are no spots."
        )
        raise ValueError(msg)
    if library_id is None:
        return _the_only(drawn, found, "", bin_um)
    choice = f" for library_id={library_id!r}"
    ways = (
        lambda region: region in (library_id, _keys.spots(library_id)),
        lambda region: region.endswith(f"-{library_id}"),  # the key by which `spatialdata.concatenate` joined it
        lambda region: region.startswith(f"{library_id}_") or region.endswith(f"_{library_id}"),
        lambda region: re.search(rf"(?:^|[\W_]){re.escape(library_id)}(?:$|[\W_])", region) is not None,
    )
    for way in ways:
        matching = [each for each in drawn if way(each[2])]
        if matching:
            return _the_only(matching, found, choice, bin_um)
    return _the_only([], found, choice)


def annotated_regions(sdata: SpatialData) -> list[tuple[str, AnnData, str]]:
    """Return each region that a table annotates, with that table and its name."""
    return [
        (str(name), table, str(region))
        for name, table in sdata.tables.items()
        for region in np.atleast_1d(table.uns.get("spatialdata_attrs", {}).get("region", []))
    ]


def _the_only(
    chosen: Sequence[tuple[str, AnnData, str]],
    found: Sequence[tuple[str, AnnData, str]],
    choice: str,
    bin_um: float | None = None,
) -> tuple[str, AnnData, str]:
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        others = ", ".join(f"{name!r} annotates {region!r}" for name, _, region in found) or "none annotates anything"
        msg = (
            f"Found no table{choice} that annotates circles or squares in the SpatialData; expected one. Of its tables "
            f"{others}."
        )
        raise ValueError(msg)
    sizes = _bins_of_one_section(chosen)
    if sizes:
        side, _ = choose_bins(sizes, bin_um, "the SpatialData")
        logger.info("Of bins of %s um those of %g um are read. Choose others by `bin_um`.",
                    ", ".join(f"{own:g}" for own in sorted(sizes)), side)  # fmt: skip
        return sizes[side]
    regions = {region for _, _, region in chosen}
    if len(regions) == 1:
        names = ", ".join(repr(name) for name, _, _ in chosen)
        msg = (
            f"Found several tables{choice} that annotate {regions.pop()!r}: {names}; expected one. Leave the others out: "
            '`sdata.subset([..., "the table"])`, or `del sdata.tables["another"]`.'
        )
        raise ValueError(msg)
    msg = (
        f"Found several annotated regions{choice}: {', '.join(region for _, _, region in chosen)}. Choose one with "
        "`library_id=` (a part of its name that no other has)."
    )
    raise ValueError(msg)


def _bins_of_one_section(chosen: Sequence[tuple[str, AnnData, str]]) -> dict[float, tuple[str, AnnData, str]]:
    """Bins by their side in um, if all regions are bins of one section, or cells that were segmented in it; else none."""
    stems = {re.sub(r"square_\d{3}um|cell_segmentations", "", region) for _, _, region in chosen}
    if len(stems) > 1:
        return {}
    return {float(match.group(1)): each for each in chosen if (match := BINS.search(each[2]))}


def rows_of(table: AnnData, region: str, shapes: GeoDataFrame) -> tuple[NDArray[np.intp], GeoDataFrame, str]:
    """Return the rows of the table that annotate a region, with their shapes in that order."""
    import pandas as pd

    keys = table.uns["spatialdata_attrs"]
    lost = [keys[name] for name in ("region_key", "instance_key") if keys.get(name) not in table.obs]
    if lost:
        msg = (
            f"Found no column {', '.join(map(repr, lost))} in obs, by which the table annotates {region!r} (by its "
            "uns['spatialdata_attrs']); expected it. Add the column again, or parse the table again (`TableModel.parse`)."
        )
        raise ValueError(msg)
    rows = np.flatnonzero((table.obs[keys["region_key"]].astype(str) == region).to_numpy())
    ids = table.obs[keys["instance_key"]].iloc[rows].to_numpy()
    if not shapes.index.is_unique:
        twice = int(shapes.index.duplicated().sum())
        msg = f"Found {twice} of {len(shapes)} shapes of {region!r} with the id of another; expected one shape for each id."
        raise ValueError(msg)
    place = shapes.index.get_indexer(pd.Index(ids))
    if (place < 0).all():  # numbers on one side and text on the other
        place = pd.Index(shapes.index.astype(str)).get_indexer(pd.Index(ids).astype(str))
    found = place[place >= 0]
    if len(np.unique(found)) < len(found):
        twice = int(len(found) - len(np.unique(found)))
        msg = (
            f"Found {twice} of {len(place)} rows of the table that annotate a shape of {region!r} which another row annotates, "
            f"by {keys['instance_key']!r}; expected one row for each spot. Correct that column."
        )
        raise ValueError(msg)
    gone = int((place < 0).sum())
    if gone == len(place):
        msg = (
            f"Found none of the {len(place)} spots of the table (such as {ids[0]!r}, by {keys['instance_key']!r}) among the "
            f"{len(shapes)} shapes of {region!r} (such as {shapes.index[0]!r}); expected their ids. Correct that column."
            if len(place)
            else f"Found no rows of the table that annotate {region!r}, though its attributes do; expected some. Correct the "
            f"column {keys['region_key']!r} of obs."
        )
        raise ValueError(msg)
    if gone:
        logger.warning("%d of %d spots of the table have no shape in %r and are left out. Correct the column `%s` if they "
                       "have one.", gone, len(place), region, keys["instance_key"])  # fmt: skip
    rows = rows[place >= 0]
    kept, note = under_tissue(table, rows)
    place = place[place >= 0][np.isin(rows, kept)]
    return kept, shapes.iloc[place], note + (f"; {gone} have no shape in {region!r} and are left out" if gone else "")


def size_of(
    shapes: GeoDataFrame, region: str, *, spread: float = 0.05, skew: float = 0.05
) -> tuple[float, SpotShape, float]:
    """Return diameter or side of spots or bins, which, and the degrees by which squares are turned from x towards y.

    Outlines of cells, which differ, are refused.

    Sizes of spots and bins differ by no more than ``spread``, sides and diagonals of a square by no more than ``skew``,
    as shares.
    """
    import shapely

    discs, turn = "radius" in shapes, 0.0
    if discs:
        size = 2 * shapes["radius"].to_numpy(dtype=float)
        regular = True
    else:
        size = np.sqrt(shapely.area(shapes.geometry.to_numpy()))
        corners = shapely.get_num_coordinates(shapes.geometry.to_numpy())
        regular = bool((corners == 5).all())
        if regular:
            rings = shapely.get_coordinates(shapes.geometry.to_numpy()).reshape(-1, 5, 2)
            sides, diagonals = np.diff(rings, axis=1), rings[:, [2, 3]] - rings[:, [0, 1]]
            lengths = np.column_stack([np.hypot(*sides.T).T, np.hypot(*diagonals.T).T / np.sqrt(2)])
            regular = bool((np.abs(lengths / size[:, None] - 1) < skew).all())
            turn = turn_of(sides.reshape(-1, 2)[:, ::-1])
    median = float(np.median(size))
    alike = median > 0 and bool((np.abs(size / median - 1) < spread).mean() > 0.99)
    if alike and not regular:
        msg = (
            f"Found equal polygons in {region!r} that are no squares (bins), {int(corners[0]) - 1} corners each and "
            f"{median:.3g} across. If they are spots, make circles of them: `ShapesModel.parse(xy, geometry=0, radius=..., "
            f"index=sdata[{region!r}].index)` with xy of their centroids, and the same transformation."
        )
        raise ValueError(msg)
    if not alike:
        kind = "circles" if discs else "polygons"
        msg = (
            f"Found {kind} of different sizes or forms in {region!r} ({size.min():.3g} to {size.max():.3g} across): outlines of "
            "cells, or other regions. Expected equal circles (spots) or squares (bins). Fit the spots or bins of the "
            "same section (for Visium HD a table of bins, such as `square_008um`), then sum the rasters over these outlines "
            f"with `sphisto.tl.aggregate(store, sdata[{region!r}])`."
        )
        raise ValueError(msg)
    return median, "disc" if discs else "square", turn
