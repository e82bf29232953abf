"""How pixels and numbers are put into a page: rasters in 8 bits of their square root, all else as it is; deflate, base64."""

from __future__ import annotations

import base64
import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 255
"""Highest code; a value is ``low + (high - low) * (code / TOP) ** 2``."""

_LEVEL = 7  # of deflate: 8 and 9 take three to five times as long for some percent


@dataclass(frozen=True, eq=False)
class Quantised:
    """A raster in codes of 8 bits, even steps of the square root: fine where values are small, as counts scatter less there.

    Parameters
    ----------
    codes
        (y, x) uint8, 0 where nothing is known.
    low, high
        Values of the codes 0 and 255, in the raster's unit.
    """

    codes: NDArray[np.uint8]
    low: float
    high: float

    @property
    def values(self) -> NDArray[np.float64]:
        """(y, x) values as a page reads them."""
        return self.low + (self.high - self.low) * (self.codes / TOP) ** 2


def quantised(values: NDArray[np.floating]) -> Quantised:
    """Quantise a (y, x) raster, NaN where nothing is known; each root is off by half a step at most.

    The step is the 255th part of the root's whole range, which begins at 0, or at the lowest value if that is negative.
    """
    known = np.isfinite(values)
    codes = np.zeros(values.shape, dtype=np.uint8)
    if not known.any():
        return Quantised(codes, 0.0, 0.0)
    found = values[known].astype(np.float64)
    low, high = min(0.0, float(found.min())), float(found.max())
    if high > low:
        codes[known] = np.rint(TOP * np.sqrt((found - low) / (high - low)))
    return Quantised(codes, low, max(high, low))


def block_means(values: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Mean of the known ones in each block of side x side px of a (y, x) raster, NaN where none is; the last may be cut off."""
    pad = [(0, -length % side) for length in values.shape]
    whole = np.pad(values.astype(np.float64), pad, constant_values=np.nan)
    blocks = whole.reshape(whole.shape[0] // side, side, whole.shape[1] // side, side)
    known = np.isfinite(blocks)
    n = known.sum(axis=(1, 3))
    return np.where(n > 0, np.where(known, blocks, 0).sum(axis=(1, 3)) / np.maximum(n, 1), np.nan)


def packed_codes(codes: NDArray[np.uint8], known: NDArray[np.bool_]) -> str:
    """Pack (y, x) codes where something is known, each as its difference from left + above - above left, modulo 256.

    Codes are 0 where nothing is known. Smooth rasters become small numbers, which deflate packs well.
    """
    around = np.pad(codes, ((1, 0), (1, 0)))
    foreseen = around[1:, :-1] + around[:-1, 1:] - around[:-1, :-1]
    return packed((codes - foreseen)[known])


def packed(array: NDArray[Any]) -> str:
    """Pack an array of numbers, little-endian: deflate, then base64."""
    return _packed(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())


def packed_text(text: str) -> str:
    """Pack a text."""
    return _packed(text.encode("utf-8"))


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, _LEVEL)).decode("ascii")


def jpeg(rgb: NDArray[np.floating], *, quality: int = 85) -> str:
    """Turn (y, x, 3) colours in 0 to 1 into a JPEG, in base64."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(file, "JPEG", quality=quality, optimize=True)
        return base64.b64encode(file.getvalue()).decode("ascii")
