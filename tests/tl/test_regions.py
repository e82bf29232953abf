from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.tiles import TILE, grouped, nested, on_tissue, plan_tiles
from sphisto.io.store.raster import REGION, WITHIN, completed


@pytest.mark.parametrize("shape", [(5000, 9000), (2049, 2047), (130, 4700), (12000, 8200)])
def test_regions_share_no_chunk_and_together_make_what_the_whole_makes(shape, rng):
    """Each chunk up to the level ``WITHIN`` is made by one region, when that is complete; the rest is left."""
    tissue = np.kron(rng.random((-(-shape[0] // 300), -(-shape[1] // 300))) < 0.6, np.ones((300, 300), dtype=bool))
    tiles = on_tissue(nested(plan_tiles(shape, size=TILE, multiple=8)), tissue[: shape[0], : shape[1]])
    levels = [tuple(side >> level for side in shape) for level in range(6)]
    whole = completed([tile.core for tile in tiles], levels)
    by_regions = [
        chunk
        for region in grouped(tiles, REGION)
        for done in completed([tile.core for tile in region], levels[: WITHIN + 1])
        for chunk in done
    ]
    assert len(set(by_regions)) == len(by_regions)
    assert set(by_regions) == {chunk for done in whole for chunk in done if chunk[0] <= WITHIN}
