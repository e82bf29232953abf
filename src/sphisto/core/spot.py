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

_LARGEST_BIN_UM = 32.0  # larger squares are no bins of a fine grid: the image shows far more than they do


@dataclass(frozen=True)
class Spot:
    """What one spot or bin covers: a disc of that diameter or a square of that side, in um.

    Parameters
    ----------
    um
        Diameter or side in um.
    shape
        ``"disc"`` or ``"square"``.
    turn
        Degrees by which a square is turned, from the x axis towards the y axis: the grid of Visium HD lies slightly
        turned on its image.
    """

    um: float
    shape: SpotShape = "disc"
    turn: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self.um, "spot_um")
        if self.shape not in get_args(SpotShape):
            msg = f"Found spot_shape={self.shape!r}; expected {' or '.join(map(repr, get_args(SpotShape)))}."
            raise ValueError(msg)

    @property
    def is_bin(self) -> bool:
        """Whether it is a bin of a fine grid: such bins touch, and each of them measures, whatever it counts."""
        return self.shape == "square" and self.um <= _LARGEST_BIN_UM

    @property
    def reach_um(self) -> float:
        """Um up, down and aside of its centre that it reaches."""
        if self.shape == "disc":
            return self.um / 2
        angle = np.deg2rad(self.turn)
        return float(self.um / 2 * (abs(np.cos(angle)) + abs(np.sin(angle))))

    def area_px(self, um_per_px: float) -> float:
        """Area in px at a given scale: the area of the unit "counts per spot area"."""
        side = self.um / um_per_px
        return float(np.pi * (side / 2) ** 2 if self.shape == "disc" else side**2)

    def footprint(self, shape: tuple[int, int], centers: NDArray[np.float64], um_per_px: float) -> Footprint:
        """Footprints of spots around (n, 2) (y, x) centres in px."""
        size = self.um / um_per_px
        if self.shape == "disc":
            return Footprint.from_discs(shape, centers, size / 2)
        return Footprint.from_squares(shape, centers, size, turn=self.turn)


def median_pitch(centers: NDArray[np.float64]) -> float:
    """Return the usual distance of a spot to its nearest neighbour; infinite for a single spot."""
    if len(centers) < 2:
        return float("inf")
    return float(np.median(cKDTree(centers).query(centers, k=2)[0][:, 1]))
