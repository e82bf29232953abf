"""Tell whether two slides are the same without keeping either."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphisto.slide.slide import Slide

_PLACES = 5  # along each axis, at which the picture is looked at: it may be lazy and large
_SIDE = 16  # px
_STRIP = 1024  # rows of the mask at once


def fingerprint(parts: Iterable[Any]) -> str:
    """Short digest of arrays, by dtype, shape and values, and of plain values."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(f"{part!r} ".encode())
    return digest.hexdigest()[:16]


def fingerprint_of_slide(slide: Slide) -> str:
    """Digest of all that a slide says; of its picture some places only."""
    parts: list[Any] = [slide.name, slide.grid, slide.spot, slide.image.shape]
    height, width = slide.grid.shape
    parts += [np.packbits(slide.tissue[y : y + _STRIP, :]) for y in range(0, height, _STRIP)]
    for y in np.linspace(0, max(height - _SIDE, 0), _PLACES).astype(int):
        parts += [
            np.asarray(slide.image[:, y : y + _SIDE, x : x + _SIDE])
            for x in np.linspace(0, max(width - _SIDE, 0), _PLACES).astype(int)
        ]
    if slide.measured is not None:
        spots = slide.measured
        parts += [spots.centers, spots.values.data, spots.values.indices, spots.values.indptr, spots.genes]
    return fingerprint(parts)
