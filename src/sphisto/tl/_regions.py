"""Write the rasters of regions of a slide, each of which is finished by itself, here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sphisto._memory import give_back
from sphisto.core.pooling import TilePool
from sphisto.core.tiles import Tile, Window
from sphisto.io.store import write as building
from sphisto.io.store.background import in_background
from sphisto.io.store.raster import WITHIN, Coarser, completed
from sphisto.predict.tiles import a_core_left, predict_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    import torch

    from sphisto.field.posterior import Posterior
    from sphisto.networks.precision import Precision
    from sphisto.predict.fitted import Fitted
    from sphisto.predict.tiles import Maps
    from sphisto.slide.slide import Slide

Region: TypeAlias = tuple[Tile, ...]
"""Tiles that share no chunk, at the finest levels, with those of other regions; in the order of writing."""
Sums: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""(m,) spots that a region touches and the (m, K) sums of its factor maps over them."""


@dataclass(frozen=True, eq=False)
class Writing:
    """What is written, and where."""

    # fitted, slide, posterior: what the rasters are made of
    fitted: Fitted
    slide: Slide
    posterior: Posterior
    staging: Path  # store that is being built; it holds the projection's empty rasters
    key: str  # name of the projection
    precision: Precision  # of the network's convolutions: the same for all regions, whoever computes them

    def pool(self) -> TilePool:
        """Sums of factor maps over the spots, still empty."""
        return TilePool(self.slide.footprint(), self.fitted.model.n_factors)


def write_regions(
    writing: Writing, regions: Mapping[int, Region], device: torch.device, *, done: Callable[[int, Sums], None]
) -> Generator[None]:
    """Predict and write numbered regions, with what lies wholly in them of coarser levels; yield after each tile.

    What is written does not depend on which regions are written together. While a tile is compressed and written the
    next one is computed.

    ``done`` is called by the writing thread as soon as all of a region is written.
    """
    rasters = building.open_rasters(writing.staging, writing.key)

    def write(
        pool: TilePool, coarser: list[Coarser], window: Window, parts: list[NDArray[np.float32]],
        complete: list[tuple[int, Window]], ended: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        pool.add(window, parts[0], rasters[0].stored)  # as read again after a kill: the sums are the same
        for raster, coarse in zip(rasters, coarser, strict=True):
            raster.write(window, parts.pop(0), coarse.take)  # and kept no longer
            coarse.written(window, complete)
        if ended is not None:
            ended()
            give_back()  # not after each tile: to get it anew takes longer than to write it

    tiles = [tile for region in regions.values() for tile in region]
    found = predict_tiles(
        writing.fitted, writing.slide, writing.posterior, device=device, tiles=tiles, precision=writing.precision
    )
    with in_background() as hand_over, a_core_left(device):
        for number, region in regions.items():
            pool, coarser = writing.pool(), [Coarser(raster) for raster in rasters]
            chunks = completed([tile.core for tile in region], rasters[0].shapes[: WITHIN + 1])
            for tile, complete in zip(region, chunks, strict=True):
                _, maps = next(found)
                ended = partial(_tell, done, number, pool) if tile is region[-1] else None
                hand_over(partial(write, pool, coarser, tile.core, _parts(writing, tile, maps), complete, ended))
                del maps  # not to be kept while the next tile is computed
                yield


def sums_of(writing: Writing, region: Region) -> Sums:
    """Sum the factor maps of a region that is already written over its spots."""
    maps, *_ = building.open_rasters(writing.staging, writing.key)
    pool = writing.pool()
    for tile in region:
        pool.add(tile.core, maps.read(tile.core))
    return _touched(pool)


def _tell(done: Callable[[int, Sums], None], number: int, pool: TilePool) -> None:
    done(number, _touched(pool))


def _touched(pool: TilePool) -> Sums:
    spots = np.flatnonzero(pool.sums.any(axis=1))
    return spots, pool.sums[spots]


def _parts(writing: Writing, tile: Tile, maps: Maps) -> list[NDArray[np.float32]]:
    """Factor maps, genes, their standard deviations and redrawn image of a tile."""
    fitted, genes = writing.fitted, list(writing.fitted.genes)
    model = fitted.model.of(genes)
    expression = model.expression(maps.factors)
    sd = writing.posterior.sd(tile.core, model, expression, fitted.dispersion(genes))
    return [maps.factors, expression, sd, maps.image]
