"""Digests by which two slides are recognised as the same without keeping either."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.slide.slide import Measured, Slide


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

    The image is read at ``places`` along each axis, ``side`` px large, the mask by ``strip`` rows: all three are part
    of the digest.
    """
    parts: list[Any] = [slide.name, slide.grid, slide.spot, slide.image.shape]
    parts += [np.packbits(slide.tissue[y : y + strip, :]) for y in range(0, slide.grid.shape[0], strip)]
    parts += _places(slide, places, side)
    if slide.measured is not None:
        spots = slide.measured
        parts += [spots.centers, spots.values.data, spots.values.indices, spots.values.indptr, spots.genes]
        if spots.others is not None:
            parts += [spots.others.data, spots.others.indices, spots.others.indptr]
    if slide.frame is not None:
        parts += [slide.frame.group, slide.frame.matrix, slide.frame.step, slide.frame.apart]
    return fingerprint(parts)


def fingerprint_of_image(slide: Slide) -> str:
    """Digest of some places of a slide's image, whatever the slide is called and holds besides."""
    return fingerprint([slide.image.shape, *_places(slide, 5, 16)])


def fingerprint_of_counts(spots: Measured) -> str:
    """Digest of what the spots of a section measured, whatever their order and that of the genes."""
    # each spot's counts as one number, in whole numbers that wrap around, so that no order of sums makes a difference
    weights = [int(fingerprint([gene]), 16) for gene in spots.genes]
    counts = sparse.csr_array(spots.values).astype(np.int64)
    return fingerprint([np.sort(counts @ np.array(weights, dtype=np.uint64).astype(np.int64))])


def _places(slide: Slide, places: int, side: int) -> list[NDArray[Any]]:
    """Look at an image at ``places`` along each axis, ``side`` px large."""
    rows, columns = (np.linspace(0, max(length - side, 0), places).astype(int) for length in slide.grid.shape)
    return [np.asarray(slide.image[:, y : y + side, x : x + side]) for y in rows for x in columns]
