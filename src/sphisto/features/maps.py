"""Features of a section's image on a coarse grid, and their principal components as a field uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window, on_tissue, plan_tiles
from sphisto.core.upsample import at_points
from sphisto.features.texture import block_of, texture

if TYPE_CHECKING:
    from sphisto.core.spot import Spot
    from sphisto.slide.slide import Slide

_AROUND = 128  # px around tiles with tissue that a network sees, or less
_LEAST_FEATURE = 0.02  # of the largest principal component
_EXTREME = 4.0  # standard deviations over spots beyond which features of a place are not believed


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of a part of a section.

    Parameters
    ----------
    values
        (p, h, w) float32 features of blocks of px. Beyond them those of the border go on.
    corner
        (y, x) px where the first block begins.
    stride
        Px along a side of a block.
    spot
        Over which area features are averaged at a spot.
    um_per_px
        Of the section's grid.
    """

    values: NDArray[np.float32]
    corner: tuple[int, int]
    stride: int
    spot: Spot
    um_per_px: float

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """(m, p) features at (m, 2) points (y, x) in px of the section's grid."""
        return at_points(self.values, points, self.corner, self.stride)

    def at_spots(self, centers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, p) means of the features over spots around (n, 2) centres (y, x) in px; 0 off the map."""
        inside = (centers - self.corner) / self.stride
        spots = self.spot.footprint(self.values.shape[1:], inside, self.um_per_px * self.stride)
        return np.nan_to_num(spots.mean(self.values))


@dataclass(frozen=True, eq=False)
class SectionFeatures:
    """Features of a section, computed once, when they are first asked for.

    Parameters
    ----------
    slide
        Of which the image is read.
    stride
        Px along a side of a block; where pixels are far finer than spots, blocks are larger.
    """

    slide: Slide
    stride: int

    @cached_property
    def maps(self) -> FeatureMaps:
        """Texture around the tissue."""
        slide = self.slide
        radius = slide.spot.um / slide.grid.um_per_px / 2
        stride = self.stride * block_of(radius)
        window = _around_tissue(slide, stride)
        values = texture(slide.image, radius, stride, window)
        return FeatureMaps(values, (window.y0, window.x0), stride, slide.spot, slide.grid.um_per_px)


def principal_components(maps: FeatureMaps, centers: NDArray[np.float64]) -> tuple[FeatureMaps, NDArray[np.float64]]:
    """Turn features into principal components over spots, which have a mean squared length of 1 there.

    Each is weighted by the root of its spread: between whitened components and those as they come.

    Parameters
    ----------
    maps
        Features as they were read.
    centers
        (n, 2) centres (y, x) in px of the spots by which features are standardised.

    Returns
    -------
    The components on the same grid, and at the spots (n, q).
    """
    values = maps.values.copy()
    raw = maps.at_spots(centers)
    values -= raw.mean(axis=0)[:, None, None].astype(np.float32)
    values /= (raw.std(axis=0) + 1e-6)[:, None, None].astype(np.float32)
    np.clip(values, -_EXTREME, _EXTREME, out=values)
    standard = replace(maps, values=values).at_spots(centers)
    _, sizes, axes = np.linalg.svd(standard, full_matrices=False)
    kept = sizes > max(_LEAST_FEATURE * sizes[0], 1e-9)
    if not kept.any():  # a blank image
        return replace(maps, values=np.zeros((1, *values.shape[1:]), dtype=np.float32)), np.zeros((len(centers), 1))
    basis = axes[kept].T / np.sqrt(sizes[kept] * sizes[kept].sum() / len(centers))
    components = np.einsum("pyx,pq->qyx", values, basis.astype(np.float32), optimize=True)
    return replace(maps, values=np.ascontiguousarray(components)), standard @ basis


def _around_tissue(slide: Slide, stride: int) -> Window:
    """Return the part of the image that holds all tiles with tissue, and what is seen around them."""
    height, width = slide.grid.shape
    cores = [tile.core for tile in on_tissue(plan_tiles((height, width)), slide.tissue)]
    if not cores:
        return Window(0, 0, height, width)
    y0 = max(min(core.y0 for core in cores) - _AROUND, 0) // stride * stride
    x0 = max(min(core.x0 for core in cores) - _AROUND, 0) // stride * stride
    y1 = min(max(core.y1 for core in cores) + _AROUND, height)
    x1 = min(max(core.x1 for core in cores) + _AROUND, width)
    return Window(y0, x0, y1, x1)
