"""Bring a store to the format that this version writes."""

from __future__ import annotations

from pathlib import Path

from sphisto import _keys
from sphisto._progress import stage
from sphisto._terminal import print_line
from sphisto.io.paths import store_path
from sphisto.io.store.convert import convert


def upgrade(store: str | Path) -> None:
    """Convert a store of an earlier format to the one that this version writes.

    Stores of every earlier format are read as they are; only to write another projection into one must it be converted.
    Values do not change. The rasters are written anew, so that as much disk as they take must be free.

    Parameters
    ----------
    store
        Path of the store.

    Writes
    ------
    The store
        A new version takes the place of the old one at once, when it is complete: a process that is killed leaves the
        old one.

    Raises
    ------
    FileNotFoundError
        If there is nothing at that path.
    ValueError
        If it is no store of sphisto, or of a newer format.
    FileExistsError
        If the name of a new element is taken.
    OSError
        If the disk does not suffice; the store stays as it was.

    Examples
    --------
    >>> import sphisto as sp
    >>> sp.tl.upgrade("toy.zarr")  # doctest: +SKIP
    """
    path = store_path(store)
    with stage("convert"):
        done = convert(path)
    print_line(f"{path} is of format {_keys.FORMAT} {'now' if done else 'already; nothing was done'}")
