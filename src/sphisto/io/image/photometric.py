"""What the samples of a tif are: how each photometric interpretation becomes grey, RGB or RGBA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from sphisto.io.image.channels import MULTI_CHANNEL
from sphisto.io.image.colours import Recoloured, from_cmyk, from_lab, from_palette, from_ycbcr, spread, to_byte
from sphisto.io.image.rgb import Alpha

_GREY = (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK)
_N_COLOURS: dict[int, int] = {
    PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.PALETTE: 1,
    PHOTOMETRIC.SEPARATED: 4,
    PHOTOMETRIC.YCBCR: 3,
    PHOTOMETRIC.CIELAB: 3,
    PHOTOMETRIC.ICCLAB: 3,
}
_JPEG = frozenset({COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.ALT_JPEG, COMPRESSION.JPEG_LOSSY})
"""Compressions of which the decoder gives RGB itself, as it does for WebP."""
_ALPHA: dict[int, Alpha] = {EXTRASAMPLE.ASSOCALPHA: "premultiplied", EXTRASAMPLE.UNASSALPHA: "straight"}
_CMYK = 1  # of the tag InkSet
_WHOLE_BITS = (1, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Samples:
    """How what a tif stores becomes grey, RGB or RGBA."""

    # turns blocks (y, x, samples) into (y, x, channels); None if they are so already
    convert: Callable[[NDArray[Any]], NDArray[Any]] | None
    # channels, dtype: of what comes out
    channels: int
    dtype: np.dtype[Any]
    alpha: Alpha | None = None  # what the file states about a fourth channel; None if nothing
    notes: tuple[str, ...] = ()  # what is done

    def of(self, level: Any) -> Any:
        """Return a level that gives converted blocks."""
        return level if self.convert is None else Recoloured(level, self.convert, self.channels, self.dtype)


def samples_of(frame: Any, n_pages: int = 1, order: Sequence[int] | None = None) -> Samples:
    """Find out what the samples of a tif are.

    From what tifffile knows of its page; of ``n_pages`` that are channels of one image, ``order`` says where red,
    green, blue (and alpha) lie, if they have names.
    """
    kind, n_samples = int(frame.photometric), int(frame.samplesperpixel) * n_pages
    if frame.dtype is None or frame.dtype.kind not in "buif":
        msg = f"holds samples of {_bits(frame)} bits and format {frame.sampleformat}; expected integers or floats"
        raise ValueError(msg)
    if n_pages > 1:
        if kind not in _GREY:
            raise ValueError(_not_read(frame, "as one of several channels"))
        n_colours, alpha_at, alpha, left_out = n_samples, None, None, 0
    else:
        n_colours, alpha_at, alpha, left_out = _extra(frame, kind, n_samples)
    colours, dtype, note = _colours(frame, kind, n_colours)
    notes = [note] if note else []
    if n_pages > 1:
        notes.append(f"its {n_pages} channels were taken for red, green, blue{' and alpha' * (n_pages == 4)}")
    elif kind in _GREY and n_colours > 1:
        notes.append(
            f"its {n_colours} samples without meaning were taken for red, green, blue{' and alpha' * (n_colours == 4)}"
        )
    if left_out:
        notes.append(f"{left_out} extra sample{'s' * (left_out > 1)} without meaning left out")
    n_plain = 3 if kind not in _GREY else n_colours
    in_order = order is not None and list(order) != sorted(order)
    if colours is None and alpha_at is None and not left_out and not in_order:
        return Samples(None, n_plain, dtype, alpha, tuple(notes))
    if colours is None and not in_order and alpha_at == n_colours == 3 and not left_out:  # the usual RGBA
        return Samples(None, 4, dtype, alpha, tuple(notes))
    bits = _bits(frame)

    def convert(block: NDArray[Any]) -> NDArray[Any]:
        plain = block[..., :n_colours] if colours is None else colours(block[..., :n_colours])
        if in_order:
            plain = plain[..., order]
        if alpha_at is None:
            return plain
        if plain.shape[-1] == 1:
            plain = np.repeat(plain, 3, axis=-1)
        through = block[..., alpha_at : alpha_at + 1]
        through = spread(through, bits) if bits not in _WHOLE_BITS else through
        through = through if through.dtype == plain.dtype else to_byte(through)
        return np.concatenate([plain, through], axis=-1)

    return Samples(convert, n_plain if alpha_at is None else 4, dtype, alpha, tuple(notes))


def decodes_samples(frame: Any) -> bool:
    """Whether tifffile can unpack the samples of a page with what is installed."""
    from importlib.util import find_spec

    if frame.is_subsampled and (int(frame.compression) not in _JPEG or int(frame.planarconfig) != 1):
        return False
    return _bits(frame) in _WHOLE_BITS or find_spec("imagecodecs") is not None


def _extra(frame: Any, kind: int, n_samples: int) -> tuple[int, int | None, Alpha | None, int]:
    """Return the number of colours, where alpha is and of which kind, and how many samples are left out."""
    extras = [int(extra) for extra in frame.extrasamples or ()]
    n_colours = _N_COLOURS.get(kind, n_samples - len(extras))
    if kind in _GREY and n_samples in (3, 4) and not any(extras):
        return n_samples, None, None, 0  # programs that do not know colours write them like this
    grey = kind in _GREY
    if n_samples < n_colours or (grey and n_colours != 1) or (grey and extras and not any(extras)):
        msg = (
            f"holds {n_samples} samples per pixel, of which {len(extras)} are extra, as photometric {_name(frame)}. "
            f"{MULTI_CHANNEL}; expected grey, RGB or RGBA. Save the channel to use as a grey image, or compose an RGB "
            "image of them"
        )
        raise ValueError(msg)
    extras = (extras or [EXTRASAMPLE.UNASSALPHA] * (n_samples - n_colours))[
        : n_samples - n_colours
    ]  # extra samples of no stated kind are alpha
    at = next((i for i, extra in enumerate(extras) if extra in _ALPHA), None)
    if at is None:
        return n_colours, None, None, len(extras)
    return n_colours, n_colours + at, _ALPHA[extras[at]], len(extras) - 1


def _colours(
    frame: Any, kind: int, n_colours: int
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]] | None, np.dtype[Any], str | None]:
    """Return what turns the colours into grey or RGB, the type they get, and a note."""
    dtype, bits, byte = np.dtype(frame.dtype).newbyteorder("="), _bits(frame), np.dtype(np.uint8)
    compression = int(frame.compression)
    decoded = compression == COMPRESSION.WEBP or (compression in _JPEG and int(frame.planarconfig) == 1)
    if kind in (*_GREY, PHOTOMETRIC.RGB):
        return _intensities(
            frame, kind, dtype, bits, ycbcr=kind == PHOTOMETRIC.RGB and compression == COMPRESSION.APERIO_JP2000_YCBC
        )
    if dtype.kind not in "bu":
        raise ValueError(_not_read(frame, f"of {dtype}"))
    if kind == PHOTOMETRIC.PALETTE and frame.colormap is not None:
        palette, note = _palette(frame.colormap)
        return (lambda block: from_palette(block.astype(np.int64), palette)), byte, note
    if kind == PHOTOMETRIC.YCBCR and decoded:
        return None, dtype, None
    if bits in (8, 16):
        inks = int(frame.tags.valueof("InkSet", _CMYK))
        if kind == PHOTOMETRIC.SEPARATED and n_colours == 4 and inks == _CMYK:
            return (lambda block: from_cmyk(to_byte(block))), byte, "the colours were converted from CMYK to RGB"
        if kind in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB):
            signed = kind == PHOTOMETRIC.CIELAB
            return (
                (lambda block: from_lab(block, signed=signed)),
                byte,
                "the colours were converted from CIE L*a*b* to RGB",
            )
    if kind == PHOTOMETRIC.YCBCR and bits == 8 and _usual_ycbcr(frame):
        return from_ycbcr, byte, "the colours were converted from YCbCr to RGB"
    raise ValueError(_not_read(frame, f"of {bits} bits"))


def _intensities(
    frame: Any, kind: int, dtype: np.dtype[Any], bits: int, *, ycbcr: bool
) -> tuple[Callable[[NDArray[Any]], NDArray[Any]] | None, np.dtype[Any], str | None]:
    """Return the same for grey and RGB."""
    if ycbcr:
        return from_ycbcr, np.dtype(np.uint8), "the colours were converted from YCbCr to RGB"
    odd = bits not in _WHOLE_BITS and dtype.kind == "u"
    if kind != PHOTOMETRIC.MINISWHITE:
        if not odd:
            return None, dtype, None
        full = np.dtype(np.uint8 if bits < 8 else np.uint16)
        return (lambda block: spread(block, bits)), full, f"{bits} bits were spread over {full.itemsize * 8}"
    if dtype.kind not in "bu" or bits > 16:
        raise ValueError(_not_read(frame, f"of {dtype}"))
    full = dtype if not odd else np.dtype(np.uint8 if bits < 8 else np.uint16)
    white = 2**bits - 1

    def invert(block: NDArray[Any]) -> NDArray[Any]:
        turned = ~block if dtype.kind == "b" else (white - block).astype(dtype)
        return spread(turned, bits) if odd else turned

    return invert, full, "grey was inverted, as its lowest value is white"


def _palette(table: Any) -> tuple[NDArray[np.uint8], str]:
    """Return the colours of a palette (n, 3), and what was done."""
    colours = np.asarray(table).reshape(3, -1).T
    if colours.max() <= np.iinfo(np.uint8).max:  # written by programs that took the 16 bits of the format for 8
        return colours.astype(np.uint8), "indexed colours were looked up in its palette, whose values have 8 bits"
    return (colours >> 8).astype(np.uint8), "indexed colours were looked up in its palette"


def _usual_ycbcr(frame: Any) -> bool:
    """Whether YCbCr is that of JPEG: the weights of ITU-R 601, and values from 0 to 255."""
    usual = {"YCbCrCoefficients": (0.299, 0.587, 0.114), "ReferenceBlackWhite": (0, 255, 128, 255, 128, 255)}
    for tag, expected in usual.items():
        stated = frame.tags.valueof(tag)
        if stated is None:
            continue
        pairs = np.asarray(stated, dtype=np.float64).reshape(-1, 2)
        if pairs.shape[0] != len(expected) or not np.allclose(pairs[:, 0] / pairs[:, 1], expected, atol=1e-3):
            return False
    return True


def _not_read(frame: Any, more: str) -> str:
    return (
        f"has photometric interpretation {_name(frame)} {more}, which is not read here; expected grey, RGB, a palette, CMYK, "
        "YCbCr or CIELAB of 8 or 16 bits. Save it as RGB, for instance as png"
    )


def _bits(frame: Any) -> int:
    return int(np.max(frame.bitspersample))


def _name(frame: Any) -> str:
    return str(getattr(frame.photometric, "name", frame.photometric))
