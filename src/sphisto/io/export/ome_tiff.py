"""Write an image with its pyramid as OME-TIFF, tile by tile.

The rules are those of https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html: OME-XML in the
first page, a page for each channel, and the coarser levels of each page among its SubIFDs, marked as reduced images. So
Bio-Formats, and with it QuPath and Fiji, reads a pyramid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sphisto import __version__
from sphisto._cores import n_cores
from sphisto._settings import logger
from sphisto.core.tiles import TILE, Window

_LEVEL = 1  # of zlib: higher ones save less than 1 % more of such floats
_LEAST_KEPT, _LEAST_KEPT_FLOATS = 0.1, 0.8  # of the bytes on tissue: floats are nearly incompressible
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, eq=False)
class Planes:
    """Channels of an image at several resolutions, read by window."""

    names: tuple[str, ...]  # names of the channels
    shapes: tuple[tuple[int, int], ...]  # (height, width) of each level, finest first
    um_per_px: tuple[float, float]  # size of a pixel of the finest level along (y, x)
    dtype: np.dtype[Any]  # of their values
    # reads a window of a level of a channel: read(level, channel, window) gives (height, width), or of an image in
    # colours, which is one channel, (height, width, 3). Where it is NaN, 0 is written: NaN would spoil the ranges and
    # means that QuPath computes of a channel
    read: Callable[[int, int, Window], NDArray[Any]]
    is_rgb: bool = False  # whether it is an image in colours

    @property
    def n_bytes(self) -> int:
        """Bytes of all levels without compression."""
        samples = 3 if self.is_rgb else 1
        return sum(height * width for height, width in self.shapes) * len(self.names) * samples * self.dtype.itemsize

    def n_bytes_kept(self) -> float:
        """Bytes that the file will take at the least: what is not on tissue compresses to nothing."""
        if self.dtype.kind != "f":
            return _LEAST_KEPT * self.n_bytes
        level = len(self.shapes) - 1
        values = self.read(level, 0, Window(0, 0, *self.shapes[level]))
        return _LEAST_KEPT_FLOATS * float(np.isfinite(values).mean()) * self.n_bytes


def write_ome_tiff(path: Path, planes: Planes, *, name: str, description: str, about: Mapping[str, str]) -> None:
    """Write an image as OME-TIFF; a few tiles of one channel are in memory at a time.

    Whatever it is ``about`` is kept by name: a ``MapAnnotation``.
    """
    from tifffile import TiffWriter

    classic = 2**32 - 2**26  # bytes that surely fit into a TIFF of 32-bit offsets
    at_once = 2**24  # bytes that wait to be compressed; the default is half a gigabyte
    common: dict[str, Any] = {
        "dtype": planes.dtype,
        "photometric": "rgb" if planes.is_rgb else "minisblack",
        "tile": (TILE, TILE),
        "compression": "zlib",  # which every reader knows, and tifffile writes without another library
        "compressionargs": {"level": _LEVEL},
        "maxworkers": n_cores(),
        "buffersize": at_once,
        "software": f"sphisto {__version__}",
        "metadata": None,
    }
    xml = _ome_xml(planes, name, description, about)
    with TiffWriter(path, bigtiff=planes.n_bytes > classic) as tif:
        for level, (height, width) in enumerate(planes.shapes):
            per_cm = [
                px / whole * 1e4 / um
                for px, whole, um in zip((height, width), planes.shapes[0], planes.um_per_px, strict=True)
            ]
            first: dict[str, Any] = {"description": xml, "subifds": len(planes.shapes) - 1} if level == 0 else {}
            tif.write(
                _tiles(planes, level),
                shape=_stored(planes, (height, width)),
                resolution=(per_cm[1], per_cm[0]),
                resolutionunit="CENTIMETER",
                subfiletype=1 if level else 0,
                **first,
                **common,
            )


def _stored(planes: Planes, shape: tuple[int, int]) -> tuple[int, ...]:
    return (*shape, 3) if planes.is_rgb else (len(planes.names), *shape)


def _tiles(planes: Planes, level: int) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a level, channel by channel and row by row, as they lie in the file; TIFF fills those at the border."""
    tiles_at_once = 8  # of a row are read together: a few megabytes, and chunks enough for several threads
    height, width = planes.shapes[level]
    for channel in range(len(planes.names)):
        for y in range(0, height, TILE):
            for x in range(0, width, tiles_at_once * TILE):
                window = Window(y, x, min(y + TILE, height), min(x + tiles_at_once * TILE, width))
                values = planes.read(level, channel, window)
                if planes.dtype.kind == "f":
                    values = np.nan_to_num(values, nan=0.0)
                for at in range(0, values.shape[1], TILE):
                    yield np.ascontiguousarray(values[:, at : at + TILE])


def _ome_xml(planes: Planes, name: str, description: str, about: Mapping[str, str]) -> bytes:
    """OME-XML of one image; written here, as tifffile did not always escape quotes in names."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    (height, width), (um_y, um_x) = planes.shapes[0], planes.um_per_px
    samples = 3 if planes.is_rgb else 1
    sizes = {"SizeX": width, "SizeY": height, "SizeZ": 1, "SizeC": len(planes.names) * samples, "SizeT": 1}
    um = "\N{MICRO SIGN}m"
    root = Element(
        "OME",
        {
            "xmlns": _SCHEMA,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_SCHEMA} {_SCHEMA}/ome.xsd",
            "UUID": f"urn:uuid:{uuid4()}",
            "Creator": f"sphisto {__version__}",
        },
    )
    image = SubElement(root, "Image", ID="Image:0", Name=_in_xml(name))
    SubElement(image, "Description").text = _in_xml(description)
    pixels = SubElement(
        image,
        "Pixels",
        {size: str(px) for size, px in sizes.items()},
        ID="Pixels:0",
        DimensionOrder="XYCZT",
        Type="float" if planes.dtype.kind == "f" else planes.dtype.name,
        PhysicalSizeX=str(float(um_x)),
        PhysicalSizeXUnit=um,
        PhysicalSizeY=str(float(um_y)),
        PhysicalSizeYUnit=um,
    )
    if planes.is_rgb:
        pixels.set("Interleaved", "true")
    for i, channel in enumerate(planes.names):
        SubElement(pixels, "Channel", ID=f"Channel:0:{i}", Name=_in_xml(channel), SamplesPerPixel=str(samples))
    SubElement(pixels, "TiffData", IFD="0", PlaneCount=str(len(planes.names)))
    SubElement(image, "AnnotationRef", ID="Annotation:0")
    note = SubElement(SubElement(root, "StructuredAnnotations"), "MapAnnotation", ID="Annotation:0")
    values = SubElement(note, "Value")
    for key, value in about.items():
        SubElement(values, "M", K=key).text = _in_xml(value)
    return bytes(tostring(root, encoding="utf-8", xml_declaration=True))


def _in_xml(text: str) -> str:
    """Replace the few control characters that XML cannot hold."""
    clean = _NO_XML.sub("\ufffd", text)
    if clean != text:
        logger.info("%r is called %r in the OME-XML, which cannot hold such characters.", text, clean)
    return clean
