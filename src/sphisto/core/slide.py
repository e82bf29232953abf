"""The one thing that crosses the border from AnnData and SpatialData to arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto._checks import require_positive
from sphisto.core.footprint import Footprint
from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.mask import Mask

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
        """Area in px at a given scale: the area which the unit "counts per spot area" speaks of."""
        side = self.um / um_per_px
        return float(np.pi * (side / 2) ** 2 if self.shape == "disc" else side**2)

    def footprint(self, shape: tuple[int, int], centers: NDArray[np.float64], um_per_px: float) -> Footprint:
        """Footprints of spots around (n, 2) (y, x) centres in px."""
        size = self.um / um_per_px
        if self.shape == "disc":
            return Footprint.from_discs(shape, centers, size / 2)
        return Footprint.from_squares(shape, centers, size)


@dataclass(frozen=True, eq=False)
class Measured:
    """What the spots of a slide measured.

    Parameters
    ----------
    centers
        (n, 2) spot centres (y, x) in grid px.
    values
        (n, G) sparse float32: raw counts, or other non-negative values where ``is_counts`` is false.
    genes
        Names of the G genes.
    is_counts
        Whether the values are counts, so that a count likelihood holds.
    pitch
        Usual distance of neighbouring spots in grid px.
    """

    centers: NDArray[np.float64]
    values: sparse.csr_array
    genes: tuple[str, ...]
    is_counts: bool
    pitch: float


@dataclass(frozen=True, eq=False)
class Slide:
    """A section as arrays.

    Parameters
    ----------
    name
        Library id.
    image
        (3, y, x) uint8, numpy or lazy.
    grid
        Where the image lies.
    tissue
        (y, x) bool: where there is tissue. Read by window, as the image is.
    spot
        Size and shape of a spot: also the unit of area of every gene raster.
    measured
        What the spots measured; ``None`` for a slide with an image only.
    """

    name: str
    image: Any
    grid: Grid
    tissue: Mask | NDArray[np.bool_]
    spot: Spot
    measured: Measured | None = None

    @property
    def spots(self) -> Measured:
        """What the spots measured; refuses a slide without any."""
        if self.measured is None:
            msg = f"Slide {self.name!r} has an image but no spots; give an AnnData or SpatialData with counts."
            raise ValueError(msg)
        return self.measured

    @property
    def spot_area(self) -> float:
        """Area of a spot in grid px."""
        return self.spot.area_px(self.grid.um_per_px)

    @property
    def on_image(self) -> NDArray[np.bool_]:
        """(n,) whether the centre of each spot lies on the image."""
        centers = self.spots.centers
        return np.asarray(((centers >= 0) & (centers < self.grid.shape)).all(axis=1))

    def footprint(self) -> LazyFootprint:
        """Footprints of the measured spots on the grid; none on a slide without spots."""
        centers = np.zeros((0, 2)) if self.measured is None else self.measured.centers
        return LazyFootprint(self.spot, self.grid, centers)
