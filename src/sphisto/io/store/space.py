"""Whether a disk holds the rasters: by bounds before anything is computed, and by what the first ones took."""

from __future__ import annotations

import math
from pathlib import Path

from sphisto import _keys
from sphisto._settings import logger
from sphisto.core.tiles import on_tissue, plan_tiles
from sphisto.io.disk import require_room
from sphisto.slide.slide import Slide

# Share of its raw bytes that a raster takes on disk, coarser levels included: a third more than its finest level, of
# which rounding and compression leave a fifth to a half.
_LEAST_KEPT, _MOST_KEPT = 0.25, 0.7
# What the rest takes, as a share of what it would if it were compressed like the first region: regions differ.
_LEAST_LIKE, _MOST_LIKE = 0.7, 1.3
_MEND = "Free some space, choose another `store`, fewer `genes` or a larger `um_per_px`"


def check_space(staging: Path, slide: Slide, n_channels: int) -> None:
    """Refuse to start when the disk surely cannot hold the rasters, and warn when it may not.

    Only tiles that hold tissue are written.
    """
    tiles = on_tissue(plan_tiles(slide.grid.shape), slide.tissue)
    pixels = sum(math.prod(tile.core.shape) for tile in tiles)
    raw = 4 * n_channels * pixels + slide.image.shape[0] * slide.grid.height * slide.grid.width
    require_room(staging.parent, _LEAST_KEPT * raw, _MOST_KEPT * raw, needs="The rasters need", mend=_MEND)


def check_rest(staging: Path, key: str, written: float) -> None:
    """Refuse to go on when the disk surely cannot hold the rest of a projection's rasters, and warn when it may not.

    ``written`` is the share of the tissue whose rasters are written, above 0 and at most 1.
    """
    folders = [staging / "images" / name for name in _keys.elements(key)]
    taken = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    rest = taken * (1 / written - 1)
    logger.debug("The rasters of %r will take some %.1f GB.", key, (taken + rest) / 1e9)
    mend = f"{_MEND}; after freeing some, `resume=True` goes on here"
    needs = "The rest of the rasters needs"
    require_room(staging.parent, _LEAST_LIKE * rest, _MOST_LIKE * rest, needs=needs, mend=mend)
