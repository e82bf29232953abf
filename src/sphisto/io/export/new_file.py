"""A file for other programs, written as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from sphisto.core.atomic import whole_file


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
