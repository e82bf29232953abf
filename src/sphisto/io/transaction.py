"""Replace a store as a whole or not at all.

A new version is built beside the store and takes its place in one step; whatever happens before that step, the old
version stays as it was. Chunks that do not change are shared by hard links, so that the new version costs only what
is new in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_METADATA = "zarr.json"  # rewritten in place by some writers, so never shared between versions


@contextlib.contextmanager
def replacing(store: Path) -> Iterator[Path]:
    """Yield a folder that holds a copy of ``store`` (empty if there is none) and becomes the store at the end.

    If the block raises, the folder is removed and the store is left as it was. A killed process leaves a hidden
    folder beside the store; the next call for the same store clears it away.

    Raises
    ------
    PermissionError
        If nothing can be written beside the store.
    """
    recover(store)
    staging = _make_staging(store)
    try:
        if store.exists():
            clone(store, staging)
        yield staging
        _swap(staging, store)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(staging.parent).free / 1e6
            msg = (
                f"The disk filled up while {store} was written ({free:.0f} MB left). What was there before is "
                "unchanged. Free some space or choose another `store`."
            )
            raise OSError(errno.ENOSPC, msg) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def recover(store: Path) -> None:
    """Clear away what killed runs left beside ``store``, and bring back a version caught between two renames."""
    if not store.parent.is_dir():
        return
    for leftover in store.parent.glob(f".{store.name}.*.sphisto"):
        _, _, rest = leftover.name.partition(f".{store.name}.")
        kind, pid = rest.split(".")[0].split("-")[:2]
        if _is_running(int(pid)):
            continue
        if kind == "old" and not store.exists():
            leftover.rename(store)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def clone(source: Path, target: Path) -> None:
    """Copy a store into an empty folder; chunks are hard-linked where the file system can do it."""
    for folder, _, files in os.walk(source):
        copy = target / Path(folder).relative_to(source)
        copy.mkdir(exist_ok=True)
        for name in files:
            original = Path(folder) / name
            if name == _METADATA:
                shutil.copy2(original, copy / name)
                continue
            try:
                os.link(original, copy / name)
            except OSError:
                shutil.copy2(original, copy / name)


def _make_staging(store: Path) -> Path:
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=store.parent, prefix=f".{store.name}.new-{os.getpid()}-", suffix=".sphisto"))
    except OSError as error:
        msg = (
            f"Cannot write in {store.parent} ({error.strerror}); expected a folder in which a store can be made. "
            "Choose another `store`."
        )
        raise PermissionError(msg) from error


def _swap(staging: Path, store: Path) -> None:
    """Put ``staging`` in the place of ``store``; the old version ends up where ``staging`` was."""
    if not store.exists():
        staging.rename(store)
    elif not _exchange(staging, store):
        # without an atomic exchange the store is away for an instant; recover() brings it back after a kill
        old = store.parent / f".{store.name}.old-{os.getpid()}.sphisto"
        store.rename(old)
        staging.rename(store)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two folders in one step (Linux); ``False`` where that cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False  # a leftover of this very process: its block has ended
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
