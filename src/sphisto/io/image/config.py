"""Settings of reading images: how values are taken for colours, what is kept in memory, and which files are doubted."""

from __future__ import annotations

from dataclasses import dataclass

from sphisto.core.tiles import TILE


@dataclass(frozen=True)
class ColourConfig:
    """How the values of an image are taken for 8-bit colours."""

    # white of 8, 10, 12, 14 and 16 bits: cameras have any of them and store the last four alike. An image of tissue in
    # transmitted light nearly reaches its white, the glass
    whites: tuple[int, ...] = (255, 1023, 4095, 16383, 65535)
    # how far floats may lie beyond white and below 0, as a share of white: interpolation with cubic or sinc kernels
    # leaves such values
    overshoot: float = 0.25
    dimmest: float = 16  # floats whose highest lies between 1 and this, of 255, are neither 0 to 1 nor 0 to 255
    sample_px: int = 64  # side in px of the windows by which a lazy image is judged
    samples: int = 5  # such windows along each axis
    overview_px: int = 2**22  # a coarsest level of up to this many px is judged as a whole


@dataclass(frozen=True)
class PyramidConfig:
    """How an image becomes one of another resolution."""

    kept: int = 2**26  # bytes of an image that is made once and kept; larger ones are lazy
    # bytes of blocks that are kept of a larger one: a row of them, or those around a few tiles
    kept_blocks: int = 2**25
    block: int = TILE  # side in px of what is made and kept together
    chunk: int = 2 * TILE  # side in px of the chunks of dask arrays, a task each
    at_once: int = 4  # blocks that are made by different threads at a time: each may take 100 MB meanwhile
    # ratio of pixel sizes up to which a level is as fine as wanted: levels round their sides to whole pixels, and a
    # hundredth cannot be seen
    as_fine: float = 1.01
    colours: ColourConfig = ColourConfig()  # how values are taken for colours


@dataclass(frozen=True)
class FileConfig:
    """What is read of files at a time, and which files are doubted."""

    in_memory: int = 2**26  # bytes of a decoded image that stays in memory; larger ones are decoded to a temporary file
    strip_px: int = 2**22  # pixels of a decoded image that are converted together
    large_chunk: int = 2**26  # bytes; a strip or tile of a tif that is larger is decoded once for all windows
    # bytes of decoded tiles of a tif that are kept: a row of them, for windows that lie side by side
    kept_tiles: int = 2**25
    largest_whole: int = 2**30  # bytes of a tif that is decoded whole if tiles of it cannot be decoded here
    harmless: int = 2**30  # bytes that any file may declare without doubt
    # bytes of image that a byte of file may hold beyond that: slides have 5 to 100, blank ones up to 300
    plausible: int = 500
    dark: int = 128  # of 256: the brightest value of an image that uses all of its bits is brighter
