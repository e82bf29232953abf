"""Whether a disk has room for what will be written, what is raised where it fills up meanwhile, and files written as a whole."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphisto._settings import logger
from sphisto.core.atomic import whole_file


def require_room(folder: Path, least: float, most: float, *, needs: str, mend: str) -> None:
    """Refuse what a disk surely cannot hold, and warn of what it may not.

    It will take from ``least`` to ``most`` bytes; ``needs`` and ``mend`` are the words of what needs them, and of what
    to do.
    """
    free = shutil.disk_usage(folder).free
    if free >= most:
        return
    msg = f"{needs} some {_sizes(least, most)} and {folder} has {_size(free)} free. {mend}."
    if free < least:
        raise OSError(msg)
    logger.warning("%s", msg)


def is_full(error: BaseException) -> bool:
    """Whether an error is that of a disk or of a quota without room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def full_disk(path: Path, *, kept: str, mend: str = "Free some space") -> OSError:
    """Return the error of a disk that filled up while ``path`` was written; ``kept`` says what is there now."""
    free = _size(shutil.disk_usage(path.parent).free)
    msg = f"The disk filled up while {path} was written ({free} left). {kept}. {mend}."
    return OSError(errno.ENOSPC, msg)


@contextlib.contextmanager
def naming_full_disk(
    path: Path, *, kept: str = "Nothing of it is kept", mend: str = "Free some space"
) -> Iterator[None]:
    """Raise what :func:`full_disk` returns if the disk fills up in the block."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full_disk(path, kept=kept, mend=mend) from error
        raise


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is there at the end becomes ``path``, and if the block raises nothing is left.

    Where the disk fills up, what :func:`full_disk` returns is raised.
    """
    with naming_full_disk(path), whole_file(path) as beside:
        yield beside


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _sizes(least: float, most: float) -> str:
    one, other = _size(least).split(), _size(most)
    return f"{one[0]} to {other}" if other.endswith(one[1]) else f"{' '.join(one)} to {other}"
