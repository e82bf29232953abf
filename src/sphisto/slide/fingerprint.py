"""Digests by which two slides are recognised as the same without keeping either."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphisto.slide.slide import Slide


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


def fingerprint_of_slide(slide: Slide, *, places: int = 5, side: int = 16, strip: int = 1024) -> str:
    """Digest of all that a slide holds; of its image some places only, as it may be lazy and large.

    Parameters
    ----------
    slide
        The slide.
    places, side
        Places along each axis at which the image is read, and the side of each in px.
    strip
        Rows of the mask that are read at a time; part of the digest, as the other two are.
    """
    parts: list[Any] = [slide.name, slide.grid, slide.spot, slide.image.shape]
    height, width = slide.grid.shape
    parts += [np.packbits(slide.tissue[y : y + strip, :]) for y in range(0, height, strip)]
    for y in np.linspace(0, max(height - side, 0), places).astype(int):
        parts += [
            np.asarray(slide.image[:, y : y + side, x : x + side])
            for x in np.linspace(0, max(width - side, 0), places).astype(int)
        ]
    if slide.measured is not None:
        spots = slide.measured
        parts += [spots.centers, spots.values.data, spots.values.indices, spots.values.indptr, spots.genes]
        if spots.others is not None:
            parts += [spots.others.data, spots.others.indices, spots.others.indptr]
    if slide.registration is not None:
        parts += [slide.registration.fixed, slide.registration.matrix, slide.registration.weight]
    return fingerprint(parts)
