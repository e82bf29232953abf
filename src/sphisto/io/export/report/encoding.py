"""How pixels and numbers are put into a page: rasters in 8 bits of their square root, all else as it is; deflate, text."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP = 255
"""Highest code; a value is ``low + (high - low) * (code / TOP) ** 2``."""

_LEVEL = 7  # of deflate: 8 and 9 take three to five times as long for some percent
_AROUND = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (1, 2), (2, 1), (2, -1), (1, -2), (2, 2), (2, -2))
"""Neighbours that predict a pixel: rows above and columns to the left of it; all come before it."""
_ROWS = _COLUMNS = 2  # that neighbours are away, at most
_TOGETHER, _CHARACTERS = 13, 91  # bits in two characters, of so many: 91 * 91 is just above 2 ** 13
_BITS = 12
_ONE = 1 << _BITS  # weights are whole numbers of such parts, so that a page comes to the same sums
_CLASSES = 16
_LEVELS = (4, 6, 16)  # of differences, of which a byte holds four, three, two: from smooth to rough rasters
_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)  # texture does not repeat itself, but an empty raster does


@dataclass(frozen=True, eq=False)
class Quantised:
    """A raster in codes of 8 bits, even steps of the square root: fine where values are small, as counts scatter less there."""

    codes: NDArray[np.uint8]  # (y, x) uint8, 0 where nothing is known
    # low, high: values of the codes 0 and 255, in the raster's unit
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


@dataclass(frozen=True, eq=False)
class Packed:
    """Codes of a raster, packed: what a page needs to predict each pixel, and how far each is from that."""

    # differences from what was predicted, in deflate: those of the first class, of the second and so on, then the
    # differences, modulo 256, of pixels that lie too far off for a level
    text: str
    weights: tuple[int, ...]  # of the neighbours, and a constant, in parts of 4096
    # differences go from 1 - levels // 2 on; the last level says that it lies further off. As many as fit into a byte
    # are in a byte, the first in its lowest digit
    levels: int
    ends: tuple[int, ...]  # where each class ends, in bytes


def packed_codes(codes: NDArray[np.uint8], known: NDArray[np.bool_]) -> Packed:
    """Pack (y, x) codes where something is known, each as its difference from what 12 neighbours predict.

    The weights of the neighbours are those that predict the raster best: over so many, the rounding of the codes averages
    out. What is predicted lies between two codes; how far from the nearest one makes the class of a pixel, as differences
    are nearly always 0 where it is close. Pixels where nothing is known count as what is above them.

    Deflate spends at least a bit on a byte, and a pixel of a smooth raster holds less, so that several share a byte.
    A lossless WebP of three genes takes more than half as much again, and browsers that guard against fingerprinting alter
    what a script reads from a picture.
    """
    known = np.pad(known, ((_ROWS, 0), (_COLUMNS, _COLUMNS)))
    codes = _downwards(np.pad(codes, ((_ROWS, 0), (_COLUMNS, _COLUMNS))), known)
    inner = (slice(_ROWS, None), slice(_COLUMNS, -_COLUMNS))
    found, around = codes[inner][known[inner]], [_shifted(codes, *at)[known[inner]] for at in _AROUND]
    inside = np.logical_and.reduce([_shifted(known, *at)[known[inner]] for at in _AROUND])
    weights = _weights(found[inside], [each[inside] for each in around])
    predicted = np.full(len(found), weights[-1] + _ONE // 2, dtype=np.int32)
    for weight, neighbour in zip(weights, around, strict=False):
        predicted += np.int32(weight) * neighbour
    classes = ((predicted & (_ONE - 1)) // (_ONE // _CLASSES)).astype(np.uint8)
    order = np.argsort(classes, kind="stable")
    differences = (found - (predicted >> _BITS))[order]
    counts = np.bincount(classes, minlength=_CLASSES)
    coded = {levels: _coded(differences, order, counts, levels) for levels in _LEVELS}
    levels = min(coded, key=lambda each: len(coded[each][0]))
    return Packed(as_text(coded[levels][0]), weights, levels, coded[levels][1])


def _downwards(codes: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Each unknown pixel becomes the one above it, and 0 in the first row."""
    rows = np.maximum.accumulate(np.where(known, np.arange(len(codes))[:, None], 0), axis=0)
    return np.take_along_axis(np.where(known, codes, np.uint8(0)), rows, axis=0)


def _shifted(padded: NDArray[Any], up: int, left: int) -> NDArray[Any]:
    height, width = padded.shape
    return padded[_ROWS - up : height - up, _COLUMNS - left : width - _COLUMNS - left]


def _weights(found: NDArray[np.uint8], around: Sequence[NDArray[np.uint8]]) -> tuple[int, ...]:
    """Weights of neighbours, and a constant, of the least squared differences, in whole parts of 4096."""
    most_fitted = 60_000  # pixels that weights are fitted to
    some = slice(None, None, len(found) // most_fitted + 1)
    x = np.stack([*(each[some] for each in around), np.ones_like(found[some])], axis=1).astype(np.float64)
    solved = np.linalg.lstsq(x, found[some].astype(np.float64), rcond=None)[0]
    # no sum of these leaves 32 bits, whatever was solved
    return tuple(int(weight) for weight in np.rint(np.clip(solved, -8, 8) * _ONE))


def _coded(
    differences: NDArray[Any], order: NDArray[Any], counts: NDArray[Any], levels: int
) -> tuple[bytes, tuple[int, ...]]:
    """Deflated differences in that many levels, and the end of each class in bytes."""
    per_byte = int(np.log(256) / np.log(levels))
    symbols = differences + (levels // 2 - 1)
    far = (symbols < 0) | (symbols >= levels - 1)
    symbols = np.where(far, levels - 1, symbols).astype(np.uint8)
    parts = []
    for part in np.split(symbols, np.cumsum(counts)[:-1]):
        digits = np.pad(part, (0, -len(part) % per_byte)).reshape(-1, per_byte)
        parts.append((digits * levels ** np.arange(per_byte)).sum(axis=1).astype(np.uint8))
    ends = np.cumsum([len(part) for part in parts])
    outliers = differences[far][np.argsort(order[far])].astype(
        np.uint8
    )  # in the order of pixels, as a page comes by them
    return min((_deflated([*parts, outliers], strategy) for strategy in _STRATEGIES), key=len), tuple(
        int(end) for end in ends
    )


def _deflated(parts: Sequence[NDArray[np.uint8]], strategy: int) -> bytes:
    """Deflate arrays one after another, each with a code of its own: classes are far from alike."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return (
        b"".join(packer.compress(part.tobytes()) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts) + packer.flush()
    )


def packed(array: NDArray[Any]) -> str:
    """Pack an array of numbers, little-endian: deflate, then base64."""
    return _packed(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())


def packed_text(text: str) -> str:
    """Pack a text."""
    return _packed(text.encode("utf-8"))


def _packed(data: bytes) -> str:
    return as_text(zlib.compress(data, _LEVEL))


def as_text(data: bytes) -> str:
    """Write 13 bits, the highest first, in two of 91 characters: 23 % more characters than bytes, where base64 has 33 %.

    The characters are those from # to }, with ! in the place of <, so that none can end an element ``script``. A single
    one at the end says that the last whole byte is none of the data.
    """
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    groups = np.pad(bits, (0, -len(bits) % _TOGETHER)).reshape(-1, _TOGETHER) @ (1 << np.arange(_TOGETHER)[::-1])
    pairs = np.stack(np.divmod(groups, _CHARACTERS), axis=1) + ord("#")
    text = pairs.astype(np.uint8).tobytes().replace(b"<", b"!").decode("ascii")
    return text + "#" * (len(groups) * _TOGETHER // 8 - len(data))


def jpeg(rgb: NDArray[np.floating], *, quality: int = 85) -> str:
    """Turn (y, x, 3) colours in 0 to 1 into a JPEG, and pack it."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(file, "JPEG", quality=quality, optimize=True)
        return _packed(file.getvalue())
