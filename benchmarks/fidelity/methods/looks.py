"""What the picture looks like at spots and regions, for the methods that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import picture
from numpy.typing import NDArray

from sphisto.features.texture import texture

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats


def stride_of(case: Case, per_side: float = 4.0) -> int:
    """Pixels to a block: blocks small beside spots and regions."""
    side = min(2 * case.radius / 2, case.regions.spot.um / case.slide.grid.um_per_px)
    return max(1, int(2 * side // per_side))


def textures(case: Case, stride: int) -> NDArray[np.float32]:
    """Colour, spread and grain around each block (:func:`sphisto.features.texture.texture`)."""
    return texture(picture(case), case.radius, stride)


def standardised(spots: Floats, regions: Floats) -> tuple[Floats, Floats]:
    """Both in standard deviations of the spots."""
    mean, spread = spots.mean(axis=0), spots.std(axis=0) + 1e-9
    return (spots - mean) / spread, (regions - mean) / spread


def stain(case: Case) -> NDArray[np.float32]:
    """(y, x) how much stain each pixel holds: mean optical density, or intensity where the picture is fluorescent."""
    grey: Any = picture(case).astype(np.float32)
    if case.fluorescent:
        return np.asarray(grey.mean(axis=0))
    return np.asarray(-np.log((grey + 1) / 256).mean(axis=0))
