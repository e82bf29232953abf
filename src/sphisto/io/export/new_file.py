"""A file for other programs, written as a whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sphisto.core.atomic import whole_file
from sphisto.io.disk import naming_full_disk


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; what is there at the end becomes ``path``, and if the block raises nothing is left.

    Raises
    ------
    OSError
        If the disk fills up.
    """
    with naming_full_disk(path), whole_file(path) as beside:
        yield beside
