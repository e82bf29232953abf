"""The prior: what the neighbouring spots say of each place, as maps of factor density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.interpolate import choose_width, gaussian_weights

if TYPE_CHECKING:
    from sphisto.core.slide import Slide
    from sphisto.core.tiles import Window

_LEAST_TISSUE = 0.25  # share of a spot; its density is not blown up beyond fourfold for lying at the tissue's edge
_PER_PITCH = 4  # the prior is computed at this many points per pitch at least, and drawn out in between
_COARSEST = 8  # px


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Spots that speak for their surroundings.

    Parameters
    ----------
    centers
        (n, 2) centres in px.
    density
        (n, K) factor values per spot area of tissue.
    width
        Standard deviation of the Gaussian weights in px.
    mean
        (K,) what is said where no spot is known.
    stride
        Px between the points of the prior.
    """

    centers: NDArray[np.float64]
    density: NDArray[np.float64]
    width: float
    mean: NDArray[np.float64]
    stride: int

    def of(self, kept: NDArray[np.bool_]) -> Neighbours:
        """Let only the kept spots speak."""
        return replace(self, centers=self.centers[kept], density=self.density[kept])

    def prior(self, window: Window) -> NDArray[np.float32]:
        """(K, h / stride, w / stride) density at the middles of blocks of a window."""
        height, width = (side // self.stride for side in window.shape)
        y = window.y0 + (np.arange(height) + 0.5) * self.stride
        x = window.x0 + (np.arange(width) + 0.5) * self.stride
        points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
        if len(self.centers) == 0:
            values = np.broadcast_to(self.mean, (len(points), len(self.mean)))
        else:
            values = gaussian_weights(points, self.centers, self.width) @ self.density
        return np.ascontiguousarray(values.T.reshape(-1, height, width), dtype=np.float32)


def neighbours(slide: Slide, factor_values: NDArray[np.float64], known: NDArray[np.bool_]) -> Neighbours:
    """Make the prior of a slide from the (n, K) factor values of its spots.

    The width is chosen by leaving out one of the ``known`` spots at a time.
    """
    share = np.nan_to_num(slide.footprint().mean(slide.tissue.astype(np.float32))[:, 0])
    density = factor_values / np.clip(share, _LEAST_TISSUE, 1)[:, None]
    centers, pitch = slide.spots.centers, slide.spots.pitch
    width = choose_width(centers[known], density[known], pitch)
    return Neighbours(centers, density, width, density[known].mean(axis=0), prior_stride(pitch))


def nothing_known(mean: NDArray[np.float64]) -> Neighbours:
    """Make the prior of a slide without spots: the same everywhere."""
    return Neighbours(np.zeros((0, 2)), np.zeros((0, len(mean))), 1.0, mean, _COARSEST)


def prior_stride(pitch: float) -> int:
    """Return the largest power of two up to 8 px that still puts four points into a pitch."""
    stride = _COARSEST
    while stride > 1 and stride * _PER_PITCH > pitch:
        stride //= 2
    return stride
