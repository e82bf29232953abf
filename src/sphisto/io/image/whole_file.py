"""Images that can only be decoded whole, and what keeps a file from filling the memory."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.io.image.config import FileConfig
from sphisto.io.image.openslide import EXTRA
from sphisto.io.image.pillow import Mode, mode_of
from sphisto.io.image.pyramid import Pyramid

_JP2_MARK, _JP2_BITS = b"\xff\x4f\xff\x51", 42  # begin of a JPEG 2000 code stream, and place of the bits from there
_LAYERED = frozenset({"PSD"})  # formats whose frames are the parts of one image


class FileLevel:
    """An image (y, x, c) in a file without a name, which goes with it.

    The file is mapped again for each window: what is read of it does not stay in memory.

    The file holds its values in order, and nothing else.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._file = file
        weakref.finalize(self, file.close)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        return np.array(np.memmap(self._file, dtype=self.dtype, mode="r", shape=self.shape)[key])


class _Decoded:
    """Values (y, x, c) with the interface of Pillow's images, as far as strips are cut out of them."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values, self.size = values, (values.shape[1], values.shape[0])

    def crop(self, box: tuple[int, int, int, int]) -> NDArray[Any]:
        x0, y0, x1, y1 = box
        return self._values[y0:y1, x0:x1]


def decode(path: Path, *, config: FileConfig = FileConfig()) -> Pyramid:
    """Decode a png, jpg or anything else that Pillow reads, once: to memory, or above 64 MB to a temporary file.

    Orientation tags are not applied. Of several frames the largest is taken. What was done is in the pyramid's notes;
    its one level is (y, x, 1 | 3 | 4) in the file's own type.
    """
    with _any_size():
        image, mode, notes = _loaded(path, config)
        width, height = image.size
        rows = max(1, config.strip_px // width)
        first = _strip(image, mode, 0, 1)
        strips = (_strip(image, mode, y, rows) for y in range(0, height, rows))
        return Pyramid((kept(strips, (height, *first.shape[1:]), first.dtype, path, config=config),), notes=notes)


def kept(
    strips: Iterable[NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    path: Path,
    *,
    config: FileConfig = FileConfig(),
) -> NDArray[Any] | FileLevel:
    """Join strips of rows (h, x, c) in memory, or above 64 MB in a temporary file."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if nbytes <= config.in_memory:
        return np.concatenate(list(strips))
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        msg = (
            f"{str(path)!r} can only be decoded whole, which takes {nbytes / 1e9:.1f} GB, and the temporary folder "
            f"{folder!r} has {free / 1e9:.1f} GB free. Free some space, set TMPDIR to another folder, or save the "
            "image as a tiled tif."
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


def refuse_bomb(path: Path, shape: tuple[int, ...], itemsize: int, *, config: FileConfig = FileConfig()) -> None:
    """Raise for a file that declares far more pixels than its bytes can hold; whole slides pass."""
    declared = int(np.prod(shape, dtype=object)) * itemsize
    size = path.stat().st_size
    if declared > max(config.harmless, config.plausible * size):
        msg = (
            f"{str(path)!r} declares {' x '.join(map(str, shape))} values, {declared / 1e9:.1f} GB, in a file of {size:,} bytes; "
            f"expected no more than {config.plausible} bytes of image per byte of file. It is damaged or made to fill the "
            "memory: get it again from where it came."
        )
        raise ValueError(msg)


def _loaded(path: Path, config: FileConfig) -> tuple[Any, Mode, tuple[str, ...]]:
    """Return the decoded image, how its strips become arrays, and notes on it."""
    from PIL import ExifTags, Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            chosen = _seek_largest(image)
            refuse_bomb(path, (image.size[1], image.size[0], len(image.getbands())), 1, config=config)
            turned, bits = image.getexif().get(ExifTags.Base.Orientation, 1), _bits(path, image)
            deep = bits > 8 and mode_of(image).bits == 8
            if deep and (read := _with_all_bits(path, image.format)) is not None:
                return read, Mode(bits=bits), tuple(note for note in (chosen, orientation_note(turned)) if note)
            image.load()
            # Pillow itself applies the tag to a tif, and to nothing else
            stored = _as_stored(image, turned) if image.format == "TIFF" else image
            mode = mode_of(stored)
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        msg = (
            f"{str(path)!r} is not an image that can be read ({error}). Expected a whole tif, png or jpg: copy or save "
            f"it again; for unusual compressions `{EXTRA}`."
        )
        raise ValueError(msg) from error
    if deep:
        _refuse_cut(path, stored, bits, config)
    cut = f"its {bits} bits were cut to 8 in decoding" if deep else None
    notes = (chosen, cut, mode.note, orientation_note(turned))
    return stored, mode, tuple(note for note in notes if note)


def orientation_note(tag: Any) -> str | None:
    """Return the note that a tag of orientation is not applied; ``None`` if it states no other one."""
    if tag not in range(2, 9):
        return None
    return f"its orientation tag ({int(tag)}) was not applied, as spot positions count in stored pixels"


def _as_stored(image: Any, turned: int) -> Any:
    from PIL.Image import Transpose

    back = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_90,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_270,
    }
    return image.transpose(back[turned]) if turned in back else image


def _bits(path: Path, image: Any) -> int:
    """Return bits per sample, as far as the file states them."""
    from PIL import ExifTags

    png_bits = 24  # place of the byte of a png that holds the bits of a sample
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(png_bits + 1)[png_bits]
    if image.format == "JPEG2000":
        content = path.read_bytes()
        at = content.find(_JP2_MARK)
        return (content[at + _JP2_BITS] & 0x7F) + 1 if at >= 0 else 8
    stated = image.tag_v2.get(ExifTags.Base.BitsPerSample, 8) if image.format == "TIFF" else 8
    return int(max(np.atleast_1d(stated)))


def _with_all_bits(path: Path, kind: str | None) -> Any | None:
    """Decode an image of more bits than Pillow keeps, if imagecodecs is there: (y, x, 3 | 4), as Pillow's images are cropped."""
    try:
        import imagecodecs
    except ImportError:
        return None
    decode = {"PNG": imagecodecs.png_decode, "JPEG2000": imagecodecs.jpeg2k_decode}.get(str(kind))
    values = None if decode is None else np.asarray(decode(path.read_bytes()))
    return None if values is None or values.ndim != 3 or values.shape[2] not in (3, 4) else _Decoded(values)


def _refuse_cut(path: Path, image: Any, bits: int, config: FileConfig) -> None:
    """Raise where what Pillow makes of more than 8 bits is not what they show: in JPEG 2000, and where not all are used."""
    if image.format == "JPEG2000" or max(high for _, high in image.convert("RGB").getextrema()) < config.dark:
        msg = (
            f"{str(path)!r} has {bits} bits per sample, which cannot be read rightly here; expected 8 bits, or a tif. Save it as "
            f"one of these, or install imagecodecs, as `{EXTRA}` does."
        )
        raise ValueError(msg)


def _strip(image: Any, mode: Mode, y: int, rows: int) -> NDArray[Any]:
    return mode.array(image.crop((0, y, image.size[0], min(y + rows, image.size[1]))))


def _seek_largest(image: Any) -> str | None:
    """Move to the frame with the most pixels, the full resolution of a pyramid, and return a note on it."""
    n_frames = getattr(image, "n_frames", 1)
    if n_frames == 1 or image.format in _LAYERED:
        return None
    sizes = []
    for frame in range(n_frames):
        image.seek(frame)
        sizes.append(image.size[0] * image.size[1])
    chosen = int(np.argmax(sizes))
    image.seek(chosen)
    return (
        f"of its {n_frames} frames number {chosen + 1} was taken, the largest"
        if max(sizes) > min(sizes)
        else (f"of its {n_frames} frames the first was taken")
    )


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
