"""The image at the resolution that is worked at, and the tissue in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._checks import require_positive
from sphisto._settings import logger
from sphisto.core.grid import SAME_SCALE, Grid
from sphisto.core.mask import Mask
from sphisto.core.resize import coarse_window
from sphisto.core.tiles import Window
from sphisto.io.image.colours import BYTE
from sphisto.io.image.pyramid import Pyramid
from sphisto.slide.tissue import edge_factor, find_tissue


def working_image(pyramid: Pyramid, native: Grid, um_per_px: float | None) -> tuple[Any, Grid, int]:
    """Return an image averaged over whole blocks of its finest pixels, as near to the wanted scale as they come.

    A few px that fill no block are cut off at the far edges.

    ``native`` is where its finest level lies; without ``um_per_px`` its own scale is wanted.

    Returns
    -------
    image
        (3, y, x) uint8, numpy or lazy (see :meth:`sphisto.io.image.pyramid.Pyramid.rgb`).
    grid
        Where it lies.
    block
        Finest pixels along a side of its pixels.
    """
    if um_per_px is not None:
        um_per_px = require_positive(um_per_px, "um_per_px")
    block = 1 if um_per_px is None else max(1, round(um_per_px / native.um_per_px))
    if um_per_px is not None and um_per_px < native.um_per_px / 1.5:
        logger.warning(
            "um_per_px=%g is finer than the image's %.3g; the image's own resolution is used. A finer one needs another `image`.",
            um_per_px, native.um_per_px,
        )  # fmt: skip
    height, width = native.height // block, native.width // block
    if min(height, width) < 1:
        msg = f"um_per_px={um_per_px:g} leaves no pixel of a {native.height} x {native.width} px image; choose less."
        raise ValueError(msg)
    if len(pyramid.levels) > 1:
        level = pyramid.level_for(block)
        logger.info("The image has %d resolutions; the one of %d x %d px is read.", len(pyramid.levels),
                    *pyramid.levels[level].shape[:2])  # fmt: skip
    fullres = (native.fullres_per_px[0] * block, native.fullres_per_px[1] * block)
    return pyramid.rgb(block), Grid(height, width, native.um_per_px * block, fullres), block


def tissue_in(pyramid: Pyramid, image: Any, grid: Grid, block: int = 1) -> Mask:
    """Find the tissue in an image on its grid: by a coarser level, if the pyramid has one that is fine enough.

    ``image``, ``grid`` and ``block`` are what :func:`working_image` made of it.
    """
    factor = edge_factor(grid.shape, grid.um_per_px)
    if pyramid.level_for(block * factor) == pyramid.level_for(block):
        return find_tissue(np.moveaxis(image, 0, -1), grid.um_per_px)
    thumbnail = pyramid.rgb(block * factor)
    found = find_tissue(np.moveaxis(thumbnail, 0, -1), grid.um_per_px * factor)
    sides = (found.px_per_block[0] * factor, found.px_per_block[1] * factor)
    return replace(found, shape=grid.shape, px_per_block=sides)


def resized_mask(tissue: Any, grid: Grid, block: int = 1) -> Mask:
    """Bring a mask of the whole image to a grid: what most of a pixel is, or the pixel of a coarser mask it lies in.

    ``grid`` and ``block`` are what :func:`working_image` made of the image.
    """
    mask = np.asarray(tissue)
    if mask.ndim != 2 or not mask.size:
        msg = f"Found a tissue mask of shape {mask.shape}; expected (y, x)."
        raise ValueError(msg)
    if mask.dtype.kind not in "buif" or (mask.dtype.kind == "f" and np.isnan(mask).any()):
        msg = (
            f"Found a tissue mask of {mask.dtype} {'with NaN' if mask.dtype.kind == 'f' else 'values'}; expected bool."
        )
        raise ValueError(msg)
    if all(side // block == own for side, own in zip(mask.shape, grid.shape, strict=True)):
        mask = mask[: grid.height * block, : grid.width * block]  # without what fills no block of the image
    proportion = (mask.shape[0] / mask.shape[1]) / (grid.height / grid.width)
    if abs(proportion - 1) > SAME_SCALE:
        msg = f"The tissue mask measures {mask.shape} px, the image {grid.shape}: their proportions differ."
        raise ValueError(msg)
    mask = mask.astype(bool, copy=False)
    ratio = (mask.shape[0] / grid.height, mask.shape[1] / grid.width)
    if min(ratio) <= 1:
        return Mask(mask, grid.shape, (1 / ratio[0], 1 / ratio[1]))

    def shades(window: Window) -> NDArray[np.uint8]:
        return np.where(mask[window.slices], np.uint8(BYTE), np.uint8(0))[..., None]

    whole = Window(0, 0, *grid.shape)
    return Mask(coarse_window(shades, whole, ratio=ratio, fine_shape=mask.shape)[..., 0] > BYTE // 2, grid.shape)
