"""Stain of the image at the scale of nuclei: how much RNA there is follows it more finely than spots can show."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.pooling import TilePool
from sphisto.core.tiles import Window, on_tissue, plan_tiles, read_window
from sphisto.slide.fingerprint import fingerprint
from sphisto.slide.slide import Slide


@dataclass(frozen=True)
class FineStain:
    """Logarithms of the local mean and of the local spread of optical density, at every pixel.

    A :class:`sphisto.features.source.FeatureSource`.
    """

    um: float = 1.5  # standard deviation of the Gaussian surroundings in um: about half the radius of a nucleus
    # faint_mean, faint_spread: optical density that is added to the mean and to the spread before their logarithms are
    # taken
    faint_mean: float = 0.02
    faint_spread: float = 0.01
    name = "stain"

    @property
    def hash(self) -> str:
        """Of the settings."""
        return fingerprint([self.um, self.faint_mean, self.faint_spread])

    def of(self, slide: Slide) -> FineStainOf:
        """Return the stain of a section."""
        return FineStainOf(slide, self, self.um / slide.grid.um_per_px)


@dataclass(frozen=True, eq=False)
class FineStainOf:
    """Stain of a section."""

    slide: Slide  # of which the image is read
    source: FineStain
    sigma: float  # standard deviation of the surroundings in px
    stride = 1
    channels = ("mean", "spread")

    @property
    def um_per_px(self) -> float:
        """Side of a pixel in um."""
        return self.slide.grid.um_per_px

    def read(self, window: Window) -> NDArray[np.float32]:
        """(2, h, w) features at the pixels of a window."""
        margin = math.ceil(4 * self.sigma)
        seen = read_window(self.slide.image, window.grown(margin)).astype(np.float32)
        density = -np.log((seen + 1) / 256).mean(axis=0)
        mean = ndimage.gaussian_filter(density, self.sigma, truncate=4.0)
        square = ndimage.gaussian_filter(density**2, self.sigma, truncate=4.0)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        inside = np.s_[margin : margin + window.shape[0], margin : margin + window.shape[1]]
        return np.log(np.stack([mean[inside] + self.source.faint_mean, spread[inside] + self.source.faint_spread]))


@dataclass(frozen=True, eq=False)
class StainMaps:
    """Stain of a section in units of its spread within spots, centred at the spots' mean."""

    stain: FineStainOf  # of the section
    # center, scale: (2,) mean over the spots; standard deviation within spots
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    within: NDArray[np.float64]  # (2, 2) covariance within spots
    at_spots: NDArray[np.float64]  # (n, 2) means over the tissue under each spot of the slide; 0 where there is none

    def within_all(self, members: tuple[NDArray[np.int64], NDArray[np.int64]]) -> StainMaps:
        """Return the same stain with its spread within groups of spots: which spots, and the group of each."""
        at_spots, group = self.at_spots[members[0]], members[1]
        number = np.maximum(np.bincount(group), 1)
        means = np.stack([np.bincount(group, each) / number for each in at_spots.T], axis=1)
        apart = at_spots - means[group]
        return replace(self, within=self.within + apart.T @ apart / max(len(apart), 1))

    def read(self, window: Window) -> NDArray[np.float32]:
        """(2, h, w) features at the pixels of a window."""
        center, scale = (values.astype(np.float32)[:, None, None] for values in (self.center, self.scale))
        return (self.stain.read(window) - center) / scale


def stain_maps(slide: Slide, source: FineStain) -> StainMaps | None:
    """Measure the stain under the spots of a slide; ``None`` where it is the same within them all."""
    stain, spots = source.of(slide), slide.footprint()
    pool = TilePool(spots, 6)  # tissue, both features, their squares and their product
    for tile in on_tissue(plan_tiles(slide.grid.shape), slide.tissue):
        if len(spots.within(tile.core).weight) == 0:
            continue
        mean, spread = stain.read(tile.core)
        tissue = slide.tissue[tile.core.slices]
        pool.add(tile.core, np.stack([np.ones_like(mean), mean, spread, mean**2, spread**2, mean * spread]) * tissue)
    under = pool.sums[:, 0] > 0
    if not under.any():
        return None
    means = pool.sums[under, 1:] / pool.sums[under, :1]
    first, second = means[:, 0], means[:, 1]
    spread_within = np.maximum(np.mean([means[:, 2] - first**2, means[:, 3] - second**2], axis=1), 0)
    if spread_within.min() < 1e-8:  # a blank image
        return None
    scale, product = np.sqrt(spread_within), np.mean(means[:, 4] - first * second)
    within = np.array([[1, product / scale.prod()], [product / scale.prod(), 1]])
    center = means[:, :2].mean(axis=0)
    at_spots = np.zeros((len(spots), 2))
    at_spots[under] = (means[:, :2] - center) / scale
    return StainMaps(stain, center, scale, within, at_spots)
