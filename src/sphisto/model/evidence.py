"""What the spots of a slide measured, in factors, and what the picture looks like."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.texture import block_of, texture
from sphisto.core.tiles import Window, on_tissue, plan_tiles
from sphisto.model.drawing import prior_stride

if TYPE_CHECKING:
    from sphisto.core.slide import Slide

_LEAST_TISSUE = 0.25  # share of a spot; its density is not blown up beyond fourfold for lying at the tissue's edge
_LEAST_FEATURE = 0.02  # of the largest principal component of the texture
_AROUND = 128  # px around tiles with tissue that a network sees, or less
_EXTREME = 4.0  # standard deviations over spots beyond which the texture of a place is not believed


@dataclass(frozen=True)
class Evidence:
    """What the spots of a slide measured, in factors, and what the picture looks like.

    Parameters
    ----------
    slide
        With measured spots.
    factor_values
        (n, K) factor values of the spots; those of spots that are not known may be NaN.
    halves
        Factor values of two random halves of the counts, each of the size of ``factor_values``; they tell the noise of
        counting. ``None`` for values that are not counts.
    n_signed
        Number of factors, the last ones, that have signs.
    """

    slide: Slide
    factor_values: NDArray[np.float64]
    halves: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    n_signed: int = 0

    @property
    def stride(self) -> int:
        """Px between the points of a prior."""
        return prior_stride(self.slide.spots.pitch)

    @property
    def density(self) -> NDArray[np.float64]:
        """(n, K) factor values per spot area of tissue."""
        return self._per_tissue(self.factor_values)

    @property
    def half_densities(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Densities of the two halves."""
        return None if self.halves is None else (self._per_tissue(self.halves[0]), self._per_tissue(self.halves[1]))

    @property
    def texture_stride(self) -> int:
        """Px between the points of the texture: as for a prior, but where pixels are far finer than spots, of blocks."""
        return self.stride * block_of(self._radius)

    @cached_property
    def looked_at(self) -> Window:
        """The part of the picture that holds all tiles with tissue, and what is seen around them."""
        (height, width), stride = self.slide.grid.shape, self.texture_stride
        cores = [tile.core for tile in on_tissue(plan_tiles((height, width)), self.slide.tissue)]
        if not cores:
            return Window(0, 0, height, width)
        y0 = max(min(core.y0 for core in cores) - _AROUND, 0) // stride * stride
        x0 = max(min(core.x0 for core in cores) - _AROUND, 0) // stride * stride
        y1 = min(max(core.y1 for core in cores) + _AROUND, height)
        x1 = min(max(core.x1 for core in cores) + _AROUND, width)
        return Window(y0, x0, y1, x1)

    @cached_property
    def texture(self) -> NDArray[np.float32]:
        """(p, y / texture_stride, x / texture_stride) texture of what is looked at."""
        return texture(self.slide.image, self._radius, self.texture_stride, self.looked_at)

    @property
    def _radius(self) -> float:
        """Of a spot, in px."""
        return self.slide.spot.um / self.slide.grid.um_per_px / 2

    def _per_tissue(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values / np.clip(self._tissue_share, _LEAST_TISSUE, 1)[:, None]

    @cached_property
    def _tissue_share(self) -> NDArray[np.float32]:
        return np.nan_to_num(self.slide.footprint().mean(self.slide.tissue)[:, 0])


def scaled_texture(evidence: Evidence, known: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Texture of what is looked at and of the (n,) spots in principal components, of a mean squared length of 1 at the known."""
    slide, stride, seen = evidence.slide, evidence.texture_stride, evidence.looked_at
    um_per_px, raw = slide.grid.um_per_px, evidence.texture.copy()
    centers = (slide.spots.centers - (seen.y0, seen.x0)) / stride
    spots = slide.spot.footprint(raw.shape[1:], centers, um_per_px * stride)
    at_spots = np.nan_to_num(spots.mean(raw))
    centre, spread = at_spots[known].mean(axis=0), at_spots[known].std(axis=0) + 1e-6
    raw -= centre[:, None, None].astype(np.float32)
    raw /= spread[:, None, None].astype(np.float32)
    np.clip(raw, -_EXTREME, _EXTREME, out=raw)
    at_spots = np.nan_to_num(spots.mean(raw))
    _, sizes, axes = np.linalg.svd(at_spots[known], full_matrices=False)
    kept = sizes > max(_LEAST_FEATURE * sizes[0], 1e-9)
    if not kept.any():  # a blank picture
        return np.zeros((1, *raw.shape[1:]), dtype=np.float32), np.zeros((len(at_spots), 1))
    # weighed by the root of their spread: between whitened and as they come
    basis = axes[kept].T / np.sqrt(sizes[kept] * sizes[kept].sum() / known.sum())
    maps = np.einsum("pyx,pq->qyx", raw, basis.astype(np.float32), optimize=True)
    return np.ascontiguousarray(maps), at_spots @ basis
