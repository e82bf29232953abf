"""Tissue images from files, and any of the forms they come in as plain 8-bit RGB."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
_LAZY_FROM = 2**28  # bytes; larger tif images are read block by block
_BLOCK = 1024  # px, of lazily read images
_CHANNELS = (1, 3, 4)
_SAMPLE = 64  # px, side of the windows that are looked at in a lazy image
_SAMPLES = 5  # windows along each axis
_TOLERANCE = 1e-6  # floats just below 0 or above 1 are rounding errors


def read_image(path: str | Path) -> Any:
    """Read a tissue image, of a pyramid its full resolution.

    Parameters
    ----------
    path
        A tif (also OME and other pyramids, BigTIFF), png, jpg or anything else that Pillow reads. Orientation tags
        are not applied: spot positions count in stored pixels.

    Returns
    -------
    (y, x) or (y, x, c) array in the file's own type; a dask array, read block by block, for tif images above 256 MB.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file holds no image that can be read, or more than one plane.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"Found no image file at {str(path)!r}. Give the path of a tif, png or jpg."
        raise FileNotFoundError(msg)
    with path.open("rb") as file:
        is_tiff = file.read(4) in _TIFF_STARTS
    return _read_tiff(path) if is_tiff else _read_other(path)


def to_rgb8(image: Any) -> tuple[Any, str | None]:
    """Bring an image to (y, x, 3) uint8.

    Values are taken by what they look like: 0..255 as they are, 0..1 times 255, 16-bit values above 255 divided by
    257. Grey is repeated, transparent parts are put on white. Of lazy images only some windows are looked at to
    judge the range; impossible values elsewhere raise when that part is computed.

    Parameters
    ----------
    image
        (y, x), (y, x, 1 | 3 | 4) or (1 | 3 | 4, y, x); numpy, dask or whatever ``numpy.asarray`` takes; bool, integer
        or float. Where both ends of the shape could be channels, the last is taken.

    Returns
    -------
    image
        (y, x, 3) uint8; lazy if the image was.
    note
        A sentence on what was converted, or None.

    Raises
    ------
    ValueError
        If the shape is not that of an image, or values are NaN, infinite, negative or beyond 16 bits.
    """
    lazy = _is_dask(image)
    array = image if lazy else np.asarray(image)
    array, notes = _channels_last(array)
    scale, note = _scale_of(array, lazy=lazy)
    notes += [note] if note else []
    if array.shape[2] == 1:
        notes.append("grey was repeated in red, green and blue")
    if array.shape[2] == 4:  # red, green, blue, alpha
        notes.append("the alpha channel was put on white")
    convert = partial(_to_rgb8, scale=scale)
    if lazy:
        array = array.rechunk({2: -1})
        rgb = array.map_blocks(
            convert, dtype=np.uint8, chunks=(*array.chunks[:2], (3,)), meta=np.empty((0, 0, 0), dtype=np.uint8)
        )
    else:
        rgb = convert(array)
    return rgb, f"The image was converted: {'; '.join(notes)}." if notes else None


def _is_dask(image: Any) -> bool:
    return hasattr(image, "dask") and hasattr(image, "map_blocks")


def _channels_last(array: Any) -> tuple[Any, list[str]]:
    """Return a view as (y, x, c), with a note if axes were moved."""
    if array.ndim == 2 and array.size:  # (y, x)
        return array[:, :, None], []
    if array.ndim == 3 and array.size:  # with channels
        if array.shape[2] in _CHANNELS:
            return array, []
        if array.shape[0] in _CHANNELS:
            moved = array.transpose(1, 2, 0)
            return moved, [f"channels were moved last, from shape {array.shape} to {moved.shape}"]
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
    colour = array[..., :3]
    parts = _sampled(colour) if lazy else [colour]
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
    from dask.base import compute

    starts = [np.unique(np.linspace(0, max(side - _SAMPLE, 0), _SAMPLES).astype(int)) for side in array.shape[:2]]
    windows = [array[y : y + _SAMPLE, x : x + _SAMPLE] for y, x in product(*starts)]
    return list(compute(*windows))


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


def _read_tiff(path: Path) -> Any:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            index = int(np.argmax([series.size for series in tif.series]))
            level = tif.series[index].levels[0]
            axes, shape, nbytes, page = level.axes, level.shape, level.nbytes, level.keyframe
            decodable = _decodes(page.compression, page.predictor)
    except (tifffile.TiffFileError, ValueError, IndexError) as error:
        msg = f"{str(path)!r} is not a tif image that can be read ({error}). Save it again, or as png."
        raise ValueError(msg) from error
    order = _picture_axes(path, axes, shape)
    if not decodable:
        return _read_other(path)
    small = nbytes <= _LAZY_FROM
    array = tifffile.imread(path, series=index, level=0) if small else _lazy_tiff(path, index, axes)
    kept = [i for i in range(len(axes)) if i in order]
    picked = array[tuple(slice(None) if i in order else 0 for i in range(len(axes)))]
    return picked.transpose([kept.index(i) for i in order])


def _decodes(compression: int, predictor: int) -> bool:
    """Whether tifffile can decode such a file with what is installed; LZW and JPEG take imagecodecs."""
    import tifffile

    try:
        tifffile.TIFF.DECOMPRESSORS[compression], tifffile.TIFF.UNPREDICTORS[predictor]
    except (KeyError, ValueError):
        return False
    return True


def _picture_axes(path: Path, axes: str, shape: tuple[int, ...]) -> list[int]:
    """Indices of the y, x and, if there is one, channel axis."""
    channels = [i for i, name in enumerate(axes) if name not in "YX" and shape[i] > 1]
    # S samples, C channels, Q unknown: what a colour image saved with its channels first has
    colour = all(axes[i] in "SCQ" and shape[i] in _CHANNELS for i in channels)
    if "Y" not in axes or "X" not in axes or len(channels) > 1 or not colour:
        msg = (
            f"The largest image in {str(path)!r} has shape {shape} along axes {axes}; expected one plane of grey, RGB "
            "or RGBA. Save the plane to use as an image of its own."
        )
        raise ValueError(msg)
    return [axes.index("Y"), axes.index("X"), *channels]


def _lazy_tiff(path: Path, series: int, axes: str) -> Any:
    """Open a tif as a dask array whose blocks hold whole tiles or strips."""
    import dask.array as da
    import tifffile
    import zarr
    from dask.base import tokenize

    try:
        # uncompressed in one piece, as ImageJ writes: to zarr that is a single chunk
        stored: Any = tifffile.memmap(path, series=series, level=0, mode="r")
        steps = (1,) * len(axes)
    except ValueError:
        opened: Any = zarr.open(tifffile.imread(path, aszarr=True, series=series, level=0), mode="r")
        stored = opened["0"] if isinstance(opened, zarr.Group) else opened
        steps = stored.chunks
    chunks = tuple(
        min(size, step * max(1, _BLOCK // step)) if name in "YX" else size
        for name, size, step in zip(axes, stored.shape, steps, strict=True)
    )
    key = tokenize(str(path.resolve()), path.stat().st_mtime_ns, series)
    return da.from_array(stored, chunks=chunks, name=f"tif-{key}")


def _read_other(path: Path) -> NDArray[Any]:
    from PIL import Image, UnidentifiedImageError

    try:
        with _any_size(), Image.open(path) as picture:
            _seek_largest(picture)
            mode = _plain_mode(picture)
            return np.asarray(picture if mode is None else picture.convert(mode))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        msg = (
            f"{str(path)!r} is not an image that can be read ({error}). Give a tif, png or jpg; for unusual "
            "compressions `pip install imagecodecs`."
        )
        raise ValueError(msg) from error


def _plain_mode(picture: Any) -> str | None:
    """Pillow mode to convert to, if arrays of the image's own mode are not grey, RGB or RGBA."""
    if picture.mode in {"1", "L", "RGB", "RGBA", "I", "F"} or picture.mode.startswith("I;16"):
        return None
    transparent = "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info
    return "RGBA" if transparent else "RGB"


def _seek_largest(picture: Any) -> None:
    """Move to the frame with the most pixels: the full resolution of a pyramid."""
    sizes = []
    for frame in range(getattr(picture, "n_frames", 1)):
        picture.seek(frame)
        sizes.append(picture.size[0] * picture.size[1])
    picture.seek(int(np.argmax(sizes)))


@contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow open whole slides, which it takes for attacks."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
