"""Features of a section's image on a coarse grid, and their principal components as a field uses them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.pieces import in_pieces
from sphisto.core.spot import Spot
from sphisto.core.tiles import Window, on_tissue, plan_tiles
from sphisto.core.upsample import at_points, block_middles
from sphisto.features.components import basis_of, moments, standardised
from sphisto.features.source import FeatureSource, PixelFeatures
from sphisto.features.stain import FineStain, StainMaps, stain_maps
from sphisto.slide.slide import Slide


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of a part of a section."""

    values: NDArray[np.float32]  # (p, h, w) float32 features of blocks of px. Beyond them those of the border go on
    corner: tuple[int, int]  # (y, x) px where the first block begins
    stride: int  # px along a side of a block
    spot: Spot  # over which area features are averaged at a spot
    um_per_px: float  # of the section's grid
    # (p,) by which features are multiplied once they are standardised, so that each of several sources counts as much
    # as another, however many features it has; None: 1
    weight: NDArray[np.float32] | None = None

    def over(self, area: float) -> FeatureMaps:
        """Return the same features, averaged over that many times the area at a spot."""
        return replace(self, spot=replace(self.spot, um=self.spot.um * float(np.sqrt(area))))

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """(m, p) features at (m, 2) points (y, x) in px of the section's grid."""
        return at_points(self.values, points, self.corner, self.stride)

    def at_spots(self, centers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, p) means of the features over spots around (n, 2) centres (y, x) in px; 0 off the map."""
        inside = (centers - self.corner) / self.stride
        spots = self.spot.footprint(self.values.shape[1:], inside, self.um_per_px * self.stride)
        # a few features at a time: all pixels under all spots are gathered in double precision
        means = [spots.mean(self.values[some]) for some in in_pieces(len(self.values), at_once=4)]
        return np.nan_to_num(np.concatenate(means, axis=1))


@dataclass(frozen=True, eq=False)
class SectionFeatures:
    """Features of a section, computed once, when they are first asked for."""

    slide: Slide  # of which the image is read
    sources: tuple[FeatureSource, ...]  # at least one; their features are brought to the finest of their grids

    @cached_property
    def maps(self) -> FeatureMaps:
        """Features around the tissue.

        Raises
        ------
        ValueError
            If a source gives features of another shape than it promises, or some that are not finite.
        """
        slide, bound = self.slide, [source.of(self.slide) for source in self.sources]
        stride = min(features.stride for features in bound)
        window = _around_tissue(slide, stride)
        parts = [_read(source.name, each, window, stride) for source, each in zip(self.sources, bound, strict=True)]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        weight = np.concatenate([np.full(len(part), len(parts[0]) / len(part)) for part in parts])
        return FeatureMaps(
            values, (window.y0, window.x0), stride, slide.spot, slide.grid.um_per_px, np.sqrt(weight, dtype=np.float32)
        )

    @cached_property
    def stain(self) -> StainMaps | None:
        """Stain at the scale of nuclei, in units of its spread within spots; ``None`` where it is the same everywhere."""
        return stain_maps(self.slide, FineStain())


def _read(name: str, features: PixelFeatures, window: Window, stride: int) -> NDArray[np.float32]:
    """(c, h, w) features of a source in the blocks of a window, of a stride that is at most its own."""
    own = features.stride
    y0, x0 = window.y0 // own * own, window.x0 // own * own
    around = Window(y0, x0, window.y1, window.x1)
    try:
        found = np.asarray(features.read(around))
    except Exception as error:
        error.add_note(f"While the features {name!r} were read.")
        raise
    expected = (len(features.channels), *(-(-side // own) for side in around.shape))
    if found.shape != expected or found.dtype.kind not in "fiu":
        msg = (
            f"Found features {name!r} of shape {found.shape} and dtype {found.dtype} in a window of {around.shape} px; "
            f"expected numbers of shape {expected}: (channels, height, width) in blocks of {own} px."
        )
        raise ValueError(msg)
    strange = int(found.size - np.isfinite(found).sum())
    if strange:
        msg = (
            f"Found {strange} of {found.size} values of the features {name!r} that are not finite; expected numbers "
            "everywhere. Fill in what is missing, outside of the tissue for instance by the mean."
        )
        raise ValueError(msg)
    found = found.astype(np.float32, copy=False)
    if not (np.ptp(found, axis=(1, 2)) > 0).any() and not getattr(features, "may_be_flat", False):
        logger.warning(
            "The features %r are the same everywhere; they cannot distinguish places. Leave them out of `features`.",
            name,
        )
    if own == stride:
        return found
    height, width = (-(-side // stride) for side in window.shape)
    points = block_middles(
        Window(window.y0, window.x0, window.y0 + height * stride, window.x0 + width * stride), stride
    )
    fine = at_points(found, points, (y0, x0), own)
    return np.ascontiguousarray(fine.T.reshape(-1, height, width))


def principal_components(maps: FeatureMaps, centers: NDArray[np.float64]) -> tuple[FeatureMaps, NDArray[np.float64]]:
    """Turn features into principal components over spots, which have a mean squared length of 1 there.

    Features are as they were read, and standardised by spots around (n, 2) centres (y, x) in px.

    Returns
    -------
    The components on the same grid, and at the spots (n, q).
    """
    mean, sd = moments(maps.at_spots(centers))
    values = standardised(maps.values, mean[:, None, None], sd[:, None, None])
    if maps.weight is not None:
        values *= maps.weight[:, None, None]
    standard = replace(maps, values=values).at_spots(centers)
    basis = basis_of(standard)
    if basis is None:  # a blank image
        return replace(maps, values=np.zeros((1, *values.shape[1:]), dtype=np.float32)), np.zeros((len(centers), 1))
    components = np.einsum("pyx,pq->qyx", values, basis.astype(np.float32), optimize=True)
    return replace(maps, values=np.ascontiguousarray(components)), standard @ basis


def _around_tissue(slide: Slide, stride: int) -> Window:
    """Return the part of the image that holds all tiles with tissue, and what is seen around them."""
    around = 128  # px around tiles with tissue that a network sees, or less
    height, width = slide.grid.shape
    cores = [tile.core for tile in on_tissue(plan_tiles((height, width)), slide.tissue)]
    if not cores:
        return Window(0, 0, height, width)
    y0 = max(min(core.y0 for core in cores) - around, 0) // stride * stride
    x0 = max(min(core.x0 for core in cores) - around, 0) // stride * stride
    y1 = min(max(core.y1 for core in cores) + around, height)
    x1 = min(max(core.x1 for core in cores) + around, width)
    return Window(y0, x0, y1, x1)
