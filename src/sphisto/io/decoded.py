"""Pictures that can only be decoded whole, and what keeps a file from filling the memory."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto.io.vendors import EXTRA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

logger = logging.getLogger("sphisto")

_IN_MEMORY = 2**26  # bytes; larger pictures are decoded to a temporary file
_STRIP = 2**22  # px that are moved at once
_HARMLESS = 2**30  # bytes; what a file declares is not doubted below
_PLAUSIBLE = 500  # bytes of picture per byte of file; slides have 5 to 100, blank ones up to 300


class FileLevel:
    """A picture (y, x, c) in a file without a name, which goes with it.

    The file is mapped for each window anew: what is read of it does not stay in memory.

    Parameters
    ----------
    file
        Its values in order, and nothing else.
    shape, dtype
        Of the picture.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._file = file
        weakref.finalize(self, file.close)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        return np.array(np.memmap(self._file, dtype=self.dtype, mode="r", shape=self.shape)[key])


def decode(path: Path) -> NDArray[Any] | FileLevel:
    """Decode a png, jpg or anything else that Pillow reads, once: to memory, or above 64 MB to a temporary file.

    Orientation tags are not applied. Of several frames the largest is taken.

    Returns
    -------
    (y, x, 1 | 3 | 4) in the file's own type.

    Raises
    ------
    ValueError
        If the file holds no image that can be read, or declares one that it cannot hold.
    OSError
        If the temporary folder cannot hold it.
    """
    with _any_size():
        picture, mode = _loaded(path)
        width, height = picture.size
        rows = max(1, _STRIP // width)
        first = np.atleast_3d(np.asarray(_strip(picture, mode, 0, 1)))
        strips = (np.atleast_3d(np.asarray(_strip(picture, mode, y, rows))) for y in range(0, height, rows))
        return kept(strips, (height, *first.shape[1:]), first.dtype, path)


def kept(
    strips: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> NDArray[Any] | FileLevel:
    """Join strips of rows (h, x, c) in memory, or above 64 MB in a temporary file.

    Raises
    ------
    OSError
        If the temporary folder cannot hold them.
    """
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if nbytes <= _IN_MEMORY:
        return np.concatenate(list(strips))
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        msg = (
            f"{str(path)!r} can only be decoded whole, which takes {nbytes / 1e9:.1f} GB, and the temporary folder "
            f"{folder!r} has {free / 1e9:.1f} GB free. Free some space, set TMPDIR to another folder, or save the "
            "picture as a tiled tif."
        )
        raise OSError(msg)
    logger.info(
        "%s can only be decoded whole: its %.1f GB are kept in a temporary file, not in memory.", path, nbytes / 1e9
    )
    file = tempfile.TemporaryFile(prefix="sphisto-")  # noqa: SIM115 - it is closed with what is returned
    level = FileLevel(file, shape, dtype)
    for strip in strips:
        file.write(np.ascontiguousarray(strip).data)
    file.flush()
    return level


def refuse_bomb(path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise for a file that declares far more pixels than its bytes can hold; whole slides pass.

    Raises
    ------
    ValueError
        If the picture would take above 1 GB and more than 500 times its file.
    """
    declared = int(np.prod(shape, dtype=object)) * itemsize
    size = path.stat().st_size
    if declared > max(_HARMLESS, _PLAUSIBLE * size):
        msg = (
            f"{str(path)!r} declares {' x '.join(map(str, shape))} values, {declared / 1e9:.1f} GB, in a file of {size:,} bytes; "
            f"expected no more than {_PLAUSIBLE} bytes of picture per byte of file. It is damaged or made to fill the "
            "memory: get it again from where it came."
        )
        raise ValueError(msg)


def _loaded(path: Path) -> tuple[Any, str | None]:
    """Return the decoded picture, and the mode that its strips must be converted to."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            _seek_largest(picture)
            refuse_bomb(path, (picture.size[1], picture.size[0], len(picture.getbands())), 1)
            picture.load()
            return picture, _plain_mode(picture)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        msg = (
            f"{str(path)!r} is not an image that can be read ({error}). Expected a whole tif, png or jpg: copy or save "
            f"it again; for unusual compressions `{EXTRA}`."
        )
        raise ValueError(msg) from error


def _strip(picture: Any, mode: str | None, y: int, rows: int) -> Any:
    strip = picture.crop((0, y, picture.size[0], min(y + rows, picture.size[1])))
    return strip if mode is None else strip.convert(mode)


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
