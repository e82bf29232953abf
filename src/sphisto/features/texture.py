"""Texture of a stained image around each place: colour, spread and grain at several distances, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.tiles import Window, plan_tiles, read_window
from sphisto.core.upsample import stride_for
from sphisto.slide.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphisto.slide.slide import Slide

_SCALES = (0.5, 1.0, 2.0, 4.0)  # standard deviations of the surroundings, in spot radii
_GRAINS = (0.0, 0.12, 0.25, 0.5, 1.0)  # grain lies between one of these and the next, in spot radii
_FINE = 14  # px of a spot's radius; with twice as many or more, the finest grain is blurred over several px
_TILE = 1024  # px, or blocks of px
_STRIP = 256  # blocks; of the picture that much is read at once
_TRUNCATE = 3.0  # standard deviations at which the Gaussians end
_LEAST = 1e-5  # energy of a picture without grain


@dataclass(frozen=True)
class Texture:
    """Texture as a :class:`sphisto.features.source.FeatureSource`: what is used unless others are named.

    Parameters
    ----------
    points_per_pitch
        Blocks per spot distance at least, unless pixels are coarser.
    """

    points_per_pitch: int = 4
    name = "texture"

    @property
    def hash(self) -> str:
        """Of the settings."""
        return fingerprint([self.points_per_pitch, _SCALES, _GRAINS])

    def of(self, slide: Slide) -> TextureOf:
        """Return the texture of a section with spots, on a grid that their distance decides."""
        radius = slide.spot.um / slide.grid.um_per_px / 2
        stride = stride_for(slide.spots.pitch, self.points_per_pitch) * block_of(radius)
        return TextureOf(slide, radius, stride)


@dataclass(frozen=True, eq=False)
class TextureOf:
    """Texture of a section; parameters as of :func:`texture`."""

    slide: Slide
    radius: float
    stride: int

    @property
    def um_per_px(self) -> float:
        """Side of a block in um."""
        return self.slide.grid.um_per_px * self.stride

    @property
    def channels(self) -> list[str]:
        """Names of the features."""
        names = []
        for scale in _SCALES:
            names += [
                f"{what} of {colour} at {scale}" for colour in ("red", "green", "blue") for what in ("mean", "sd")
            ]
            names += [f"slope at {scale}"] + [f"grain {grain} at {scale}" for grain in _GRAINS[1:] if grain <= scale]
        return names

    def read(self, window: Window) -> NDArray[np.float32]:
        """(c, h / stride, w / stride) features of the blocks of a window, rounded up."""
        return texture(self.slide.image, self.radius, self.stride, window)


def block_of(radius: float) -> int:
    """Px along a side of the blocks that a picture may be averaged over first, with spots of that radius in px."""
    return max(1, int(radius / _FINE))


def texture(image: Any, radius: float, stride: int, window: Window | None = None) -> NDArray[np.float32]:
    """Describe the surroundings of each block of a picture, or of a window of it.

    Optical density of each colour: mean and spread; gradient of their mean; energy of its grain (differences of
    Gaussians); each under Gaussian surroundings of 0.5 to 4 spot radii. Where pixels are far finer than spots, the
    picture is averaged over blocks (:func:`block_of`) first: such detail is finer than the finest grain.

    Parameters
    ----------
    image
        (3, y, x) uint8, numpy or lazy; read tile by tile.
    radius
        Radius of a spot in px.
    stride
        Side of the blocks in px, a multiple of ``block_of(radius)``.
    window
        Inside the picture; begins where a block does. What lies around it is seen, too.

    Returns
    -------
    (p, ceil(y / stride), ceil(x / stride)) features.
    """
    window = window or Window(0, 0, *image.shape[1:])
    block = block_of(radius)
    if stride % block:
        msg = f"Found a stride of {stride} px; expected a multiple of {block} px, over which the picture is averaged."
        raise ValueError(msg)
    height, width = (-(-side // stride) for side in window.shape)
    halo = math.ceil(_TRUNCATE * (_SCALES[-1] + _GRAINS[-1]) * radius) + stride
    out = np.empty((0, height, width), dtype=np.float32)
    for tile in plan_tiles(window.shape, size=_TILE * block, halo=halo, multiple=stride):
        view = tile.view.moved(window.y0, window.x0)
        features = _features(_averaged(image, view, block), radius / block, stride // block)
        if len(out) == 0:
            out = np.empty((len(features), height, width), dtype=np.float32)
        y, x = ((at - begin) // stride for at, begin in zip(_corner(tile.core), _corner(tile.view), strict=True))
        y0, x0 = tile.core.y0 // stride, tile.core.x0 // stride
        part = out[:, y0 : y0 - (-tile.core.shape[0] // stride), x0 : x0 - (-tile.core.shape[1] // stride)]
        part[:] = features[:, y : y + part.shape[1], x : x + part.shape[2]]
    return out


def _averaged(image: Any, window: Window, block: int) -> NDArray[np.float32]:
    """Read a window of a picture as (3, h, w) means of blocks, a strip at a time."""
    if block == 1:
        return read_window(image, window).astype(np.float32)
    height, width = (side // block for side in window.shape)
    out = np.empty((3, height, width), dtype=np.float32)
    for y in range(0, height, _STRIP):
        rows = min(_STRIP, height - y)
        y0 = window.y0 + y * block
        strip = read_window(image, Window(y0, window.x0, y0 + rows * block, window.x0 + width * block))
        for channel, fine in zip(out, strip, strict=True):
            channel[y : y + rows] = _blocks(fine.astype(np.float32), block)
    return out


def _features(picture: NDArray[np.float32], radius: float, stride: int) -> NDArray[np.float32]:
    means, squares, grey = [], [], np.zeros(picture.shape[1:], dtype=np.float32)
    for channel in picture:
        density = -np.log((channel + 1) / 256)
        means.append(_blocks(density, stride))
        squares.append(_blocks(density**2, stride))
        grey += density
    grey /= len(picture)
    slope = _blocks(ndimage.gaussian_gradient_magnitude(grey, max(0.7, 0.15 * radius), truncate=_TRUNCATE), stride)
    grains = list(_grains(grey, radius, stride))
    out = []
    for scale in _SCALES:
        sigma = scale * radius / stride
        for mean, square in zip(means, squares, strict=True):
            centre = _blurred(mean, sigma)
            out += [centre, np.sqrt(np.maximum(_blurred(square, sigma) - centre**2, 0))]
        out.append(_blurred(slope, sigma))
        out += [
            np.log(_blurred(grain, sigma) + _LEAST)
            for grain, widest in zip(grains, _GRAINS[1:], strict=True)
            if widest <= scale
        ]
    return np.stack(out)


def _grains(grey: NDArray[np.float32], radius: float, stride: int) -> Iterator[NDArray[np.float32]]:
    """Energy of the grain in each block, finest first; no more than two blurred pictures are in memory."""
    finer = _blurred(grey, _GRAINS[0] * radius)
    for grain in _GRAINS[1:]:
        coarser = _blurred(grey, grain * radius)
        yield _blocks((finer - coarser) ** 2, stride)
        finer = coarser


def _blurred(raster: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(raster, sigma, truncate=_TRUNCATE) if sigma > 0 else raster


def _blocks(raster: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Average blocks of ``side`` x ``side`` px; the raster measures whole blocks."""
    height, width = (length // side for length in raster.shape)
    return np.asarray(raster.reshape(height, side, width, side).mean(axis=(1, 3)))


def _corner(window: Any) -> tuple[int, int]:
    return window.y0, window.x0
