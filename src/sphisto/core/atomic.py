"""Write a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; at the end the file there takes the place of ``path`` in one step.

    If the block raises, ``path`` stays as it was. A killed process leaves a hidden file, which the next one replaces.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure may leave an empty file under the name of a good one
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
