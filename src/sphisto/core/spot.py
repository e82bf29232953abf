"""What a spot or bin covers, and how far apart spots lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sphisto._checks import require_positive
from sphisto.core.footprint import Footprint

SpotShape = Literal["disc", "square"]


@dataclass(frozen=True)
class Spot:
    """What one spot or bin covers: a disc of that diameter or an upright square of that side, in um."""

    um: float
    shape: SpotShape = "disc"

    def __post_init__(self) -> None:
        require_positive(self.um, "spot_um")
        if self.shape not in get_args(SpotShape):
            msg = f"Found spot_shape={self.shape!r}; expected {' or '.join(map(repr, get_args(SpotShape)))}."
            raise ValueError(msg)

    def area_px(self, um_per_px: float) -> float:
        """Area in px at a given scale: the area of the unit "counts per spot area"."""
        side = self.um / um_per_px
        return float(np.pi * (side / 2) ** 2 if self.shape == "disc" else side**2)

    def footprint(self, shape: tuple[int, int], centers: NDArray[np.float64], um_per_px: float) -> Footprint:
        """Footprints of spots around (n, 2) (y, x) centres in px."""
        size = self.um / um_per_px
        if self.shape == "disc":
            return Footprint.from_discs(shape, centers, size / 2)
        return Footprint.from_squares(shape, centers, size)


def median_pitch(centers: NDArray[np.float64]) -> float:
    """Return the usual distance of a spot to its nearest neighbour; infinite for a single spot."""
    if len(centers) < 2:
        return float("inf")
    return float(np.median(cKDTree(centers).query(centers, k=2)[0][:, 1]))
