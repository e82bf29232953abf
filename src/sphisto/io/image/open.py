"""Tissue images from files of any kind, as pyramids of which windows are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sphisto._settings import logger
from sphisto.io.image.config import FileConfig
from sphisto.io.image.ome_zarr import open_ngff
from sphisto.io.image.openslide import SUFFIXES, needs_extra, open_vendor
from sphisto.io.image.pyramid import Pyramid
from sphisto.io.image.tiff import STARTS, open_tiff, stored_as
from sphisto.io.image.whole_file import decode


def open_image(path: str | Path, *, config: FileConfig = FileConfig()) -> Pyramid:
    """Open a tissue image with all its resolutions; pixels are read when windows are wanted.

    Parameters
    ----------
    path
        A tif (also BigTIFF, OME-TIFF and other pyramids), the folder of an OME-Zarr image (NGFF 0.4 or 0.5), a slide
        in a vendor's format (svs, ndpi, mrxs and others, with the extra ``sphisto[slides]``); or a png, jpg or anything
        else that Pillow reads, which is decoded whole, above 64 MB to a temporary file. Orientation tags are not
        applied: spot positions count in stored pixels.
    config
        What is read at a time, and which files are doubted.
    """
    path = Path(path)
    if path.is_dir():
        return open_ngff(path)
    if not path.is_file():
        msg = f"Found no image file at {str(path)!r}. Give the path of a tif, png, jpg, OME-Zarr or slide."
        raise FileNotFoundError(msg)
    with path.open("rb") as file:
        is_tiff = file.read(4) in STARTS
    of_vendor = path.suffix.lower() in SUFFIXES
    found = open_vendor(path) if of_vendor else None
    if found is None and is_tiff:
        found = open_tiff(path, config=config) or open_vendor(path)
    if found is not None:
        return found
    if of_vendor:
        raise needs_extra(path, "it has a scanner vendor's format")
    if is_tiff:
        _refuse_large(path, config)
    try:
        return decode(path, config=config)
    except ValueError as error:
        if is_tiff:
            raise needs_extra(path, f"it has {stored_as(path)}") from error
        raise


def read_image(path: str | Path) -> Any:
    """Read a tissue image whole, of a pyramid its full resolution: (y, x) or (y, x, c) in the file's own type.

    Colours that are not stored as grey or RGB(A) come as 8-bit RGB, and so do those with alpha that was multiplied with
    them or has more than 8 bits: an array does not state what its fourth channel is.
    """
    pyramid = open_image(path)
    if pyramid.notes:  # an array does not state these either
        logger.info("%s: %s.", path, "; ".join(pyramid.notes))
    level = pyramid.levels[0]
    if pyramid.alpha == "premultiplied" or (pyramid.alpha and level.dtype != np.uint8):
        return np.moveaxis(np.asarray(pyramid.rgb()), 0, -1)
    pixels = np.asarray(level[: level.shape[0], : level.shape[1]])
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _refuse_large(path: Path, config: FileConfig) -> None:
    """Raise for a tif that could only be decoded whole, and is too large for that."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        nbytes = max(series.nbytes for series in tif.series)
        compression = tif.pages.first.compression
    if nbytes > config.largest_whole:
        name = getattr(compression, "name", compression)
        raise needs_extra(path, f"its {nbytes / 1e9:.1f} GB are compressed as {name}")
