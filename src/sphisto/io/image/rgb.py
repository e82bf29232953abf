"""Any form that an image comes in as plain 8-bit RGB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sphisto.io.image.channels import CHANNELS, MULTI_CHANNEL
from sphisto.io.image.colours import BYTE
from sphisto.io.image.config import ColourConfig

Alpha = Literal["straight", "premultiplied"]
"""Whether the colours of an image with alpha have been multiplied with it."""


@dataclass(frozen=True)
class Conversion:
    """How blocks of one image become 8-bit RGB."""

    white: float  # the value that becomes 255
    note: str | None  # a sentence on what is converted, or None
    alpha: Alpha | None = None  # what is done with a fourth channel; None to leave it out
    opaque: float = BYTE  # the value of the fourth channel where nothing shines through
    config: ColourConfig = ColourConfig()  # how far values may lie beyond white

    def __call__(self, block: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert a (y, x, c) block; impossible values raise ValueError."""
        if block.dtype == np.uint8 and block.shape[2] == 3:  # already so
            return block
        colours = block[..., :3]
        if block.size and block.dtype.kind in "uif" and block.dtype != np.uint8:
            _refuse_impossible(colours, self.white, self.config)
            _refuse_contradiction(float(colours.max()), self.white, colours.dtype, self.config)
        values = colours if block.dtype == np.uint8 else _scaled(colours, self.white)
        if block.shape[2] == 1:
            return np.repeat(values, 3, axis=2)
        if block.shape[2] == 4:
            return self._without_alpha(values, block[..., 3:])
        return values

    def _without_alpha(self, rgb: NDArray[np.uint8], alpha: NDArray[Any]) -> NDArray[np.uint8]:
        """Put colours on white."""
        if alpha.size:
            _refuse_strange_alpha(float(alpha.max()), 0 if self.alpha is None else self.opaque, self.config)
        if self.alpha is None:
            return rgb
        opaque = np.clip(alpha.astype(np.float32) / np.float32(self.opaque), 0, 1)
        own = rgb * opaque if self.alpha == "straight" else rgb.astype(np.float32)
        return np.asarray(np.rint(np.minimum(own + BYTE * (1 - opaque), BYTE)), dtype=np.uint8)


def conversion_of(
    array: Any,
    *,
    notes: Sequence[str] = (),
    alpha: Alpha | None = None,
    overview: Any = None,
    config: ColourConfig = ColourConfig(),
) -> Conversion:
    """Decide by the values of a (y, x, c) image how it is converted.

    Values are interpreted by their range: 0..255 as they are, 0..1 times 255, larger ones as 10, 12, 14 or 16 bits,
    whichever they fit in. Floats that overshoot a little, as interpolation leaves them, are clipped. Grey is repeated,
    transparent parts are put on white; an alpha channel that is zero everywhere, over colours that differ, is an unused
    plane. Of an image that is not in memory only some windows are read to decide this; values elsewhere that
    contradict it raise when that part is converted.

    Parameters
    ----------
    array
        bool, integer or float, with 1, 3 or 4 channels: a numpy array, or anything with ``shape``, ``dtype`` and
        windows by ``array[rows, columns]``.
    notes
        What was done to it before, for the note.
    alpha
        What the source states about a fourth channel; ``None`` if nothing.
    overview
        The same image, coarser, to judge beside the windows of a lazy one.
    config
        How values are taken for colours.
    """
    if array.dtype.kind not in "buif":
        msg = f"Found values of type {array.dtype} in place of an image. Expected bool, integers or floats."
        raise ValueError(msg)
    lazy = not isinstance(array, np.ndarray)
    done = list(notes)
    plain = array.dtype == np.uint8 and array.shape[2] != 4
    parts = [] if plain else (_sampled(array, overview, config) if lazy else [array])
    judged = " (judged by a sample, as the image is lazy)" if lazy else ""
    white, note = _white_of([part[..., :3] for part in parts], array.dtype, config)
    done += [note + judged] if note else []
    if array.shape[2] == 1:
        done.append("grey was repeated in red, green and blue")
    if array.shape[2] != 4:
        return Conversion(white, _sentence(done), config=config)
    kept, opaque, note = _alpha_of(parts, white, alpha, config)
    return Conversion(white, _sentence([*done, note]), kept, opaque, config)


def channels_last(array: Any) -> tuple[Any, str | None]:
    """Return a view as (y, x, c), and a note if axes were moved; refuse what has not the shape of an image."""
    if array.ndim == 2 and array.size:  # (y, x)
        return array[:, :, None], None
    if array.ndim == 3 and array.size:  # with channels
        first, last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
        if last:
            return array, f"of shape {array.shape} the last axis was taken for the channels" if first else None
        if first:
            moved = array.transpose(1, 2, 0)
            return moved, f"channels were moved last, from shape {array.shape} to {moved.shape}"
    few = array.ndim == 3 and min(array.shape[0], array.shape[2]) < 16  # channels rather than planes
    msg = (
        f"Found an array of shape {array.shape} in place of an image. Expected (y, x), (y, x, channels) or (channels, y, x) with "
        f"1, 3 or 4 channels; choose one plane of a stack before passing it.{f' {MULTI_CHANNEL}.' if few else ''}"
    )
    raise ValueError(msg)


def _sentence(notes: Iterable[str]) -> str | None:
    joined = "; ".join(notes)
    return f"The image was converted: {joined}." if joined else None


def _white_of(parts: Sequence[NDArray[Any]], dtype: np.dtype[Any], config: ColourConfig) -> tuple[float, str | None]:
    """Return the value that is white, and a note if it is not the 255 of a byte."""
    if dtype.kind == "b":
        return 1, "true and false became 255 and 0"
    if dtype == np.uint8:
        return BYTE, None
    lowest, highest = (
        min(float(_finite(part).min()) for part in parts),
        max(float(_finite(part).max()) for part in parts),
    )
    white = _white_for(highest, dtype, config)
    if white is None:
        raise ValueError(_impossible(lowest, highest))
    for part in parts:
        _refuse_impossible(part, white, config)
    clipped = f"; values from {lowest:.4g} to {highest:.4g} were clipped" if lowest < 0 or highest > white else ""
    if white == 1:
        return white, f"values from 0 to 1 were multiplied by 255{clipped}"
    if white == BYTE:
        return white, f"{dtype} values from 0 to 255 were rounded to 8 bits{clipped}"
    bits = int(white + 1).bit_length() - 1
    return white, f"values up to {highest:g} were taken for {bits} bits and divided by {white / BYTE:.6g}{clipped}"


def _white_for(highest: float, dtype: np.dtype[Any], config: ColourConfig) -> int | None:
    """Return the white that an image with this highest value has; ``None`` if there is none."""
    if dtype.kind == "f":
        if highest <= 1 + config.overshoot:
            return 1
        if highest < config.dimmest:
            return None
        return next((white for white in config.whites if highest <= white * (1 + config.overshoot)), None)
    most = np.iinfo(dtype).max  # of signed integers 7 or 15 bits
    whites = sorted({min(white, int(most)) for white in config.whites})
    return next((white for white in whites if highest <= white), None)


def _alpha_of(
    parts: Sequence[NDArray[Any]], white: float, stated: Alpha | None, config: ColourConfig
) -> tuple[Alpha | None, float, str]:
    """Return what a fourth channel is and its highest value, by windows of an image."""
    dtype, planes = parts[0].dtype, [_finite(part[..., 3]) for part in parts]
    lowest, highest = min(float(plane.min()) for plane in planes), max(float(plane.max()) for plane in planes)
    if highest <= 0 and _differ([part[..., :3] for part in parts]):
        return None, 0, "the alpha channel, zero everywhere, was taken for an unused plane and left out"
    trusted = stated or dtype in (np.uint8, np.bool_) or (white == 1 and highest <= 1 + config.overshoot)
    if not trusted and lowest != highest:
        msg = (
            f"Found four channels of {dtype} with values up to {highest:g} in the fourth, and nothing that states it is alpha. "
            f"{MULTI_CHANNEL}; expected grey, RGB or RGBA. Leave out the fourth channel (`image[..., :3]`), or choose "
            "one and pass it as a grey image."
        )
        raise ValueError(msg)
    binary = highest == 1
    opaque = 1 if binary or dtype.kind == "b" else (BYTE if dtype == np.uint8 else _white_for(highest, dtype, config))
    if opaque is None:
        raise ValueError(_impossible(lowest, highest))
    range_ = f", from 0 to {opaque:g}," if opaque != white else ""
    kind = " its colours were multiplied with," if stated == "premultiplied" else ""
    return (
        stated or "straight",
        opaque,
        f"the alpha channel{range_ or ('' if not kind else ',')}{kind} was put on white",
    )


def _differ(parts: Sequence[NDArray[Any]]) -> bool:
    """Whether the colours differ anywhere."""
    first = parts[0][:1, :1]
    return any(bool((part != first).any()) for part in parts)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        msg = f"Found {bad} NaN or infinite values in the image. Fill them (for instance with white) before passing it."
        raise ValueError(msg)
    return values


def _refuse_impossible(values: NDArray[Any], white: float, config: ColourConfig) -> None:
    """Raise for values that no image has."""
    lowest, highest = float(_finite(values).min()), float(values.max())
    # integers of 8 bits with signs are bytes that were taken for others: below 0 are the bright ones
    below = config.overshoot * white if values.dtype != np.int8 else 0
    above = config.whites[-1] * (1 + config.overshoot * (values.dtype.kind == "f"))
    if lowest < -below or highest > above:
        raise ValueError(_impossible(lowest, highest))


def _impossible(lowest: float, highest: float) -> str:
    return (
        f"Found image values from {lowest:g} to {highest:g}. Expected 0 to 1, 0 to 255 or 0 to 65535. Rescale the image "
        "to one of these ranges, best to uint8."
    )


def _refuse_contradiction(highest: float, white: float, dtype: np.dtype[Any], config: ColourConfig) -> None:
    """Raise where a lazy image goes beyond the range that its sample had."""
    if highest > white * (1 + config.overshoot * (dtype.kind == "f")):
        msg = (
            f"Found image values up to {highest:g} where a sample of the lazy image had at most {white:g}. Bring "
            "the image to uint8 before passing it."
        )
        raise ValueError(msg)


def _refuse_strange_alpha(highest: float, opaque: float, config: ColourConfig) -> None:
    """Raise where the alpha channel of a lazy image goes beyond the range that its sample had."""
    if highest > opaque * (1 + config.overshoot):
        msg = (
            f"Found alpha up to {highest:g} where a sample of the lazy image had at most {opaque:g}. Leave out the "
            "alpha channel, or bring it to 0 to 255, before passing the image."
        )
        raise ValueError(msg)


def _sampled(array: Any, overview: Any, config: ColourConfig) -> list[NDArray[Any]]:
    """Compute some small windows spread over a lazy (y, x, c) image, and its coarsest level if that is small."""
    starts = [
        np.unique(np.linspace(0, max(side - config.sample_px, 0), config.samples).astype(int))
        for side in array.shape[:2]
    ]
    windows = [np.asarray(array[y : y + config.sample_px, x : x + config.sample_px]) for y, x in product(*starts)]
    if overview is not None and overview.shape[0] * overview.shape[1] <= config.overview_px:
        windows.append(np.asarray(overview[: overview.shape[0], : overview.shape[1]]))
    return windows


def _scaled(block: NDArray[Any], white: float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(block * np.float32(BYTE / white)), 0, BYTE), dtype=np.uint8)
