"""Where a raster lies: its size in pixels, its scale in um and its place in full-resolution pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import require_positive

Points = NDArray[np.float64]

SAME_SCALE = 0.02
"""Relative difference of scales, or of sides, that rounding sides to whole pixels leaves: of pyramids, hires and others."""
SAME_PLACE_PX = 1.0
"""Full-resolution px that two statements of one spot's place may differ by."""


@dataclass(frozen=True)
class Grid:
    """A pixel grid over a section.

    Pixel ``i`` covers the interval ``[i, i + 1)``, so that a change of resolution is a pure scale, without half-pixel
    shifts. Order is (y, x).

    Parameters
    ----------
    height, width
        Size in grid pixels.
    um_per_px
        Micrometres per grid pixel.
    fullres_per_px
        Full-resolution pixels per grid pixel along (y, x): 1 where the grid is the full-resolution image.
    """

    height: int
    width: int
    um_per_px: float
    fullres_per_px: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            msg = f"A grid of {self.height} x {self.width} px has no pixels."
            raise ValueError(msg)
        require_positive(self.um_per_px, "um_per_px")
        if not all(np.isfinite(f) and f > 0 for f in self.fullres_per_px):
            msg = f"The scale from grid to full resolution must be positive, found {self.fullres_per_px}."
            raise ValueError(msg)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in grid pixels."""
        return self.height, self.width

    @property
    def fullres_um_per_px(self) -> float:
        """Micrometres per full-resolution pixel."""
        return self.um_per_px / float(np.sqrt(self.fullres_per_px[0] * self.fullres_per_px[1]))

    def from_fullres(self, points: Points) -> Points:
        """Move (n, 2) full-resolution (y, x) points onto the grid."""
        return np.asarray(points, dtype=np.float64) / np.asarray(self.fullres_per_px)

    def to_fullres(self, points: Points) -> Points:
        """Move (n, 2) grid (y, x) points to full-resolution pixels."""
        return np.asarray(points, dtype=np.float64) * np.asarray(self.fullres_per_px)

    def resized(self, height: int, width: int) -> Grid:
        """Return the grid of the same area with another number of pixels."""
        factor = (self.height / height, self.width / width)
        return Grid(
            height,
            width,
            self.um_per_px * float(np.sqrt(factor[0] * factor[1])),
            (self.fullres_per_px[0] * factor[0], self.fullres_per_px[1] * factor[1]),
        )
