"""What fitting and predicting share: rasters of a slide streamed into a store, and the table that describes them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import dask.config
import numpy as np

from sphisto import __version__, _keys
from sphisto._cores import one_blas_thread
from sphisto._memory import give_back
from sphisto._progress import stage
from sphisto._settings import settings
from sphisto.core.rounding import round_mantissa
from sphisto.core.tiles import grouped, nested, on_tissue
from sphisto.io.store import write as building
from sphisto.io.store.raster import REGION, WITHIN, completed
from sphisto.io.store.space import check_rest
from sphisto.networks.precision import Precision
from sphisto.predict.tiles import device_of, precision_of, tiles_of
from sphisto.tl._cluster import precision_on, write_on
from sphisto.tl._regions import Writing, sums_of, write_regions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributed import Client
    from numpy.typing import NDArray

    from sphisto.core.tiles import Tile
    from sphisto.field.posterior import Posterior
    from sphisto.io.store.raster import RasterWriter
    from sphisto.io.store.transaction import Work
    from sphisto.io.understood import Section
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide
    from sphisto.tl._regions import Sums


_CREATED = "rasters"  # in the journal
_LESS = "fewer `genes`, a larger `um_per_px`, a GPU (`device`) or several processes (`client`) take less"


def stream(
    fitted: Fitted,
    slide: Slide,
    posterior: Posterior,
    work: Work,
    key: str,
    device: str | None,
    client: Client | None = None,
) -> NDArray[np.float32]:
    """Write the rasters of a slide under its posterior, region by region; return the (n, K) fitted values of its spots.

    Regions that the journal names are not computed again. Others are computed here one after another, or by the workers
    of a cluster; sums are added in the order of the regions, so that it makes no difference who was first.
    """
    device = settings.device if device is None else device  # decided here: workers have settings of their own
    every = nested(tiles_of(fitted, slide))
    tiles = on_tissue(every, slide.tissue)
    if _CREATED not in work.journal:
        filled = set(tiles)
        unit = _keys.unit(slide.spot.shape, is_counts=fitted.is_counts)
        background = _background(slide, [tile for tile in every if tile not in filled])
        building.create_rasters(work.staging, slide, fitted.model, fitted.genes, key, unit=unit, background=background)
        work.journal.note(_CREATED)
    writing = Writing(fitted, slide, posterior, work.staging, key, _precision(fitted, work, device, client))
    regions = dict(enumerate(grouped(tiles, REGION)))
    sums = {number: sums_of(writing, regions[number]) for number in sorted(work.journal.regions)}
    left = {number: region for number, region in regions.items() if number not in sums}

    def done(number: int, found: Sums) -> None:
        sums[number] = found
        work.journal.note_region(number)

    def written() -> list[Tile]:
        return [tile for number in list(sums) for tile in regions[number]]

    looked = False
    give_back()  # what reading the slide took: it grows with the slide, and the network comes on top
    n_left = sum(map(len, left.values()))
    with (
        one_blas_thread(),
        dask.config.set(scheduler="synchronous"),  # threads that read windows would keep memory of their own
        stage("write rasters", len(tiles), initial=len(tiles) - n_left, unit="tile", less=_LESS) as shown,
    ):
        if client is None:
            # closed at once after Ctrl-C, lest a tile is written once the caller clears up
            with closing(write_regions(writing, left, device_of(device), done=done)) as tiles_written:
                for _ in tiles_written:
                    shown.update()
                    looked = looked or _check_disk(work, key, slide, written(), tiles)
        else:
            with closing(write_on(client, writing, left, device, work.folder)) as regions_written:
                for number, found in regions_written:
                    done(number, found)
                    shown.update(len(left[number]))
                    looked = looked or _check_disk(work, key, slide, written(), tiles)
    with stage("coarser levels"):
        _coarsen(building.open_rasters(work.staging, key), tiles)
    pool = writing.pool()
    for number in sorted(sums):
        spots, values = sums[number]
        pool.sums[spots] += values
    return pool.means().astype(np.float32)


def _check_disk(work: Work, key: str, slide: Slide, written: list[Tile], tiles: list[Tile]) -> bool:
    """Hold the disk against what the rasters of the first tiles took, once these are enough; whether they were."""
    enough = 16  # tiles that show how well the others compress
    if len(written) < enough:
        return False
    tissue = [sum(int(slide.tissue[tile.core.slices].sum()) for tile in some) for some in (written, tiles)]
    check_rest(work.staging, key, tissue[0] / tissue[1])
    return True


def _precision(fitted: Fitted, work: Work, device: str, client: Client | None) -> Precision:
    """Return the precision that is decided once for a store: a measurement on another day may differ."""
    for known in get_args(Precision):
        if known in work.journal:
            return known
    found = precision_of(fitted.params, device_of(device)) if client is None else precision_on(client, fitted, device)
    work.journal.note(found)
    return found


def _coarsen(rasters: Sequence[RasterWriter], tiles: list[Tile]) -> None:
    """Make the levels whose chunks reach beyond a region: a fiftieth of all."""
    for chunks in completed([tile.core for tile in tiles], rasters[0].shapes):
        for level, window in chunks:
            if level > WITHIN:
                for raster in rasters:
                    raster.coarsen(level, window)


def _background(slide: Slide, empty: list[Tile]) -> float:
    """Shade (0 to 1) of the image where it shows no tissue: what the redrawn one shows in tiles that are left out."""
    if not empty:
        return 1.0
    return float(round_mantissa(np.median(np.asarray(slide.image[:, *empty[0].core.slices])) / 255))


def annotate(section: Section, fitted: Fitted, spots: NDArray[np.float32], key: str, record: dict[str, Any]) -> None:
    """Write loadings, fitted values and the record of a projection into the section's table."""
    import pandas as pd

    section.require_spots()
    adata: Any = section.adata
    place = pd.Index(fitted.model.genes).get_indexer(adata.var_names)
    known = place >= 0
    loadings = np.full((adata.n_vars, fitted.model.n_factors), np.nan, dtype=np.float32)
    loadings[known] = fitted.model.loadings[place[known]]
    adata.varm[_keys.loadings(key)] = loadings
    found = (fitted.skill.pearson, fitted.skill.deviance_explained, fitted.skill.dispersion)
    for name, values in zip(_keys.skills(key), found, strict=True):
        column = np.full(adata.n_vars, np.nan, dtype=np.float32)
        column[known] = values[place[known]]
        adata.var[name] = column
    adata.obsm[_keys.fitted(key)] = section.spread(spots)
    adata.uns[key] = record


def record_of(
    fitted: Fitted, slide: Slide, section: Section, store: Path, model: Path | None, seconds: dict[str, float]
) -> dict[str, Any]:
    """Make the entry of ``uns``: parameters, places, unit, history; only values that any AnnData file can hold."""
    params = {
        **fitted.params,
        "library_id": slide.name,
        "um_per_px": slide.grid.um_per_px,
        "fullres_um_per_px": slide.grid.fullres_um_per_px,
        "spot_um": slide.spot.um,
        "spot_shape": slide.spot.shape,
        "spot_turn": slide.spot.turn,
        "is_counts": fitted.is_counts,
        "genes": list(fitted.genes),
        "section": dict(section.about),
        "version": __version__,
    }
    return {
        "params": params,
        "store": str(store),
        "model": str(model) if model else "",
        "unit": _keys.unit(slide.spot.shape, is_counts=fitted.is_counts),
        "history": dict(fitted.history),
        "seconds": seconds,
    }
