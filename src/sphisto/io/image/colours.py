"""Colours that are stored in another way than as red, green and blue, converted block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTE = 255  # white of 8 bits
# to linear sRGB from CIE XYZ under D50, the white of print; adapted after Bradford, as colour management does it
_SRGB_OF_XYZ = np.array([
    [3.1338561, -1.6168667, -0.4906146],
    [-0.9787684, 1.9161415, 0.0334540],
    [0.0719453, -0.2289914, 1.4052427],
])  # fmt: skip
_D50 = np.array([0.9642, 1.0, 0.8251])
_KNEE = 6 / 29  # of the cube root in CIE L*a*b*, below which it is a line


@dataclass(frozen=True, eq=False)
class Recoloured:
    """A level whose windows are converted as they are read."""

    level: Any  # what is stored, (y, x, samples)
    convert: Callable[[NDArray[Any]], NDArray[Any]]  # turns a block of it into (y, x, channels)
    # channels, dtype: of what comes out
    channels: int
    dtype: np.dtype[Any]

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, c)."""
        height, width = self.level.shape[:2]
        return int(height), int(width), self.channels

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        part = self.level[key]
        if hasattr(part, "dask"):
            # windows are read by several threads: a pool within each would multiply what is in memory
            part = part.compute(scheduler="synchronous")
        return self.convert(np.asarray(part))


def from_palette(indices: NDArray[Any], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Look up (..., 1) indices in a palette (n, 3)."""
    return palette[np.minimum(indices[..., 0], len(palette) - 1)]


def from_cmyk(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Multiply what cyan, magenta, yellow (each with black) let through; 0 is no ink."""
    from PIL import Image

    return np.asarray(Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes()).convert("RGB"))


def from_ycbcr(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn brightness and two differences of colour, of full range as in JPEG, into RGB."""
    y, cb, cr = np.moveaxis(values.astype(np.float32), -1, 0)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    return np.asarray(np.rint(rgb.clip(0, BYTE)), dtype=np.uint8)


def from_lab(values: NDArray[Any], *, signed: bool) -> NDArray[np.uint8]:
    """Turn CIE L*a*b* under D50, of 8 or 16 bits, into sRGB.

    ``signed`` says whether a* and b* are signed numbers (CIELAB of TIFF), or have their zero in the middle (ICCLAB).
    """
    bits = values.dtype.itemsize * 8
    lightness = values[..., 0] * np.float32(100 / (2**bits - 1))
    colour = np.ascontiguousarray(values[..., 1:])
    if signed:
        opponents = colour.view(f"i{bits // 8}").astype(np.float32)
    else:
        opponents = colour.astype(np.float32) - 2 ** (bits - 1)
    opponents = opponents / np.float32(2 ** (bits - 8))  # steps of a* and b* are 1 in 8 bits, 1/256 in 16
    y = (lightness + 16) / 116
    roots = np.stack([y + opponents[..., 0] / 500, y, y - opponents[..., 1] / 200], axis=-1)
    xyz = _D50 * np.where(roots > _KNEE, roots**3, (roots - 4 / 29) * 3 * _KNEE**2)
    linear = np.clip(xyz @ _SRGB_OF_XYZ.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(srgb * BYTE), dtype=np.uint8)


def spread(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Spread unsigned values of an odd number of bits over all of a byte, or of two."""
    full = 8 if bits < 8 else 16
    ratio = (2**full - 1) / (2**bits - 1)
    return np.asarray(np.rint(values * np.float64(ratio)), dtype=f"u{full // 8}")


def to_byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Round unsigned values of 16 bits to 8; those of 8 stay."""
    return values if values.dtype == np.uint8 else np.asarray(np.rint(values / np.float32(257)), dtype=np.uint8)
