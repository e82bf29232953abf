"""Write a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; at the end the file there takes the place of ``path`` in one step.

    If the block raises, ``path`` stays as it was. A killed process leaves a hidden file, which the next one replaces.
    """
    beside = _beside(path)
    try:
        yield beside
        with beside.open("rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())  # else a power failure may leave an empty file under the name of a good one
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def require_free(
    path: Path,
    *,
    overwrite: bool,
    mend: str = "Choose another `path`, or replace it by `overwrite=True` (in a shell `--overwrite`)",
) -> None:
    """Raise for a path to which :func:`whole_file` could not or may not write, before the work that leads to it is done."""
    if path.is_dir():
        msg = f"{path} is a folder; expected the name of a file."
        raise FileExistsError(msg)
    if path.exists() and not overwrite:
        msg = f"{path} exists and is left alone. {mend}."
        raise FileExistsError(msg)
    if not path.parent.is_dir():
        msg = f"There is no folder {path.parent} for {path.name}; make it, or choose another place."
        raise FileNotFoundError(msg)
    trial = _beside(path)
    try:
        trial.touch()
    except OSError as error:
        msg = f"Cannot write {path} ({error.strerror}); choose another place."
        raise type(error)(error.errno, msg) from error
    trial.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
