"""Texture of a stained image around each place: colour, spread and grain at several distances, by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.tiles import Window, plan_tiles, read_window
from sphisto.core.upsample import stride_for
from sphisto.features.config import TextureConfig
from sphisto.slide.fingerprint import fingerprint
from sphisto.slide.slide import Slide

_LEAST_UM = 8.0  # across, that the smallest bins are taken for: less than a cell has no texture


@dataclass(frozen=True)
class Texture:
    """Texture as a :class:`sphisto.features.source.FeatureSource`: what is used unless others are named."""

    config: TextureConfig = field(default_factory=TextureConfig)  # scales and grains
    name = "texture"

    @property
    def hash(self) -> str:
        """Of the settings."""
        return fingerprint(astuple(self.config))

    def of(self, slide: Slide) -> TextureOf:
        """Return the texture of a section, on a grid that the distance of its spots decides, or their usual one."""
        wider = max(_LEAST_UM / slide.spot.um, 1)
        radius = wider * slide.spot.um / slide.grid.um_per_px / 2
        stride = stride_for(wider * slide.pitch, self.config.points_per_pitch) * block_of(radius, self.config)
        return TextureOf(slide, radius, stride, self.config)


@dataclass(frozen=True, eq=False)
class TextureOf:
    """Texture of a section; parameters as of :func:`texture`."""

    slide: Slide
    radius: float
    stride: int
    config: TextureConfig

    @property
    def um_per_px(self) -> float:
        """Side of a block in um."""
        return self.slide.grid.um_per_px * self.stride

    @property
    def channels(self) -> list[str]:
        """Names of the features."""
        names = []
        for scale in self.config.scales:
            names += [
                f"{what} of {colour} at {scale}" for colour in ("red", "green", "blue") for what in ("mean", "sd")
            ]
            names += [f"slope at {scale}"] + [
                f"grain {grain} at {scale}" for grain in self.config.grains[1:] if grain <= scale
            ]
        return names

    def read(self, window: Window) -> NDArray[np.float32]:
        """(c, h / stride, w / stride) features of the blocks of a window, rounded up."""
        return texture(self.slide.image, self.radius, self.stride, window, self.config)


def block_of(radius: float, config: TextureConfig = TextureConfig()) -> int:
    """Px along a side of the blocks that an image may be averaged over first, with spots of that radius in px."""
    return max(1, int(radius / config.finest_px))


def texture(
    image: Any,
    radius: float,
    stride: int,
    window: Window | None = None,
    config: TextureConfig = TextureConfig(),
    *,
    tile_blocks: int = 1_024,
    strip_blocks: int = 256,
) -> NDArray[np.float32]:
    """Describe the surroundings of each block of an image, or of a window of it.

    Optical density of each colour: mean and spread; gradient of their mean; energy of its grain (differences of
    Gaussians); each under Gaussian surroundings of 0.5 to 4 spot radii. Where pixels are far finer than spots, the
    image is averaged over blocks (:func:`block_of`) first: such detail is finer than the finest grain.

    Parameters
    ----------
    image
        (3, y, x) uint8, numpy or lazy; read tile by tile.
    radius
        Radius of a spot in px.
    stride
        Side of the blocks in px, a multiple of ``block_of(radius)``.
    window
        Inside the image; begins where a block does. What lies around it is seen, too.
    config
        Scales and grains.
    tile_blocks, strip_blocks
        Blocks that are described at once; of which that many rows are read at once.

    Returns
    -------
    (p, ceil(y / stride), ceil(x / stride)) features.
    """
    window = window or Window(0, 0, *image.shape[1:])
    block = block_of(radius, config)
    if stride % block:
        msg = f"Found a stride of {stride} px; expected a multiple of {block} px, over which the image is averaged."
        raise ValueError(msg)
    height, width = (-(-side // stride) for side in window.shape)
    halo = math.ceil(config.truncate * (config.scales[-1] + config.grains[-1]) * radius) + stride
    out = np.empty((0, height, width), dtype=np.float32)
    for tile in plan_tiles(window.shape, size=tile_blocks * block, halo=halo, multiple=stride):
        view = tile.view.moved(window.y0, window.x0)
        features = _features(_averaged(image, view, block, strip_blocks), radius / block, stride // block, config)
        if len(out) == 0:
            out = np.empty((len(features), height, width), dtype=np.float32)
        y, x = (tile.core.y0 - tile.view.y0) // stride, (tile.core.x0 - tile.view.x0) // stride
        y0, x0 = tile.core.y0 // stride, tile.core.x0 // stride
        part = out[:, y0 : y0 - (-tile.core.shape[0] // stride), x0 : x0 - (-tile.core.shape[1] // stride)]
        part[:] = features[:, y : y + part.shape[1], x : x + part.shape[2]]
    return out


def _averaged(image: Any, window: Window, block: int, strip_blocks: int) -> NDArray[np.float32]:
    """Read a window of an image as (3, h, w) means of blocks, a strip at a time."""
    if block == 1:
        return read_window(image, window).astype(np.float32)
    height, width = (side // block for side in window.shape)
    out = np.empty((3, height, width), dtype=np.float32)
    for y in range(0, height, strip_blocks):
        rows = min(strip_blocks, height - y)
        y0 = window.y0 + y * block
        strip = read_window(image, Window(y0, window.x0, y0 + rows * block, window.x0 + width * block))
        for channel, fine in zip(out, strip, strict=True):
            channel[y : y + rows] = _blocks(fine.astype(np.float32), block)
    return out


def _features(image: NDArray[np.float32], radius: float, stride: int, config: TextureConfig) -> NDArray[np.float32]:
    least = 1e-5  # energy of an image without grain
    means, squares, grey = [], [], np.zeros(image.shape[1:], dtype=np.float32)
    for channel in image:
        density = -np.log((channel + 1) / 256)
        means.append(_blocks(density, stride))
        squares.append(_blocks(density**2, stride))
        grey += density
    grey /= len(image)
    slope = _blocks(
        ndimage.gaussian_gradient_magnitude(grey, max(0.7, 0.15 * radius), truncate=config.truncate), stride
    )
    grains = list(_grains(grey, radius, stride, config))
    out = []
    for scale in config.scales:
        sigma = scale * radius / stride
        for mean, square in zip(means, squares, strict=True):
            centre = _blurred(mean, sigma, config.truncate)
            out += [centre, np.sqrt(np.maximum(_blurred(square, sigma, config.truncate) - centre**2, 0))]
        out.append(_blurred(slope, sigma, config.truncate))
        out += [
            np.log(_blurred(grain, sigma, config.truncate) + least)
            for grain, widest in zip(grains, config.grains[1:], strict=True)
            if widest <= scale
        ]
    return np.stack(out)


def _grains(
    grey: NDArray[np.float32], radius: float, stride: int, config: TextureConfig
) -> Iterator[NDArray[np.float32]]:
    """Energy of the grain in each block, finest first; no more than two blurred images are in memory."""
    finer = _blurred(grey, config.grains[0] * radius, config.truncate)
    for grain in config.grains[1:]:
        coarser = _blurred(grey, grain * radius, config.truncate)
        yield _blocks((finer - coarser) ** 2, stride)
        finer = coarser


def _blurred(raster: NDArray[np.float32], sigma: float, truncate: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(raster, sigma, truncate=truncate) if sigma > 0 else raster


def _blocks(raster: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Average blocks of ``side`` x ``side`` px; the raster measures whole blocks."""
    height, width = (length // side for length in raster.shape)
    return np.asarray(raster.reshape(height, side, width, side).mean(axis=(1, 3)))
