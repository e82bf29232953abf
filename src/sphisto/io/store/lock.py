"""One writer at a time for each store."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold a file beside ``store`` that names this process; refuse if another one holds it.

    The system lets go of the lock when its holder ends, however it ends. On file systems without locks the file alone
    counts: one that a process of this machine left which has ended is taken over.

    Raises
    ------
    BlockingIOError
        If another process writes the store.
    PermissionError
        If nothing can be written beside the store.
    """
    path = lock_file(store)
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path, store)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        msg = (
            f"Cannot write in {store.parent} ({error.strerror}); expected a folder in which a store can be made. "
            "Choose another `store`."
        )
        raise PermissionError(msg) from error
    try:
        yield
    finally:
        if sys.platform == "win32":  # which removes no file that is open
            os.close(handle)
            path.unlink(missing_ok=True)
        else:  # before it is unlocked: a process that opens it afterwards finds that it was removed
            path.unlink(missing_ok=True)
            os.close(handle)


def refuse_held(store: Path) -> None:
    """Refuse a store that another process writes at this moment, before work that would be in vain."""
    if lock_file(store).exists():  # it may be left of one that has ended
        with locked(store):
            pass


def lock_file(store: Path) -> Path:
    """Name the file that is held while a store is written."""
    return store.with_name(f".{store.name}.lock")


def _acquire(path: Path, store: Path, tries: int = 20) -> int:
    """Open the lock file and lock it; it may vanish meanwhile, each time as another writer has just ended."""
    for _ in range(tries):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if _try_lock(handle, path) and _is_still(handle, path):
                os.truncate(handle, 0)
                about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
                os.write(handle, json.dumps(about).encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if path.exists() and _holder(path):
            break
        time.sleep(0.02)
    holder = _holder(path)
    msg = (
        f"{store} is being written by process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
        f" since {holder.get('since', 'an unknown time')}. Wait until it has ended or end it, or choose another `store`. "
        f"If that process ended long ago (another machine may have failed), remove {path}."
    )
    raise BlockingIOError(msg)


def _try_lock(handle: int, path: Path) -> bool:
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                return False
        else:
            return True
    holder = _holder(path)  # no locks here: the content of the file has to do
    return not holder or (holder.get("host") == socket.gethostname() and not _is_running(int(holder.get("pid", -1))))


def _is_still(handle: int, path: Path) -> bool:
    """Whether the file that was opened is still the one of that name: its last holder may just have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_running(pid: int) -> bool:
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return True  # there is no harmless signal to test with
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
