"""Any form that a picture comes in as plain 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHANNELS = (1, 3, 4)
"""Grey; red, green, blue; the same with alpha."""
_SAMPLE = 64  # px, side of the windows that are looked at in a lazy image
_SAMPLES = 5  # windows along each axis
_TOLERANCE = 1e-6  # floats just below 0 or above 1 are rounding errors


@dataclass(frozen=True)
class Conversion:
    """How blocks of one picture become 8-bit RGB.

    Parameters
    ----------
    scale
        What values are multiplied with to range from 0 to 255.
    note
        A sentence on what is converted, or None.
    """

    scale: float
    note: str | None

    def __call__(self, block: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert a (y, x, c) block; impossible values raise ValueError."""
        return _to_rgb8(block, self.scale)


def conversion_of(array: Any, *, moved: str | None = None) -> Conversion:
    """Look at a (y, x, c) picture and decide how it is converted.

    Values are taken by what they look like: 0..255 as they are, 0..1 times 255, 16-bit values above 255 divided by
    257. Grey is repeated, transparent parts are put on white. Of a picture that is not in memory only some windows are
    looked at to judge the range; impossible values elsewhere raise when that part is converted.

    Parameters
    ----------
    array
        bool, integer or float, with 1, 3 or 4 channels: a numpy array, or anything with ``shape``, ``dtype`` and
        windows by ``array[rows, columns]``.
    moved
        What was done to its axes, for the note.

    Raises
    ------
    ValueError
        If values are NaN, infinite, negative or beyond 16 bits, or of another type.
    """
    notes = [moved] if moved else []
    scale, note = _scale_of(array, lazy=not isinstance(array, np.ndarray))
    notes += [note] if note else []
    if array.shape[2] == 1:
        notes.append("grey was repeated in red, green and blue")
    if array.shape[2] == 4:  # red, green, blue, alpha
        notes.append("the alpha channel was put on white")
    return Conversion(scale, f"The image was converted: {'; '.join(notes)}." if notes else None)


def channels_last(array: Any) -> tuple[Any, str | None]:
    """Return a view as (y, x, c), and a note if axes were moved; refuse what has not the shape of a picture."""
    if array.ndim == 2 and array.size:  # (y, x)
        return array[:, :, None], None
    if array.ndim == 3 and array.size:  # with channels
        if array.shape[2] in CHANNELS:
            return array, None
        if array.shape[0] in CHANNELS:
            moved = array.transpose(1, 2, 0)
            return moved, f"channels were moved last, from shape {array.shape} to {moved.shape}"
    msg = (
        f"An image of shape {array.shape} is not a picture. Expected (y, x), (y, x, channels) or (channels, y, x) with "
        "1, 3 or 4 channels; choose one plane of a stack before passing it."
    )
    raise ValueError(msg)


def _scale_of(array: Any, *, lazy: bool) -> tuple[float, str | None]:
    """Return what values must be multiplied with to range from 0 to 255, and a note if that is not 1."""
    kind, bits = array.dtype.kind, array.dtype.itemsize * 8
    if kind == "b":
        return 255.0, "true and false became 255 and 0"
    if kind not in "uif":
        msg = f"An image of type {array.dtype} is not a picture. Expected bool, integers or floats."
        raise ValueError(msg)
    if kind == "u" and bits == 8:  # a byte
        return 1.0, None
    parts = [part[..., :3] for part in (_sampled(array) if lazy else [array])]
    for part in parts:
        _refuse_impossible(part)
    highest = max(float(part.max()) for part in parts)
    seen = " (judged by a sample, as the image is lazy)" if lazy else ""
    if kind == "f" and highest <= 1 + _TOLERANCE:
        return 255.0, f"values from 0 to 1 were multiplied by 255{seen}"
    if highest > 255:  # the largest byte
        return 1 / 257, f"values up to {highest:g} were taken for 16 bits and divided by 257{seen}"
    return 1.0, f"{array.dtype} values from 0 to 255 were rounded to 8 bits{seen}"


def _refuse_impossible(values: NDArray[Any]) -> None:
    """Raise for values that no picture has."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        msg = f"Found {bad} NaN or infinite values in the image. Fill them (for instance with white) before passing it."
        raise ValueError(msg)
    lowest, highest = values.min(), values.max()
    if lowest < -_TOLERANCE or highest > 65535 + _TOLERANCE:
        msg = f"Found image values from {lowest:g} to {highest:g}. Expected 0 to 1, 0 to 255 or 0 to 65535."
        raise ValueError(msg)


def _refuse_contradiction(highest: float, scale: float) -> None:
    """Raise where a lazy image goes beyond the range that its sample had."""
    if highest * scale > 255.5:
        msg = (
            f"Found image values up to {highest:g} where a sample of the lazy image had promised at most "
            f"{255 / scale:g}. Bring the image to uint8 before passing it."
        )
        raise ValueError(msg)


def _sampled(array: Any) -> list[NDArray[Any]]:
    """Compute some small windows spread over a lazy (y, x, c) image."""
    starts = [np.unique(np.linspace(0, max(side - _SAMPLE, 0), _SAMPLES).astype(int)) for side in array.shape[:2]]
    return [np.asarray(array[y : y + _SAMPLE, x : x + _SAMPLE]) for y, x in product(*starts)]


def _to_rgb8(block: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Convert a (y, x, c) block."""
    if block.dtype == np.uint8 and block.shape[2] == 3:  # already so
        return block
    if block.size and block.dtype != np.uint8:
        _refuse_impossible(block[..., :3])
        _refuse_contradiction(float(block[..., :3].max()), scale)
    values = block if block.dtype == np.uint8 else _scaled(block, scale)
    if values.shape[2] == 1:
        return np.repeat(values, 3, axis=2)
    if values.shape[2] == 4:  # red, green, blue, alpha
        return _on_white(values)
    return values


def _scaled(block: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(block * np.float32(scale)), 0, 255), dtype=np.uint8)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    opaque = rgba[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(rgba[..., :3] * opaque + 255 * (1 - opaque)), dtype=np.uint8)
