"""What a region of tissue (spot, bin, cell) covers of a raster, and the one operator that sums pixels over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sphisto.core.pieces import in_pieces
from sphisto.core.rasterize import cover, ring_edges
from sphisto.core.tiles import Window


@dataclass(frozen=True, eq=False)
class Footprint:
    """Sparse non-negative weights, regions x pixels, with area-true edges."""

    shape: tuple[int, int]  # (height, width) of the raster in pixels
    indptr: NDArray[np.int64]  # (n + 1,) start of each region among the entries
    # y, x: (nnz,) pixel of each entry; all lie within shape
    y: NDArray[np.int32]
    x: NDArray[np.int32]
    weight: NDArray[np.float32]  # (nnz,) share of that pixel which the region covers, 0 to 1
    area: NDArray[np.float64]  # (n,) area of each whole region in px, including what lies outside the raster

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @classmethod
    def from_discs(
        cls, shape: tuple[int, int], centers: ArrayLike, radius: ArrayLike, *, n_corners: int = 96
    ) -> Footprint:
        """Discs around (n, 2) (y, x) centres; ``radius`` in px, one or (n,).

        They are polygons of the disc's area: one of 96 corners departs from the circle by less than 0.06 % of the radius.
        """
        angle = 2 * np.pi * np.arange(n_corners) / n_corners
        equal_area = np.sqrt(2 * np.pi / (n_corners * np.sin(2 * np.pi / n_corners)))
        corners = equal_area * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        return cls._from_shifted(shape, centers, radius, corners)

    @classmethod
    def from_squares(
        cls, shape: tuple[int, int], centers: ArrayLike, side: ArrayLike, *, turn: float = 0.0
    ) -> Footprint:
        """Squares around (n, 2) (y, x) centres; ``side`` in px, one or (n,), turned from x towards y by degrees."""
        return cls._from_shifted(shape, centers, side, unit_square(turn))

    @classmethod
    def from_polygons(cls, shape: tuple[int, int], polygons: Sequence[Sequence[ArrayLike]]) -> Footprint:
        """Polygons, each a sequence of (m, 2) rings of (y, x) corners; holes run the other way round."""
        rings = [(i, np.asarray(ring, dtype=np.float64)) for i, parts in enumerate(polygons) for ring in parts]
        edges = [ring_edges(ring[None]) for _, ring in rings]
        region = np.repeat([i for i, _ in rings], [len(e) for e in edges]).astype(np.int64)
        return cls._from_edges(shape, np.concatenate([np.zeros((0, 4)), *edges]), region, len(polygons))

    @classmethod
    def from_labels(cls, labels: NDArray[Any], ids: ArrayLike) -> Footprint:
        """Pixels of a (y, x) label raster, one region for each of the (n,) ``ids``; whole pixels."""
        ids = np.asarray(ids)
        order = np.argsort(ids)
        y, x = np.nonzero(np.isin(labels, ids))
        region = order[np.searchsorted(ids, labels[y, x], sorter=order)]
        by_region = np.argsort(region, kind="stable")
        ones = np.ones(len(region))
        return cls._from_entries(labels.shape, region[by_region], y[by_region], x[by_region], ones, len(ids))

    def pool(self, raster: NDArray[Any]) -> NDArray[np.float64]:
        """Sum a raster over each region, each pixel by its covered share.

        The raster is (c, y, x) or (y, x). NaN (outside tissue) counts as zero: there is nothing there.

        Returns
        -------
        (n, c) sums in raster units times px.
        """
        planes = raster[None] if raster.ndim == 2 else raster
        return self.pool_points(planes[:, self.y, self.x])

    def pool_points(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum (c, len(y)) values of the regions' pixels, in the order of ``y`` and ``x``; as :meth:`pool` otherwise."""
        return self._sum(np.nan_to_num(values, nan=0.0).T.astype(np.float64))

    @property
    def covered(self) -> NDArray[np.float64]:
        """(n,) area in px that lies within the raster."""
        return self._sum(np.ones((len(self.weight), 1)))[:, 0]

    def mean(self, raster: NDArray[Any]) -> NDArray[np.float64]:
        """Average a raster over the part of each region within the raster: (n, c); NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.pool(raster) / self.covered[:, None]

    def centroids(self) -> NDArray[np.float64]:
        """(n, 2) centres (y, x) in px of the part of each region within the raster; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._sum(np.stack([self.y + 0.5, self.x + 0.5], axis=1)) / self.covered[:, None]

    def select(self, regions: NDArray[Any]) -> Footprint:
        """Keep the given regions (indices or mask), in that order."""
        rows = np.arange(len(self))[regions]
        entries, lengths = self._entries_of(rows)
        return Footprint(
            self.shape,
            np.concatenate([[0], np.cumsum(lengths)]),
            self.y[entries],
            self.x[entries],
            self.weight[entries],
            self.area[rows],
        )

    def within(self, window: Window) -> Footprint:
        """Keep all regions, but only their pixels in the window, counted from its corner.

        Sums over the windows of a tiling add up to the sum over the raster, so that rasters too large for memory can
        be pooled tile by tile.
        """
        kept = (self.y >= window.y0) & (self.y < window.y1) & (self.x >= window.x0) & (self.x < window.x1)
        before = np.concatenate([[0], np.cumsum(kept)])
        return Footprint(
            window.shape,
            before[self.indptr],
            self.y[kept] - np.int32(window.y0),
            self.x[kept] - np.int32(window.x0),
            self.weight[kept],
            self.area,
        )

    def _sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted sums over each region of (nnz, c) values of its entries."""
        entry = np.arange(len(self.weight))
        gather = sparse.csr_array((self.weight, entry, self.indptr), shape=(len(self), len(entry)))
        return np.asarray(gather @ values)

    def _entries_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        lengths = np.diff(self.indptr)[rows]
        start = np.repeat(self.indptr[rows] - (np.cumsum(lengths) - lengths), lengths)
        return start + np.arange(lengths.sum()), lengths

    @classmethod
    def _from_shifted(
        cls,
        shape: tuple[int, int],
        centers: ArrayLike,
        size: ArrayLike,
        corners: NDArray[np.float64],
        *,
        at_once: int = 50_000,
    ) -> Footprint:
        """Regions of one form; ``at_once`` are rasterised together, which bounds memory where there are millions of bins."""
        centers = np.asarray(centers, dtype=np.float64).reshape(-1, 2)
        sizes = np.broadcast_to(np.asarray(size, dtype=np.float64), len(centers))
        if len(sizes) and not (sizes > 0).all():
            msg = f"The size of a region must be positive, found {sizes.min()} px."
            raise ValueError(msg)
        parts = []
        for chunk in in_pieces(len(centers), at_once=at_once):
            rings = centers[chunk, None] + sizes[chunk, None, None] * corners
            region = np.repeat(np.arange(len(rings)), len(corners))
            parts.append(cls._from_edges(shape, ring_edges(rings), region, len(rings)))
        return parts[0] if len(parts) == 1 else _stack(parts)

    @classmethod
    def _from_edges(
        cls, shape: tuple[int, int], edges: NDArray[np.float64], region: NDArray[np.int64], n: int
    ) -> Footprint:
        return cls._from_entries(shape, *cover(edges, region, n), n)

    @classmethod
    def _from_entries(
        cls,
        shape: tuple[int, ...],
        region: NDArray[np.int64],
        y: NDArray[Any],
        x: NDArray[Any],
        weight: NDArray[np.float64],
        n: int,
    ) -> Footprint:
        area = np.bincount(region, weight, minlength=n).astype(np.float64)
        height, width = shape
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        lengths = np.bincount(region[inside], minlength=n)
        return cls(
            (height, width),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            y[inside].astype(np.int32),
            x[inside].astype(np.int32),
            weight[inside].astype(np.float32),
            area,
        )


def unit_square(turn: float = 0.0) -> NDArray[np.float64]:
    """(4, 2) corners (y, x) of a square of side 1 around 0, turned from x towards y by degrees."""
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    if turn == 0:
        return corners
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return corners @ np.array([[cos, -sin], [sin, cos]])


def _stack(parts: Sequence[Footprint]) -> Footprint:
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return Footprint(
        parts[0].shape,
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([part.y for part in parts]),
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate([part.area for part in parts]),
    )
