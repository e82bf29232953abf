"""A case: what a method may see (training spots and picture), where it must predict, and what is true there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.spot import Spot, median_pitch
from sphisto.slide.slide import Slide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from sphisto.io.sections import Section

Floats = NDArray[np.float64]
LEAST_SEEN = 0.03  # share of the training spots in which a gene is seen, if it is to be scored


@dataclass(frozen=True, eq=False)
class Regions:
    """Where to predict: discs or squares on the grid of the case's slide.

    Parameters
    ----------
    spot
        Size and shape of each region.
    centers
        (m, 2) centres (y, x) in grid px.
    size
        (m,) area in tissue, in spot areas: a density in counts per spot area times this are counts.
    cells
        (m,) place of each region in a flat raster of ``shape``; ``None`` for spots.
    shape
        (rows, columns) of that raster.
    """

    spot: Spot
    centers: Floats
    size: Floats
    cells: NDArray[np.int64] | None = None
    shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.centers)

    def points(self, um_per_px: float, spot_um: float) -> Floats:
        """(m, k, 2) places whose average stands for the region: its centre alone where it is far smaller than a spot."""
        side = self.spot.um / um_per_px
        if self.spot.um < spot_um / 2:
            return self.centers[:, None]
        steps = (np.arange(5) - 2) / 5 * side
        offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        if self.spot.shape == "disc":
            offsets = offsets[np.hypot(*offsets.T) < side / 2]
        return self.centers[:, None] + offsets


@dataclass(frozen=True, eq=False)
class Case:
    """One data set, one split, one seed.

    Parameters
    ----------
    name, split, seed
        What it is called; ``split`` is ``"random"``, ``"blocks"`` (held-out spots) or ``"finer"`` than spots.
    adata
        The training spots only, with the picture.
    slide
        The same as arrays.
    regions
        Where to predict.
    truth
        (m, S) true counts in the regions.
    scored
        (S,) columns of ``adata`` that are scored.
    ceiling
        (S,) correlation that counting noise allows; ones where the truth has no noise.
    fluorescent
        Whether the picture is bright where there is stain.
    same_units
        Whether the truth counts what the spots count; otherwise each gene's sum is adjusted before deviances.
    options
        What ``sp.io.section`` must be told of this section, and ``um_per_px`` where it is worked at another resolution.
    """

    name: str
    split: str
    seed: int
    adata: AnnData
    slide: Slide
    regions: Regions
    truth: Floats
    scored: NDArray[np.int64]
    ceiling: Floats
    fluorescent: bool = False
    same_units: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def section(self, adata: AnnData) -> Section:
        """Return a table of this case's spots as the section that its slide was made of."""
        import sphisto as sp

        return sp.io.section(adata, **{name: value for name, value in self.options.items() if name != "um_per_px"})

    @property
    def resolution(self) -> dict[str, Any]:
        """What ``sp.tl.fit_projection`` must be told beside the section."""
        return {name: value for name, value in self.options.items() if name == "um_per_px"}

    @property
    def finer(self) -> bool:
        """Whether the truth is finer than spots."""
        return self.split == "finer"

    @property
    def centers(self) -> Floats:
        """(n, 2) centres of the training spots in grid px."""
        return self.slide.spots.centers

    @property
    def pitch(self) -> float:
        """Distance of neighbouring spots in grid px."""
        return self.slide.spots.pitch

    @property
    def radius(self) -> float:
        """Radius of a spot in grid px."""
        return self.slide.spot.um / self.slide.grid.um_per_px / 2

    @property
    def counts(self) -> Floats:
        """(n, G) counts of the training spots, all genes."""
        return np.asarray(self.slide.spots.values.toarray(), dtype=np.float64)

    def variable(self) -> NDArray[np.int64]:
        """Scored genes (as columns of the truth) by variance over mean in the training spots, the most variable first."""
        counts = self.counts[:, self.scored]
        return np.argsort(-counts.var(axis=0) / np.maximum(counts.mean(axis=0), 1e-9), kind="stable")

    def points(self) -> Floats:
        """(m, k, 2) places in grid px whose average stands for each region."""
        return self.regions.points(self.slide.grid.um_per_px, self.slide.spot.um)

    def pooled(self, raster: NDArray[Any], stride: int = 1) -> tuple[Floats, Floats]:
        """Average a (c, y, x) raster of blocks of ``stride`` px over the training spots and over the regions."""
        shape, um = raster.shape[1:], self.slide.grid.um_per_px * stride
        spots = self.slide.spot.footprint(shape, self.centers / stride, um)
        regions = self.regions.spot.footprint(shape, self.regions.centers / stride, um)
        return np.nan_to_num(spots.mean(raster)), np.nan_to_num(regions.mean(raster))

    def in_counts(self, density: Floats) -> Floats:
        """Turn (m, S) counts per spot area into counts of the regions."""
        return np.maximum(density, 0) * self.regions.size[:, None]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says.

    Parameters
    ----------
    counts
        (m, S) expected counts in the regions; NaN in the columns of genes that the method does not model.
    logs
        (m, S) log-normalised values, of methods that predict these themselves.
    note
        What was chosen, for instance the width of a Gaussian.
    inside
        (m, S) bool: whether the true counts lie in the 90 % predictive interval, of methods that give one.
    skill
        (S,) correlation that the method itself expects.
    """

    counts: Floats
    logs: Floats | None = None
    note: str = ""
    inside: NDArray[np.bool_] | None = None
    skill: Floats | None = None


def picture(case: Case) -> NDArray[np.uint8]:
    """(3, y, x) picture of a case."""
    return np.asarray(case.slide.image)


def training(slide: Slide, kept: NDArray[Any], genes: NDArray[Any]) -> Slide:
    """Keep only some spots and genes of a slide; the tissue mask is the picture's and stays."""
    spots = slide.spots
    centers = spots.centers[kept]
    measured = replace(
        spots,
        centers=centers,
        values=sparse.csr_array(spots.values[kept][:, genes]),
        genes=tuple(np.asarray(spots.genes)[genes]),
        pitch=median_pitch(centers),
    )
    return replace(slide, measured=measured)


def bins(slide: Slide, side: float, inside: NDArray[np.bool_] | None = None) -> Regions:
    """Squares of ``side`` grid px that tile the picture; kept where they are mostly tissue (and ``inside``, by cell)."""
    shape, centers = bin_centers(slide, side)
    spot = Spot(side * slide.grid.um_per_px, "square")
    tissue = spot.footprint(slide.grid.shape, centers, slide.grid.um_per_px).mean(np.asarray(slide.tissue))[:, 0]
    kept = tissue >= 0.5
    if inside is not None:
        kept &= inside
    cells = np.flatnonzero(kept)
    return Regions(spot, centers[cells], tissue[cells] * side**2 / slide.spot_area, cells, shape)


def bin_centers(slide: Slide, side: float) -> tuple[tuple[int, int], Floats]:
    """(rows, columns) of the whole squares of ``side`` grid px in the picture, and their (n, 2) centres."""
    rows, columns = (int(length // side) for length in slide.grid.shape)
    places = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
    return (rows, columns), np.stack(places, axis=-1).reshape(-1, 2).astype(np.float64) * side
