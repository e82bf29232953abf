"""Images of Pillow, in any of its modes, as arrays of grey, RGB or RGBA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.io.image.colours import from_lab

_PLAIN = frozenset({"1", "L", "RGB", "RGBA", "I", "F"})


@dataclass(frozen=True)
class Mode:
    """How images of one of Pillow's modes become arrays."""

    steps: tuple[str, ...] = ()  # modes to convert to, one after another
    lab: bool = False  # whether it is CIE L*a*b*, which Pillow itself does not convert
    note: str | None = None  # what is done, if anything
    bits: int = 8  # of the values of the array

    def array(self, image: Any) -> NDArray[Any]:
        """Return an image as (y, x, 1 | 3 | 4)."""
        for step in self.steps:
            image = image.convert(step)
        values = np.asarray(image)
        if self.lab:
            return from_lab(values, signed=True)
        return values if values.ndim == 3 else values[..., None]


def mode_of(image: Any) -> Mode:
    """Find out how a loaded image of Pillow becomes an array."""
    mode, transparent = image.mode, image.has_transparency_data
    if mode == "LAB":
        return Mode(lab=True, note="the colours were converted from CIE L*a*b* to RGB")
    if mode.startswith("I;16") or mode in {"I", "F"}:
        ignored = "the value that the file calls transparent is not treated as such"
        return Mode(note=ignored if transparent else None, bits=32 if mode in {"I", "F"} else 16)
    if mode in _PLAIN and (mode == "RGBA" or not transparent):
        return Mode()
    # Pillow knows the way from premultiplied grey only by way of the other
    steps = (*(("LA",) if mode == "La" else ()), "RGBA" if transparent else "RGB")
    what = "a transparent colour" if mode in _PLAIN else f"Pillow's mode {mode}"
    return Mode(steps, note=f"{what} was converted to {steps[-1]}")
