"""Whole slides in the formats of scanner vendors, read by window with OpenSlide, which is optional."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.io.image.pyramid import Pyramid

SUFFIXES = frozenset({".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu"})
"""Names of files that OpenSlide is tried for first."""
EXTRA = 'pip install "sphisto[slides]"'
"""What brings OpenSlide, and the compressions that tif files of scanners have."""


def open_vendor(path: Path) -> Pyramid | None:
    """Open a whole slide with OpenSlide; ``None`` if OpenSlide is not installed or does not know the format."""
    try:
        import openslide
    except ImportError:  # also if its C library is missing
        return None
    if openslide.OpenSlide.detect_format(path) is None:
        return None
    try:
        slide = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error
    levels = tuple(VendorLevel(path, slide, i) for i in range(slide.level_count))
    return Pyramid(levels, f"{path.resolve()} {path.stat().st_mtime_ns} openslide", alpha="straight")


@dataclass(frozen=True, eq=False)
class VendorLevel:
    """One resolution of a slide, (y, x, 4): red, green, blue and whether anything was scanned there."""

    path: Path  # of the slide
    slide: Any  # the opened slide
    level: int  # number of the resolution, 0 the finest

    ndim = 3
    dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, 4)."""
        width, height = self.slide.level_dimensions[self.level]
        return height, width, 4

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[np.uint8]:
        import openslide

        (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(key, self.shape, strict=False))
        finer = self.slide.level_downsamples[self.level]
        try:  # places are given in px of the finest level, sizes in those of this one
            part = self.slide.read_region((round(x0 * finer), round(y0 * finer)), self.level, (x1 - x0, y1 - y0))
        except openslide.OpenSlideError as error:
            raise _damaged(self.path, error) from error
        return np.asarray(part)


def needs_extra(path: Path, why: str) -> ValueError:
    """Make the error that names what must be installed to read a file by window."""
    msg = f"{str(path)!r} cannot be read here by window: {why}. Install what reads such files: `{EXTRA}`."
    return ValueError(msg)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"OpenSlide cannot read the slide {str(path)!r} ({error}). Expected a whole file, with all that belong to it "
        "beside it: copy them again from where they came."
    )
