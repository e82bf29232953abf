"""The one thing that crosses the border from AnnData and SpatialData to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.mask import Mask
from sphisto.core.places import Places
from sphisto.core.spot import Spot
from sphisto.slide.frames import Frame


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
    others
        (m, G) values of a sample of the section's rows that are not worked at, because they lie outside a window: genes
        are put together by them, too. ``None`` if there are none.
    """

    centers: NDArray[np.float64]
    values: sparse.csr_array
    genes: tuple[str, ...]
    is_counts: bool
    pitch: float
    others: sparse.csr_array | None = None

    @cached_property
    def places(self) -> Places:
        """Centres, found by where they are."""
        return Places(self.centers)

    def of(self, genes: Sequence[str]) -> Measured:
        """Return what these spots measured of some genes."""
        position = {gene: i for i, gene in enumerate(self.genes)}
        columns = np.array([position[gene] for gene in genes], dtype=np.intp)
        values, others = (
            None if table is None else sparse.csr_array(table[:, columns]) for table in (self.values, self.others)
        )
        return replace(self, values=values, genes=tuple(genes), others=others)


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
    frame
        Where it lies among other sections, if that is to be used.
    """

    name: str
    image: Any
    grid: Grid
    tissue: Mask | NDArray[np.bool_]
    spot: Spot
    measured: Measured | None = None
    frame: Frame | None = None

    @property
    def spots(self) -> Measured:
        """What the spots measured; refuses a slide without any."""
        if self.measured is None:
            msg = f"Slide {self.name!r} has an image but no spots; give an AnnData or SpatialData with counts."
            raise ValueError(msg)
        return self.measured

    @property
    def pitch(self) -> float:
        """Usual distance of neighbouring spots in grid px; without any, that which arrays of such spots have."""
        pitch_of_spots = 100 / 55  # of their diameter: 100 um of 55 um (Visium), about 200 um of 100 um before
        if self.measured is not None:
            return self.measured.pitch
        usual = 1.0 if self.spot.shape == "square" else pitch_of_spots
        return usual * self.spot.um / self.grid.um_per_px

    @property
    def spot_area(self) -> float:
        """Area of a spot in grid px."""
        return self.spot.area_px(self.grid.um_per_px)

    @property
    def on_image(self) -> NDArray[np.bool_]:
        """(n,) whether the centre of each spot lies on the image."""
        centers = self.spots.centers
        return np.asarray(((centers >= 0) & (centers < self.grid.shape)).all(axis=1))

    @property
    def on_tissue(self) -> NDArray[np.bool_]:
        """(n,) whether the centre of each spot lies on tissue."""
        found = self.on_image
        y, x = self.spots.centers[found].astype(np.int64).T
        found[found] = self.tissue[y, x]
        return found

    def footprint(self) -> LazyFootprint:
        """Footprints of the measured spots on the grid; none on a slide without spots."""
        centers = np.zeros((0, 2)) if self.measured is None else self.measured.centers
        return LazyFootprint(self.spot, self.grid, centers)
