"""What methods predict at spots that they were not given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.tiles import Tile
from sphisto.field.posterior import Posterior
from sphisto.slide.slide import Slide


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method predicts at m spots."""

    values: NDArray[np.float32]  # (m, G) expected values
    seconds: float  # that it took

    def of(self, genes: NDArray[np.bool_]) -> Prediction:
        """Keep the values of some genes."""
        return replace(self, values=self.values[:, genes])


def pool_posterior(
    posterior: Posterior, slide: Slide, spots: Footprint | LazyFootprint, tiles: Iterable[Tile]
) -> NDArray[np.float64]:
    """(m, K) means of densities over spots, without a network."""
    sums = np.zeros((len(spots), len(posterior.mean)))
    for tile in tiles:
        part = spots.within(tile.core)
        inside = slide.tissue[tile.core.slices][part.y, part.x]
        sums += part.pool_points(posterior.at_pixels(tile.core, part.y, part.x) * inside)
    covered = spots.covered[:, None]
    return np.divide(sums, covered, where=covered > 0, out=np.zeros_like(sums))
