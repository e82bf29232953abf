"""What a stained picture looks like around each place: colour, spread and grain at several distances, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.tiles import plan_tiles, read_window

_SCALES = (0.5, 1.0, 2.0, 4.0)  # standard deviations of the surroundings, in spot radii
_GRAINS = (0.0, 0.12, 0.25, 0.5, 1.0)  # grain lies between one of these and the next, in spot radii
_TILE = 1024  # px
_TRUNCATE = 3.0  # standard deviations at which the Gaussians end
_LEAST = 1e-5  # energy of a picture without grain


def texture(image: Any, radius: float, stride: int) -> NDArray[np.float32]:
    """Describe the surroundings of each block of a picture.

    Optical density of each colour: mean and spread; gradient of their mean; energy of its grain (differences of
    Gaussians); each under Gaussian surroundings of 0.5 to 4 spot radii.

    Parameters
    ----------
    image
        (3, y, x) uint8, numpy or lazy; read tile by tile.
    radius
        Radius of a spot in px.
    stride
        Side of the blocks in px.

    Returns
    -------
    (p, ceil(y / stride), ceil(x / stride)) features.
    """
    height, width = (-(-side // stride) for side in image.shape[1:])
    halo = math.ceil(_TRUNCATE * (_SCALES[-1] + _GRAINS[-1]) * radius) + stride
    out = np.empty((0, height, width), dtype=np.float32)
    for tile in plan_tiles(image.shape[1:], size=_TILE, halo=halo, multiple=stride):
        features = _features(read_window(image, tile.view).astype(np.float32), radius, stride)
        if len(out) == 0:
            out = np.empty((len(features), height, width), dtype=np.float32)
        y, x = ((at - begin) // stride for at, begin in zip(_corner(tile.core), _corner(tile.view), strict=True))
        y0, x0 = tile.core.y0 // stride, tile.core.x0 // stride
        part = out[:, y0 : y0 - (-tile.core.shape[0] // stride), x0 : x0 - (-tile.core.shape[1] // stride)]
        part[:] = features[:, y : y + part.shape[1], x : x + part.shape[2]]
    return out


def _features(picture: NDArray[np.float32], radius: float, stride: int) -> NDArray[np.float32]:
    density = -np.log((picture + 1) / 256)
    grey = density.mean(axis=0)
    smooth = [_blurred(grey, grain * radius) for grain in _GRAINS]
    steepness = ndimage.gaussian_gradient_magnitude(grey, max(0.7, 0.15 * radius), truncate=_TRUNCATE)
    means = [_blocks(channel, stride) for channel in density]
    squares = [_blocks(channel**2, stride) for channel in density]
    slope = _blocks(steepness, stride)
    grains = [_blocks((a - b) ** 2, stride) for a, b in zip(smooth, smooth[1:], strict=False)]
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


def _blurred(raster: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(raster, sigma, truncate=_TRUNCATE) if sigma > 0 else raster


def _blocks(raster: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Average blocks of ``side`` x ``side`` px; the raster measures whole blocks."""
    height, width = (length // side for length in raster.shape)
    return np.asarray(raster.reshape(height, side, width, side).mean(axis=(1, 3)))


def _corner(window: Any) -> tuple[int, int]:
    return window.y0, window.x0
