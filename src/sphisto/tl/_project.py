"""What fitting and predicting share: rasters of a slide streamed into a store, and the table that describes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from sphisto import __version__, _keys
from sphisto._memory import give_back, kept_memory
from sphisto.core.footprint import TilePool
from sphisto.core.tiles import nested, on_tissue
from sphisto.io import building
from sphisto.io.background import in_background
from sphisto.io.raster import completed, round_mantissa
from sphisto.model.inference import predict_tiles, tiles_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.slide import Slide
    from sphisto.core.tiles import Tile
    from sphisto.io.transaction import Work
    from sphisto.model.fitted import Fitted
    from sphisto.model.inference import Maps
    from sphisto.model.neighbours import Prior


_CREATED = "rasters"  # in the journal
_BEHIND = 1  # tiles that are not yet written while the next one is computed


@kept_memory()
def stream(
    fitted: Fitted, slide: Slide, prior: Prior, work: Work, key: str, device: torch.device
) -> NDArray[np.float32]:
    """Write the rasters of a slide under its prior, tile by tile; return the (n, K) fitted factor values of its spots.

    Tiles that the journal names are not computed again. While a tile is compressed and written the next one is computed.
    """
    every = nested(tiles_of(fitted, slide))
    tiles = on_tissue(every, slide.tissue)
    if _CREATED not in work.journal:
        background = _background(slide, [tile for tile in every if tile not in set(tiles)])
        building.create_rasters(work.staging, slide, fitted.factors, fitted.genes, key, background=background)
        work.journal.note(_CREATED)
    rasters = building.open_rasters(work.staging, key)
    pool = TilePool(slide.footprint(), fitted.factors.n_factors)
    known = work.journal.tiles
    for i in sorted(known):
        pool.add(tiles[i].core, rasters[0].read(tiles[i].core))
    chunks = completed([tile.core for tile in tiles], rasters[0].shapes)

    def write(i: int, parts: list[NDArray[np.float32]]) -> None:
        window = tiles[i].core
        pool.add(window, rasters[0].write(window, parts.pop(0)))  # as read again after a kill: the sums are the same
        for raster in rasters[1:]:
            raster.write(window, parts.pop(0))  # and kept no longer
        for level, coarse in chunks[i]:
            for raster in rasters:
                raster.coarsen(level, coarse)
        work.journal.note_tile(i)
        give_back()

    numbers = [i for i in range(len(tiles)) if i not in known]
    found = predict_tiles(fitted, slide, prior, device=device, tiles=[tiles[i] for i in numbers])
    with in_background(_BEHIND) as hand_over, tqdm(
        total=len(tiles), initial=len(known), desc="write", unit="tile"
    ) as bar:  # fmt: skip
        for i, (tile, maps) in zip(numbers, found, strict=True):
            hand_over(partial(write, i, _parts(fitted, prior, tile, maps)))
            del maps  # not to be kept while the next tile is computed
            bar.update()
    return pool.means().astype(np.float32)


def _parts(fitted: Fitted, prior: Prior, tile: Tile, maps: Maps) -> list[NDArray[np.float32]]:
    """Factor maps, genes, their standard deviations and redrawn picture of a tile."""
    genes = list(fitted.genes)
    expression = fitted.factors.expression(maps.factors, genes)
    variance = prior.sd(tile.core, fitted.factors.of(genes), expression)
    np.square(variance, out=variance)
    variance += fitted.dispersion(genes)[:, None, None].astype(np.float32) * np.square(expression)
    return [maps.factors, expression, np.sqrt(variance, out=variance), maps.picture]


def _background(slide: Slide, empty: list[Tile]) -> float:
    """Shade (0 to 1) of the picture where it shows no tissue: what the redrawn one shows in tiles that are left out."""
    if not empty:
        return 1.0
    return float(round_mantissa(np.median(np.asarray(slide.image[:, *empty[0].core.slices])) / 255))


def annotate(adata: AnnData, fitted: Fitted, spots: NDArray[np.float32], key: str, record: dict[str, Any]) -> None:
    """Write loadings, fitted values and the record of a projection into an AnnData."""
    position = {gene: i for i, gene in enumerate(fitted.factors.genes)}
    loadings = np.full((adata.n_vars, fitted.factors.n_factors), np.nan, dtype=np.float32)
    known = [i for i, gene in enumerate(adata.var_names) if gene in position]
    loadings[known] = fitted.factors.loadings[[position[adata.var_names[i]] for i in known]]
    adata.varm[_keys.loadings(key)] = loadings
    for name, values in (
        (_keys.skill(key), fitted.skill.pearson),
        (_keys.deviance_explained(key), fitted.skill.deviance_explained),
        (_keys.dispersion(key), fitted.skill.dispersion),
    ):
        column = np.full(adata.n_vars, np.nan, dtype=np.float32)
        column[known] = values[[position[adata.var_names[i]] for i in known]]
        adata.var[name] = column
    adata.obsm[_keys.fitted(key)] = spots
    adata.uns[key] = record


def record_of(
    fitted: Fitted, slide: Slide, store: Path, model: Path | None, seconds: dict[str, float]
) -> dict[str, Any]:
    """Make the entry of ``uns``: parameters, places, unit, history; only values that any AnnData file can hold."""
    params = {
        **fitted.params,
        "library_id": slide.name,
        "um_per_px": slide.grid.um_per_px,
        "fullres_um_per_px": slide.grid.fullres_um_per_px,
        "spot_um": slide.spot.um,
        "spot_shape": slide.spot.shape,
        "is_counts": fitted.is_counts,
        "genes": list(fitted.genes),
        "version": __version__,
    }
    return {
        "params": params,
        "store": str(store),
        "model": str(model) if model else "",
        "unit": _keys.UNIT if fitted.is_counts else "value per spot",
        "history": dict(fitted.history),
        "seconds": seconds,
    }
