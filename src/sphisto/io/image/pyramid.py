"""An image in one or several resolutions, of which windows are read; whole slides never lie in memory.

An image at some resolution is made of the coarsest level that is still as fine, the rest by area-true resizing
(:mod:`sphisto.core.resize`), block by block. An image in memory goes the same way, with itself as the only level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os import PathLike
from threading import BoundedSemaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import unmasked
from sphisto.core.resize import coarse_window
from sphisto.core.tiles import Window
from sphisto.io.image.channels import colour_order, named_alpha
from sphisto.io.image.config import PyramidConfig
from sphisto.io.image.pillow import mode_of
from sphisto.io.image.rgb import Alpha, Conversion, channels_last, conversion_of

_CHANNEL_DIMS = frozenset({"c", "channel", "channels", "s", "band", "bands", "rgb", "rgba"})
_FILL = "Fill what is masked, for instance with white (`image.filled(255)`, `dask.array.ma.filled(image, 255)`)."


@dataclass(frozen=True, eq=False)
class Pyramid:
    """An image in one or several resolutions."""

    # finest first, each (y, x, c) with shape, dtype and windows by level[rows, columns]: numpy, dask, zarr or what
    # sphisto.io.image.open.open_image makes of files
    levels: tuple[Any, ...]
    token: str = ""  # what names the pixels: two pyramids with one token hold the same
    notes: tuple[str, ...] = ()  # what was done to the pixels to have these levels
    alpha: Alpha | None = None  # what the source states about a fourth channel; None if nothing
    config: PyramidConfig = PyramidConfig()  # how its images of other resolutions are made

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the finest level in pixels."""
        height, width = self.levels[0].shape[:2]
        return int(height), int(width)

    @cached_property
    def conversion(self) -> Conversion:
        """How its values become 8-bit RGB."""
        overview = self.levels[-1] if len(self.levels) > 1 else None
        return conversion_of(
            self.levels[0], notes=self.notes, alpha=self.alpha, overview=overview, config=self.config.colours
        )

    @cached_property
    def factors(self) -> tuple[tuple[float, float], ...]:
        """Finest pixels per pixel of each level along (y, x)."""
        return tuple(_factors(self.shape, level.shape[:2]) for level in self.levels)

    def level_for(self, factor: float) -> int:
        """Return the coarsest level with pixels no larger than ``factor`` of the finest."""
        return max(i for i, own in enumerate(self.factors) if i == 0 or max(own) <= factor * self.config.as_fine)

    def rgb(self, factor: int = 1) -> Any:
        """Return the image with pixels of ``factor`` x ``factor`` of the finest; the last that fill none are cut off.

        Returns
        -------
        (3, y, x) uint8: numpy if the level was in memory or the result takes no more than 64 MB, else a dask array of
        which blocks are made when windows are read, and the last 32 MB of them kept.
        """
        height, width = (side // factor for side in self.shape)
        source = self.levels[self.level_for(factor)]
        fine_y, fine_x = self.factors[self.level_for(factor)]
        convert = self.conversion
        shape, ratio = source.shape[:2], (factor / fine_y, factor / fine_x)

        def fine(window: Window) -> NDArray[np.uint8]:
            return convert(_pixels(source, window))

        def coarse(window: Window) -> NDArray[np.uint8]:
            return coarse_window(fine, window, ratio=ratio, fine_shape=shape)

        if isinstance(source, np.ndarray) or 3 * height * width <= self.config.kept:
            return np.moveaxis(coarse(Window(0, 0, height, width)), -1, 0)
        from dask.array import from_array
        from dask.base import tokenize

        blocks = Blocks(coarse, (height, width), self.config)
        name = f"image-{tokenize(self.token, factor)}" if self.token else False
        return from_array(blocks, chunks=(3, self.config.chunk, self.config.chunk), name=name)


class Blocks:
    """A (3, y, x) uint8 image that is made block by block when windows of it are read; the last blocks are kept.

    ``make`` gives a window as (h, w, 3), and is called from several threads; ``shape`` is (height, width) in pixels.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(
        self,
        make: Callable[[Window], NDArray[np.uint8]],
        shape: tuple[int, int],
        config: PyramidConfig = PyramidConfig(),
    ) -> None:
        self.shape = (3, *shape)
        self._make, self._side, self._room = make, config.block, BoundedSemaphore(config.at_once)
        self._block = lru_cache(maxsize=max(1, config.kept_blocks // (3 * config.block**2)))(self._made)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.uint8]:
        channels, rows, columns = key
        (y0, y1, _), (x0, x1, _) = rows.indices(self.shape[1]), columns.indices(self.shape[2])
        out = np.empty((3, max(y1 - y0, 0), max(x1 - x0, 0)), dtype=np.uint8)
        side = self._side
        for y in range(y0 // side * side, y1, side):
            for x in range(x0 // side * side, x1, side):
                part = self._block(y, x)[max(y0 - y, 0) : y1 - y, max(x0 - x, 0) : x1 - x]
                at_y, at_x = max(y - y0, 0), max(x - x0, 0)
                out[:, at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = np.moveaxis(part, -1, 0)
        return out[channels]

    def _made(self, y: int, x: int) -> NDArray[np.uint8]:
        with self._room:
            return self._make(Window(y, x, min(y + self._side, self.shape[1]), min(x + self._side, self.shape[2])))


def as_pyramid(image: Any) -> Pyramid:
    """Take an image in any form, as one level unless it has several.

    Parameters
    ----------
    image
        A pyramid; an image element of SpatialData or another ``DataArray`` or ``DataTree`` of xarray, whose axes are
        recognised by their names; an image of Pillow; a dask array, or what ``numpy.asarray`` takes: (y, x),
        (y, x, 1 | 3 | 4) or (1 | 3 | 4, y, x). Where both ends of the shape could be channels, the last is taken.
    """
    if isinstance(image, Pyramid):
        return image
    if isinstance(image, str | bytes | PathLike) or (hasattr(image, "read") and not hasattr(image, "shape")):
        msg = (
            f"Found {type(image).__name__} in place of an image. Expected an array, a DataArray or DataTree, or an image of "
            "Pillow; give the path of a file as `image=`, or open it with `PIL.Image.open`."
        )
        raise TypeError(msg)
    if isinstance(image, np.ndarray) or _is_dask(image):
        return _of_array(image)
    if hasattr(image, "getbands") and hasattr(image, "convert"):  # of Pillow, which need not be loaded to recognise it
        mode = mode_of(image)
        return Pyramid((mode.array(image),), notes=(mode.note,) if mode.note else ())
    if hasattr(image, "data_vars") or (hasattr(image, "dims") and hasattr(image, "isel")):
        return _of_xarray(image)
    array = np.asarray(image)
    if array.dtype.kind in "OUS":
        msg = f"Found {type(image).__name__} in place of an image; expected an array of numbers."
        raise TypeError(msg)
    return _of_array(array)


def _of_array(array: Any) -> Pyramid:
    if isinstance(array, np.ma.MaskedArray):
        array = unmasked(array, "the image", _FILL)
    level, moved = channels_last(array)
    return Pyramid((level,), str(level.name) if _is_dask(level) else "", (moved,) if moved else ())


def _of_xarray(element: Any) -> Pyramid:
    """Read a DataArray, or each scale of a DataTree, by the names of its axes."""
    from xarray import DataArray, Variable

    if isinstance(element, Variable):
        element = DataArray(element)
    arrays = [element] if isinstance(element, DataArray) else _scales(element)
    if not arrays:
        msg = f"Found no image in {type(element).__name__}; expected one of SpatialData, with its scales."
        raise ValueError(msg)
    first = arrays[0]
    if first.ndim in (2, 3) and all(str(dim).startswith("dim_") for dim in first.dims):
        return _of_array(first.data)  # xarray named its axes itself
    channel = next((dim for dim in first.dims if str(dim).lower() in _CHANNEL_DIMS), None)
    names = first.coords[channel].values.tolist() if channel in first.coords else None
    levels = [_by_names(array, channel) for array in arrays]
    order, note = colour_order(levels[0].shape[2], names, f"The image of shape {first.shape} along {first.dims}")
    if order != sorted(order):
        levels = [level[:, :, order] for level in levels]
    token = str(levels[0].name) if _is_dask(levels[0]) else ""
    return Pyramid(tuple(levels), token, (note,) if note else (), named_alpha(len(order), names))


def _scales(element: Any) -> Sequence[Any]:
    """Return the image of each scale of a DataTree or Dataset, finest first."""
    nodes = [element, *getattr(element, "children", {}).values()]
    arrays = []
    for node in nodes:
        found = list(node.data_vars.values())
        if len(found) > 1:
            msg = (
                f"Found {len(found)} variables in place of an image: {', '.join(map(str, node.data_vars))}. Choose one."
            )
            raise ValueError(msg)
        arrays += found
    return sorted(arrays, key=lambda array: -array.size)


def _by_names(array: Any, channel: Any) -> Any:
    """Return pixels as (y, x, c)."""
    known = {str(dim).lower(): dim for dim in array.dims}
    others = [dim for dim in array.dims if dim != channel and str(dim).lower() not in {"y", "x"}]
    if not {"y", "x"} <= set(known) or any(array.sizes[dim] != 1 for dim in others) or not array.size:
        msg = (
            f"An image of shape {array.shape} along {', '.join(map(str, array.dims))} has not the axes of one. Expected "
            "y, x and perhaps c; choose one plane of a stack, or rename the axes, before passing it."
        )
        raise ValueError(msg)
    plane = array.isel(dict.fromkeys(others, 0))
    axes = [known["y"], known["x"]] + ([] if channel is None else [channel])
    pixels = plane.transpose(*axes).data
    pixels = pixels if _is_dask(pixels) else np.asarray(pixels)
    return pixels if channel is not None else pixels[:, :, None]


def _is_dask(image: Any) -> bool:
    return hasattr(image, "dask") and hasattr(image, "map_blocks")


def _pixels(level: Any, window: Window) -> NDArray[Any]:
    part = level[window.slices]
    if not _is_dask(part):
        return np.asarray(part)
    try:
        # blocks are already made by several threads: a pool within each of them would multiply what is in memory
        pixels = part.compute(scheduler="synchronous")
    except RuntimeError as error:  # codecs report no more than that they failed
        msg = (
            f"The image cannot be read at {window} ({error}): the file or store it comes from is damaged. Copy it again "
            "from where it came, or choose another `image`."
        )
        raise ValueError(msg) from error
    masked = isinstance(pixels, np.ma.MaskedArray)
    return unmasked(pixels, f"the image at {window}", _FILL) if masked else np.asarray(pixels)


def _factors(finest: tuple[int, ...], level: tuple[int, ...]) -> tuple[float, float]:
    """Return finest pixels per pixel of a level: a whole number if rounding explains its sides, else their ratio."""
    ratios = [fine / own for fine, own in zip(finest, level, strict=True)]
    whole = round(min(ratios))
    if all(own in (fine // whole, -(-fine // whole)) for fine, own in zip(finest, level, strict=True)):
        return float(whole), float(whole)
    return ratios[0], ratios[1]
