"""A file for other programs: written as a whole or not at all, and in place of another one only if that is wanted."""

from __future__ import annotations

import contextlib
import errno
import shutil
from typing import TYPE_CHECKING

from sphisto.core.atomic import require_writable, whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path where nothing can or may be written.

    Raises
    ------
    FileExistsError
        If there is a folder, or a file that is not to be replaced.
    FileNotFoundError
        If there is no folder for it.
    OSError
        If nothing can be written there.
    """
    if path.is_dir():
        msg = f"{path} is a folder; expected the name of a file."
        raise FileExistsError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists and is left alone. Choose another `path`, or replace it by `overwrite=True`."
        raise FileExistsError(msg)
    require_writable(path)


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
