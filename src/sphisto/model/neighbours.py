"""The prior: what the neighbouring spots and the texture of the picture say of each place, as maps of factor density."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.interpolate import choose_width, gaussian_weights
from sphisto.core.kriging import Kriging, fit_kriging
from sphisto.core.texture import texture

if TYPE_CHECKING:
    from sphisto.core.slide import Slide
    from sphisto.core.tiles import Window

_LEAST_TISSUE = 0.25  # share of a spot; its density is not blown up beyond fourfold for lying at the tissue's edge
_PER_PITCH = 4  # the prior is computed at this many points per pitch at least, and drawn out in between
_COARSEST = 8  # px
_MOST_KRIGED = 4_000  # spots; the covariance takes the square of them in memory and the cube in time
_LEAST_KRIGED = 20  # spots; fewer do not tell a covariance
_LEAST_FEATURE = 0.02  # of the largest principal component of the texture
_EXTREME = 4.0  # standard deviations over spots beyond which the texture of a place is not believed
_LEAST_SHARE = 1e-3  # of the mean density: the network multiplies, and nothing comes of zero


class Prior(Protocol):
    """What the rest knows of a prior."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """(K,) what is said where nothing is known."""

    @property
    def stride(self) -> int:
        """Px between the points of the maps."""

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        """Let only the kept spots speak."""

    def prior(self, window: Window) -> NDArray[np.float32]:
        """(K, h / stride, w / stride) density at the middles of blocks of a window."""


@dataclass(frozen=True, eq=False)
class Nothing:
    """No spot speaks: the same everywhere."""

    mean: NDArray[np.float64]
    stride: int

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        return self

    def prior(self, window: Window) -> NDArray[np.float32]:
        return _maps(
            np.broadcast_to(self.mean, (len(_points(window, self.stride)), len(self.mean))), window, self.stride
        )


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Gaussian-weighted averages of the spots around, where there are too many spots for kriging, or too few.

    Parameters
    ----------
    centers
        (n, 2) centres in px.
    density
        (n, K) factor values per spot area of tissue.
    width
        Standard deviation of the Gaussian weights in px.
    """

    mean: NDArray[np.float64]
    stride: int
    centers: NDArray[np.float64]
    density: NDArray[np.float64]
    width: float

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        if not kept.any():
            return Nothing(self.mean, self.stride)
        return replace(self, centers=self.centers[kept], density=self.density[kept])

    def prior(self, window: Window) -> NDArray[np.float32]:
        points = _points(window, self.stride)
        return _maps(gaussian_weights(points, self.centers, self.width) @ self.density, window, self.stride)


@dataclass(frozen=True, eq=False)
class Kriged:
    """Co-kriged square roots of the densities: roots even out the noise of counts.

    Parameters
    ----------
    known
        (n,) bool: the spots of the slide that the field was fitted to.
    field
        Kriging of the known spots.
    weights
        Weights of the known spots.
    texture
        (p, y / stride, x / stride) texture of the whole slide, scaled as ``field`` wants it.
    gain
        (K,) factor that makes the field right on average: a square of a mean is less than the mean of squares.
    hidden_gain
        The same for places whose spot is hidden, as they are when some spots are: less is known there.
    """

    mean: NDArray[np.float64]
    stride: int
    known: NDArray[np.bool_]
    field: Kriging
    weights: NDArray[np.floating]
    texture: NDArray[np.float32]
    gain: NDArray[np.float64]
    hidden_gain: NDArray[np.float64]

    def of(self, kept: NDArray[np.bool_]) -> Prior:
        if not (kept & self.known).any():
            return Nothing(self.mean, self.stride)
        hidden = ~kept[self.known]
        return replace(self, weights=self.field.weights(hidden), gain=self.hidden_gain if hidden.any() else self.gain)

    def prior(self, window: Window) -> NDArray[np.float32]:
        points = _points(window, self.stride)
        at = points.T / self.stride - 0.5
        drift = np.stack(
            [ndimage.map_coordinates(plane, at, order=1, mode="nearest") for plane in self.texture], axis=1
        )
        roots = self.field.at(points, drift, self.weights)
        return _maps(_density(roots, self.gain, self.mean), window, self.stride)


def make_prior(
    slide: Slide, factor_values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[Prior, NDArray[np.float64]]:
    """Make the prior of a slide from the (n, K) factor values of its ``known`` spots.

    Also returns the (n, K) densities of all spots. Its free numbers are chosen by leaving out one known spot at a time.
    """
    share = np.nan_to_num(slide.footprint().mean(slide.tissue.astype(np.float32))[:, 0])
    density = factor_values / np.clip(share, _LEAST_TISSUE, 1)[:, None]
    centers, pitch = slide.spots.centers, slide.spots.pitch
    stride, mean = prior_stride(pitch), density[known].mean(axis=0)
    if not _LEAST_KRIGED <= known.sum() <= _MOST_KRIGED:
        width = choose_width(centers[known], density[known], pitch)
        return Neighbours(mean, stride, centers, density, width), density
    maps, at_spots = _scaled_texture(slide, stride, known)
    field = fit_kriging(centers[known], at_spots[known], np.sqrt(density[known]), pitch)
    hidden, seen = (np.square(np.maximum(f, 0)).mean(axis=0) for f in (field.left_out(), field.at_spots()))
    # once all spots are known, places lie at spots and as far from them as a left-out one
    gain, hidden_gain = (np.clip(mean / np.maximum(told, 1e-12), 0.5, 2) for told in ((hidden + seen) / 2, hidden))
    nobody = np.zeros(int(known.sum()), dtype=bool)
    return Kriged(mean, stride, known, field, field.weights(nobody), maps, gain, hidden_gain), density


def prior_stride(pitch: float) -> int:
    """Return the largest power of two up to 8 px that still puts four points into a pitch."""
    stride = _COARSEST
    while stride > 1 and stride * _PER_PITCH > pitch:
        stride //= 2
    return stride


def nothing_known(mean: NDArray[np.float64]) -> Prior:
    """Make the prior of a slide without spots."""
    return Nothing(mean, _COARSEST)


def _scaled_texture(
    slide: Slide, stride: int, known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Texture of the slide and of its (n,) spots in principal components, of a mean squared length of 1 at the known."""
    um_per_px = slide.grid.um_per_px
    raw = texture(slide.image, slide.spot.um / um_per_px / 2, stride)
    spots = slide.spot.footprint(raw.shape[1:], slide.spots.centers / stride, um_per_px * stride)
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


def _density(roots: NDArray[np.floating], gain: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.floating]:
    return np.maximum(np.square(np.maximum(roots, 0)) * gain, _LEAST_SHARE * mean)


def _points(window: Window, stride: int) -> NDArray[np.float64]:
    """(m, 2) middles of the blocks of a window."""
    height, width = (side // stride for side in window.shape)
    y = window.y0 + (np.arange(height) + 0.5) * stride
    x = window.x0 + (np.arange(width) + 0.5) * stride
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


def _maps(values: NDArray[np.floating], window: Window, stride: int) -> NDArray[np.float32]:
    height, width = (side // stride for side in window.shape)
    return np.ascontiguousarray(values.T.reshape(-1, height, width), dtype=np.float32)
