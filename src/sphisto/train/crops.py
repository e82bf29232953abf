"""Training batches: random crops of a slide with the spots that lie wholly inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sphisto.config import TrainConfig
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.splits import at_most
from sphisto.core.tiles import Window, read_window
from sphisto.field.field import Field
from sphisto.slide.slide import Slide


@dataclass
class Batch:
    """Crops and the m spots inside them."""

    image: Tensor  # (b, 3, h, w) float32, 0 to 1
    prior: Tensor  # (b, K, h / s, w / s) float32, counts per spot area
    # pixel, region, weight: (nnz,) entries of the footprints: flat index into (b, h, w), spot, share of the spot's area
    # or 0 off tissue, times the total there over that of the interpolated prior where such detail is known
    pixel: Tensor
    region: Tensor
    weight: Tensor
    values: Tensor  # (m, G) float32 measured values
    # hidden, held_out: (m,) bool: hidden from the prior of their crop; never learned from
    hidden: Tensor
    held_out: Tensor
    section: Tensor  # () number of the section that all crops are of

    def pin_memory(self) -> Batch:
        """Copy to memory from which a GPU fetches while it computes; data loaders call this."""
        return Batch(**{name: value.pin_memory() for name, value in vars(self).items()})


def pool(values: Tensor, batch: Batch) -> Tensor:
    """Average (nnz, K) values at the pixels of a batch over its spots: (m, K).

    The same weights as :meth:`sphisto.core.footprint.Footprint.mean` has where only tissue holds anything.
    """
    weighted = values * batch.weight[:, None]
    sums = torch.zeros(len(batch.values), values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add(0, batch.region, weighted)


@dataclass(frozen=True, eq=False)
class Crops(Dataset[Batch]):
    """The batches of one epoch; each is decided by (seed, epoch, number) alone, so that a resumed run repeats them."""

    slide: Slide  # with measured spots
    footprint: LazyFootprint  # footprints of the spots, as the loss sees them
    field: Field  # fitted to the spots that may be learned from
    genes: NDArray[np.int64]  # indices of the genes that are fitted
    learned: NDArray[np.bool_]  # (n,) bool: spots that may be learned from
    held_out: NDArray[np.bool_]  # (n,) bool: spots that are only watched
    shape: tuple[int, int]  # (height, width) of a crop in px
    config: TrainConfig  # how many crops make a batch, and how many spots are hidden from them
    n_batches: int  # in the epoch
    # seed, epoch: what is drawn depends on
    seed: int
    epoch: int
    section: int = 0  # number of the slide among those that train together

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, number: int) -> Batch:
        if number >= self.n_batches:
            raise IndexError(number)
        rng = np.random.default_rng([self.seed, self.epoch, number])
        return _collate([self._crop(rng) for _ in range(self.config.batch)], self.section)

    def _crop(self, rng: np.random.Generator) -> _Crop:
        measured = self.slide.spots
        window = self._window(measured.centers, rng)
        near = self._near(window)
        blind = rng.random() < self.config.blind  # then nothing is known, near or far
        around = self.field.around(window)
        if self.field.observations.members is None:
            hidden = near if blind else near[self._is_hidden(near, rng)]
            known = ~np.isin(self.field.observations.spots[around.rows], hidden, assume_unique=True)
        else:
            hidden, known = self._hidden_squares(near, around.rows, blind, rng)
        posterior = around.given(known & (not blind))
        prior = posterior.maps(window)
        ratio = posterior.ratio(window, window, prior)
        spots = at_most(self._inside(near, window), self.config.most_spots, rng)
        part = self.footprint.select(spots).within(window)
        lengths = np.diff(part.indptr)
        weight = part.weight / np.repeat(part.covered, lengths) * read_window(self.slide.tissue, window)[part.y, part.x]
        if ratio is not None:
            weight = weight * ratio[part.y, part.x]
        crop = _Crop(
            read_window(self.slide.image, window),
            prior,
            part.y.astype(np.int64),
            part.x.astype(np.int64),
            np.repeat(np.arange(len(spots)), lengths),
            weight,
            measured.values[spots][:, self.genes].toarray(),
            np.isin(spots, hidden, assume_unique=True),
            self.held_out[spots],
        )
        return _turned(crop, rng)

    def _near(self, window: Window) -> NDArray[np.int64]:
        """(m,) spots near a window; all else makes no difference to its crop, and nothing is drawn for it."""
        margin = self.config.hidden_within * self.slide.spots.pitch
        low, high = (window.y0 - margin, window.x0 - margin), (window.y1 + margin, window.x1 + margin)
        return self.slide.spots.places.inside(low, high)

    def _is_hidden(self, near: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Choose which of the ``near`` (m,) spots a crop hides from its prior."""
        share = rng.uniform(*self.config.hidden)
        return ~self.learned[near] | (rng.random(len(near)) < share)

    def _hidden_squares(
        self, near: NDArray[np.int64], rows: NDArray[np.int64], blind: bool, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Choose which of the (m,) observations around a crop are known; their bins are hidden with the others, whole squares."""
        spots, of_row = self.field.observations.spots_of(rows)
        known = rng.random(len(rows)) >= rng.uniform(*self.config.hidden)
        if blind:
            return near, known
        return np.setdiff1d(near, spots[known[of_row]], assume_unique=True), known

    def _inside(self, near: NDArray[np.int64], window: Window) -> NDArray[np.int64]:
        """(m,) spots of those near a window that have all their pixels in it, and are learned from or watched."""
        footprint, grid = self.footprint, self.footprint.grid
        # half a diagonal of a square, more than a disc's radius
        reach = np.sqrt(footprint.spot.area_px(grid.um_per_px) / 2) + 1
        centers = footprint.centers[near]
        begins = (np.maximum(centers - reach, 0) >= (window.y0, window.x0)).all(axis=1)
        ends = (np.minimum(centers + reach, grid.shape) <= (window.y1, window.x1)).all(axis=1)
        used = (self.learned[near] | self.held_out[near]) & (footprint.covered[near] > 0)
        return near[begins & ends & used]

    def _window(self, centers: NDArray[np.float64], rng: np.random.Generator) -> Window:
        """Choose a window that holds a random spot somewhere."""
        spot = centers[rng.integers(len(centers))]
        corner = []
        for at, side, length in zip(spot, self.shape, self.slide.grid.shape, strict=True):
            start = int(at - rng.uniform(0.1, 0.9) * side)
            corner.append(int(np.clip(start, 0, max(length - side, 0))))
        return Window(corner[0], corner[1], corner[0] + self.shape[0], corner[1] + self.shape[1])


@dataclass(frozen=True, eq=False)
class CropsOfSections(Dataset[Batch]):
    """The batches of one epoch of several sections: each is of one of them, drawn by their areas."""

    parts: tuple[Crops, ...]  # crops of each section, as many batches of each as in the epoch
    shares: NDArray[np.float64]  # (c,) chance of each

    def __len__(self) -> int:
        return self.parts[0].n_batches

    def __getitem__(self, number: int) -> Batch:
        first = self.parts[0]
        if number >= first.n_batches:
            raise IndexError(number)
        rng = np.random.default_rng([first.seed, first.epoch, number, len(self.parts)])
        return self.parts[int(rng.choice(len(self.parts), p=self.shares))][number]


@dataclass
class _Crop:
    image: NDArray[np.uint8]
    prior: NDArray[np.float32]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    region: NDArray[np.int64]
    weight: NDArray[np.float64]
    values: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


def _turned(crop: _Crop, rng: np.random.Generator) -> _Crop:
    """Mirror a crop up-down, left-right and (if square) about its diagonal, each with even chance."""
    height, width = crop.image.shape[1:]
    rasters: tuple[NDArray[Any], ...] = (crop.image, crop.prior)
    up_down, left_right, diagonal = rng.random(3) < 0.5
    if up_down:
        rasters = tuple(a[..., ::-1, :] for a in rasters)
        crop.y = height - 1 - crop.y
    if left_right:
        rasters = tuple(a[..., ::-1] for a in rasters)
        crop.x = width - 1 - crop.x
    if diagonal and height == width:
        rasters = tuple(a.swapaxes(-1, -2) for a in rasters)
        crop.y, crop.x = crop.x, crop.y
    crop.image, crop.prior = rasters
    return crop


def _collate(crops: list[_Crop], section: int) -> Batch:
    height, width = crops[0].image.shape[1:]
    n_spots = np.cumsum([0, *(len(crop.values) for crop in crops)])

    def stack(arrays: list[NDArray[np.generic]], dtype: type) -> Tensor:
        return torch.from_numpy(np.stack(arrays).astype(dtype))

    def join(arrays: list[NDArray[np.generic]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays))

    return Batch(
        stack([crop.image for crop in crops], np.float32) / 255,
        stack([crop.prior for crop in crops], np.float32),
        join([(i * height + crop.y) * width + crop.x for i, crop in enumerate(crops)]),
        join([n_spots[i] + crop.region for i, crop in enumerate(crops)]),
        join([crop.weight.astype(np.float32) for crop in crops]),
        join([crop.values.astype(np.float32) for crop in crops]),
        join([crop.hidden for crop in crops]),
        join([crop.held_out for crop in crops]),
        torch.tensor(section),
    )
