"""Tif, BigTIFF and OME-TIFF images with all their resolutions, read by window.

The file is opened for each window and not held: what happens to it in between is noticed, and nothing has to be closed.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from sphisto.io.image.channels import CHANNELS, MULTI_CHANNEL, colour_order, named_alpha
from sphisto.io.image.config import FileConfig
from sphisto.io.image.photometric import decodes_samples, samples_of
from sphisto.io.image.pyramid import Pyramid
from sphisto.io.image.whole_file import kept, orientation_note, refuse_bomb

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a tif; the last two are BigTIFF."""
# what a channel that ImageJ shows in one pure colour is
_PURE: dict[tuple[int, ...], str] = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue"}
# what tifffile raises for a file that is none, and what its decoders and those of imagecodecs raise for bytes that are
# no image
_UNREADABLE = (ValueError, IndexError, KeyError, AttributeError, OSError, struct.error)
_UNDECODABLE = (ValueError, RuntimeError, OSError, IndexError, TypeError, zlib.error, lzma.LZMAError)


def open_tiff(path: Path, *, config: FileConfig = FileConfig()) -> Pyramid | None:
    """Open the largest image of a tif; ``None`` if it is compressed in a way that cannot be decoded here."""
    import tifffile

    try:
        tif = tifffile.TiffFile(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    with tif:
        try:
            if not tif.series:
                msg = "it holds no image"
                raise ValueError(msg)
            index = int(np.argmax([series.size for series in tif.series]))
            levels = list(tif.series[index].levels)
            frames = [level.keyframe for level in levels]
            decodable = all(_decodes(frame.compression, frame.predictor) and decodes_samples(frame) for frame in frames)
            names = _channel_names(tif, index)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
        _refuse_planes(path, levels[0].axes, levels[0].shape)
        order, named = None, None
        if len(levels[0].pages) > 1:
            order, named = colour_order(len(levels[0].pages), names, f"The tif {str(path)!r}")
        try:
            samples = [samples_of(frame, len(level.pages), order) for frame, level in zip(frames, levels, strict=True)]
        except ValueError as error:
            msg = f"{str(path)!r} {error}."
            raise ValueError(msg) from error
        refuse_bomb(path, levels[0].shape, levels[0].dtype.itemsize, config=config)
        if not decodable:
            return None
        file = _File.of(path)
        opened = tuple(of.of(_open_level(file, level, config)) for of, level in zip(samples, levels, strict=True))
        turned = orientation_note(frames[0].tags.valueof("Orientation"))
    notes = tuple(note for note in (named, *samples[0].notes, turned) if note)
    alpha = samples[0].alpha or (named_alpha(len(order), names) if order else None)
    return Pyramid(opened, f"{path.resolve()} {file.size} {file.changed} {index}", notes, alpha)


def stored_as(path: Path) -> str:
    """Describe how the first image of a tif is stored."""
    import tifffile

    with tifffile.TiffFile(path) as tif:
        frame = tif.pages.first
        parts = (
            f"{frame.bitspersample} bits per sample",
            f"compression {getattr(frame.compression, 'name', frame.compression)}",
            f"photometric interpretation {getattr(frame.photometric, 'name', frame.photometric)}",
        )
    return ", ".join(parts) + (" with subsampled colours" if frame.is_subsampled else "")


def _channel_names(tif: Any, index: int) -> list[str] | None:
    """Return what the file calls the channels of one of its images, if anything."""
    if tif.is_ome and tif.ome_metadata:
        try:
            root = ElementTree.fromstring(tif.ome_metadata)
        except ElementTree.ParseError:
            return None
        images = [element for element in root.iter() if element.tag.endswith("}Image")]
        if index >= len(images):
            return None
        channels = [element for element in images[index].iter() if element.tag.endswith("}Channel")]
        names = [channel.get("Name", "") for channel in channels]
        return names if names and all(names) else None
    if tif.is_imagej and tif.imagej_metadata:
        tables = tif.imagej_metadata.get("LUTs", [])
        tables = [tables] if np.ndim(tables) == 2 else tables  # of one channel it comes alone
        lit = [tuple(int(shade) for shade in np.asarray(table)[:, -1]) for table in tables]
        if all(shades == (255, 255, 255) for shades in lit):  # grey, or none
            return None
        return [_PURE.get(shades, f"shown as {shades}") for shades in lit]
    return None


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{str(path)!r} is not a tif image that can be read ({error}). Save it again, or as png.")


@dataclass(frozen=True)
class _File:
    """A file as it was when it was opened first."""

    path: Path
    size: int
    changed: int

    @staticmethod
    def of(path: Path) -> _File:
        found = path.stat()
        return _File(path, found.st_size, found.st_mtime_ns)

    def open(self) -> BinaryIO:
        """Open it again, if it is still the same."""
        try:
            now = _File.of(self.path)
            file = self.path.open("rb")
        except OSError as error:
            msg = (
                f"The image {str(self.path)!r} was there and can no longer be read ({error}). Bring it back and call "
                "again; a fit goes on with `resume=True`."
            )
            raise type(error)(msg) from error
        if now != self:
            file.close()
            msg = (
                f"The image {str(self.path)!r} was changed while it was read: expected {self.size:,} bytes, found "
                f"{now.size:,}, or another time of change. Bring it back as it was, or start again."
            )
            raise ValueError(msg)
        return file


@dataclass(frozen=True)
class _Page:
    """Where the tiles of a page, or its strips, lie in the file."""

    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tables: dict[str, Any]


class TiffLevel:
    """One resolution of a tif, (y, x, c), of which windows are read tile by tile (or strip by strip).

    ``keyframe`` is what tifffile knows of its pages, one, or one for each channel; ``config`` says what is kept of its
    tiles.
    """

    ndim = 3

    def __init__(self, file: _File, keyframe: Any, pages: tuple[_Page, ...], config: FileConfig) -> None:
        separate, _, height, width, samples = map(int, keyframe.shaped)
        self.dtype = np.dtype(keyframe.dtype)
        self.shape = (height, width, samples * separate * len(pages))
        self._file, self._pages, self._planes, self._samples = file, pages, separate, samples
        self._high, self._wide = _sides(keyframe)
        self._down, self._across = -(-height // self._high), -(-width // self._wide)
        self._fill = keyframe.nodata
        self._decode: Callable[..., tuple[Any, Any, Any]] = keyframe.decode
        self._tile = lru_cache(maxsize=max(1, config.kept_tiles // _chunk_bytes(keyframe)))(self._decoded)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(key, self.shape, strict=False))
        planes = list(product(range(len(self._pages)), range(self._planes)))
        rows, columns = range(y0 // self._high, -(-y1 // self._high)), range(x0 // self._wide, -(-x1 // self._wide))
        out = np.full((len(planes), y1 - y0, x1 - x0, self._samples), self._fill, dtype=self.dtype)
        for (i, (page, plane)), row, column in product(enumerate(planes), rows, columns):
            tile = self._tile(page, plane, row, column)
            if tile is not None:
                y, x = row * self._high, column * self._wide
                part = tile[max(y0 - y, 0) : y1 - y, max(x0 - x, 0) : x1 - x]
                at_y, at_x = max(y - y0, 0), max(x - x0, 0)
                out[i, at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
        return out[0] if len(planes) == 1 else np.moveaxis(out[..., 0], 0, -1)

    def _decoded(self, page: int, plane: int, row: int, column: int) -> NDArray[Any] | None:
        """Decode one tile (h, w, samples); ``None`` if the file leaves it out, as it may."""
        found = self._pages[page]
        index = (plane * self._down + row) * self._across + column
        with self._file.open() as file:
            if index >= len(found.offsets) or found.counts[index] == 0:
                return None
            file.seek(found.offsets[index])
            data = file.read(found.counts[index])
        try:
            tile, _, _ = self._decode(data, index, **found.tables)
        except _UNDECODABLE as error:
            msg = (
                f"{str(self._file.path)!r} is damaged: the {self._high} x {self._wide} px from "
                f"y = {row * self._high}, x = {column * self._wide} on, in an image of {self.shape[0]} x "
                f"{self.shape[1]} px, cannot be decoded ({error}). Copy the file again from where it came."
            )
            raise ValueError(msg) from error
        return np.asarray(tile[0])


class ContiguousLevel:
    """One resolution of a tif that is neither tiled nor compressed, (y, x, c): rows are read where they lie.

    ``stored`` is the type of the values in the file, with its order of bytes; ``planes`` say where each plane of (y, x,
    samples) begins.
    """

    ndim = 3

    def __init__(
        self, file: _File, shape: tuple[int, int, int], stored: np.dtype[Any], planes: tuple[int, ...]
    ) -> None:
        self.shape, self.dtype = shape, stored.newbyteorder("=")
        self._file, self._stored, self._planes = file, stored, planes

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(key, self.shape, strict=False))
        samples = self.shape[2] // len(self._planes)
        out = np.empty((len(self._planes), y1 - y0, x1 - x0, samples), dtype=self._stored)
        pixel = samples * self._stored.itemsize
        with self._file.open() as file:
            for plane, begin in zip(out, self._planes, strict=True):
                for y, row in enumerate(plane, start=y0):
                    file.seek(begin + (y * self.shape[1] + x0) * pixel)
                    row[:] = np.frombuffer(file.read(row.nbytes), dtype=self._stored).reshape(row.shape)
        values = out.astype(self.dtype, copy=False)
        return values[0] if len(self._planes) == 1 else np.moveaxis(values[..., 0], 0, -1)


def _open_level(file: _File, level: Any, config: FileConfig) -> Any:
    frame, pages = level.keyframe, list(level.pages)
    separate, depth, height, width, samples = frame.shaped
    if depth > 1 or any(page is None for page in pages):
        msg = (
            f"{str(file.path)!r} has planes in depth, or lacks some; expected one plane. Save the one to use by itself."
        )
        raise ValueError(msg)
    if level.dataoffset is not None or (len(pages) == 1 and frame.is_memmappable):
        begin = frame.dataoffsets[0] if level.dataoffset is None else level.dataoffset
        stored = np.dtype(frame.parent.byteorder + frame.dtype.char)
        shape = (int(height), int(width), level.size // (height * width))
        n_planes = shape[2] // samples
        plane = int(height) * int(width) * int(samples) * stored.itemsize
        _refuse_short(file, begin + n_planes * plane)
        return ContiguousLevel(file, shape, stored, tuple(int(begin) + i * plane for i in range(n_planes)))
    found = tuple(
        _Page(tuple(map(int, page.dataoffsets)), tuple(map(int, page.databytecounts)), _tables(page, frame))
        for page in pages
    )
    _refuse_short(file, max(at + n for page in found for at, n in zip(page.offsets, page.counts, strict=True)))
    opened = TiffLevel(file, frame, found, config)
    if _chunk_bytes(frame) > config.large_chunk:
        return kept([opened[:, :]], opened.shape, opened.dtype, file.path, config=config)
    return opened


def _sides(frame: Any) -> tuple[int, int]:
    """Return height and width of a tile or strip."""
    if frame.is_tiled:
        return int(frame.tilelength), int(frame.tilewidth)
    return int(min(frame.rowsperstrip, frame.imagelength)), int(frame.imagewidth)


def _chunk_bytes(frame: Any) -> int:
    high, wide = _sides(frame)
    return high * wide * int(frame.shaped[4]) * int(frame.dtype.itemsize)


def _tables(page: Any, frame: Any) -> dict[str, Any]:
    """What the tiles of a page share, if they are compressed as JPEG."""
    tables = {"jpegtables": page.jpegtables, "jpegheader": frame.jpegheader}
    return {name: value for name, value in tables.items() if value is not None}


def _refuse_short(file: _File, needed: int) -> None:
    if needed > file.size:
        msg = (
            f"{str(file.path)!r} is truncated: its tiles reach to byte {needed:,}, the file has {file.size:,}. Copy it again "
            "from where it came."
        )
        raise ValueError(msg)


def _decodes(compression: int, predictor: int) -> bool:
    """Whether tifffile can decode such a file with what is installed; LZW and JPEG take imagecodecs."""
    import tifffile

    try:
        tifffile.TIFF.DECOMPRESSORS[compression], tifffile.TIFF.UNPREDICTORS[predictor]
    except (KeyError, ValueError):
        return False
    return True


def _refuse_planes(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    """Raise unless the axes are y, x and perhaps one of channels."""
    channels = [i for i, name in enumerate(axes) if name not in "YX" and shape[i] > 1]
    # S samples, of which more is known elsewhere; C channels, Q unknown: a colour image saved with its channels first
    colour = all(axes[i] == "S" or (axes[i] in "CQ" and shape[i] in CHANNELS) for i in channels)
    if "Y" not in axes or "X" not in axes or len(channels) > 1 or not colour:
        msg = (
            f"The largest image in {str(path)!r} has shape {shape} along axes {axes}; expected one plane of grey, RGB "
            f"or RGBA. Save the plane to use as an image of its own.{f' {MULTI_CHANNEL}.' * ('C' in axes)}"
        )
        raise ValueError(msg)
