"""Predictors without a network, with the network's face: a slide in, maps tile by tile out.

So they go through the same pooling and the same scores as the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphisto.field.gaussian import choose_width, gaussian_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from sphisto.core.tiles import Tile
    from sphisto.slide.slide import Slide


def nearest(slide: Slide, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
    """Give each pixel the values of the nearest spot.

    Parameters
    ----------
    slide
        With measured spots.
    tiles
        Where to predict, from :func:`sphisto.core.tiles.plan_tiles`.

    Yields
    ------
    Tile and (G, h, w) values at its core, in counts per spot area.
    """
    return _interpolated(slide, tiles, 0.0)


def gaussian(
    slide: Slide, tiles: Iterable[Tile], *, width: float | None = None
) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
    """Give each pixel the Gaussian-weighted average of the spots around it.

    Parameters
    ----------
    slide
        With measured spots.
    tiles
        Where to predict, from :func:`sphisto.core.tiles.plan_tiles`.
    width
        Standard deviation in px; by default the one that predicts left-out spots best.

    Yields
    ------
    Tile and (G, h, w) values at its core, in counts per spot area.
    """
    if width is None:
        spots = slide.spots
        width = choose_width(spots.centers, spots.values.toarray(), spots.pitch)
    return _interpolated(slide, tiles, width)


def _interpolated(slide: Slide, tiles: Iterable[Tile], width: float) -> Iterator[tuple[Tile, NDArray[np.float32]]]:
    values = slide.spots.values.toarray()
    for tile in tiles:
        y, x = (np.arange(a, b) + 0.5 for a, b in ((tile.core.y0, tile.core.y1), (tile.core.x0, tile.core.x1)))
        points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        maps = gaussian_weights(points, slide.spots.centers, width) @ values
        yield tile, np.ascontiguousarray(maps.T.reshape(-1, *tile.core.shape), dtype=np.float32)
