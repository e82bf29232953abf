"""A file for other programs: written as a whole or not at all, and in place of another one only if that is wanted."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from typing import TYPE_CHECKING

from sphisto.core.atomic import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger("sphisto")


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path where nothing can or may be written.

    Raises
    ------
    FileExistsError
        If there is a folder, or a file that is not to be replaced.
    FileNotFoundError
        If there is no folder for it.
    """
    if path.is_dir():
        msg = f"{path} is a folder; expected the name of a file."
        raise FileExistsError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists and is left alone. Choose another `path`, or replace it by `overwrite=True`."
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"There is no folder {path.parent} for {path.name}; make it, or choose another `path`."
        raise FileNotFoundError(msg)


def check_space(path: Path, least: float, most: float) -> None:
    """Refuse to begin a file that the disk surely cannot hold, and warn of one that it may not.

    Parameters
    ----------
    path
        The file.
    least, most
        Bytes that it will take.

    Raises
    ------
    OSError
        If less than ``least`` is free.
    """
    free = shutil.disk_usage(path.parent).free
    if free >= most:
        return
    msg = (
        f"{path.name} needs some {least / 1e9:.1f} to {most / 1e9:.1f} GB and {path.parent} has {free / 1e9:.1f} GB free. "
        "Free some space, or choose another `path` or fewer `genes`."
    )
    if free < least:
        raise OSError(errno.ENOSPC, msg)
    logger.warning("%s", msg)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is there at the end becomes ``path``, and if the block raises nothing is left.

    Raises
    ------
    OSError
        If the disk fills up.
    """
    try:
        with whole_file(path) as beside:
            yield beside
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        msg = (
            f"The disk filled up while {path} was written ({free:.0f} MB left); nothing of it is kept. Free some space."
        )
        raise OSError(error.errno, msg) from error
