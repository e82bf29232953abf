"""Replace a store as a whole or not at all.

A new version is built beside the store and takes its place in one step; whatever happens before that step, the old
version stays as it was. Chunks that do not change are shared by hard links, so that the new version costs only what
is new in it. A journal records what is already written, so that another run can go on after a kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphisto._settings import logger
from sphisto.io.disk import full_disk, is_full
from sphisto.io.store.journal import Journal, read_journal, start_journal
from sphisto.io.store.lock import locked
from sphisto.io.store.names import KINDS

UNCHANGED = "What was there before is unchanged"
FREE_OR_ELSEWHERE = "Free some space or choose another `store`"

_METADATA = "zarr.json"  # rewritten in place by some writers, so never shared between versions


@dataclass(frozen=True)
class Work:
    """A new version of a store while it is built."""

    folder: Path  # where all that belongs to it lies, hidden beside the store
    journal: Journal  # what is already written

    @property
    def staging(self) -> Path:
        """Folder that becomes the store."""
        return _staging(self.folder)

    def draft(self, path: Path) -> Path:
        """Name a file that will lie at ``path``, beside the store, as soon as the new version is the store."""
        drafts = _drafts(self.folder, self.journal.about["call"])
        drafts.mkdir(exist_ok=True)
        return drafts / path.name


@contextlib.contextmanager
def replacing(
    store: Path, *, call: dict[str, Any] | None = None, resume: bool = False, held: bool = False
) -> Iterator[Work]:
    """Yield a new version of ``store``, a copy of it (empty if there is none), which becomes the store at the end.

    If the block raises, the store is left as it was. What was written is kept if the journal or a draft records that
    there is something to go on from, and removed if not. A killed process leaves it as it is; the next call for the
    same store goes on from it, with ``resume``, or clears it away.

    ``call`` holds plain values that name what is written: an unfinished version of another call is not continued, and
    refused with ``resume``. ``held`` says that the caller holds the store's lock, which it does for several versions in a row.

    Raises
    ------
    BlockingIOError
        If another process writes the store.
    PermissionError
        If nothing can be written beside the store.
    ValueError
        If the unfinished version is of another call.
    RuntimeError
        If the store was changed meanwhile.
    """
    with contextlib.nullcontext() if held else locked(store):
        recover(store, keep=resume)
        left = _resumed(store, call or {}) if resume else None  # if it is refused it stays
        try:
            work = left or _begun(store, call or {})
            yield work
            _commit(work, store)
        except BaseException as error:
            full = is_full(error)
            kept = _keep_what_took_long(_folder(store), only_drafts=full)
            if full:
                also = "; the fitted model is kept for resume=True" if kept else ""
                raise full_disk(store, kept=UNCHANGED + also, mend=FREE_OR_ELSEWHERE) from error
            if kept:
                logger.warning(
                    "What was written so far is kept in %s: the same call with resume=True goes on from it, the next "
                    "call without it clears it away.",
                    _folder(store),
                )
            raise
        shutil.rmtree(work.folder, ignore_errors=True)


def recover(store: Path, *, keep: bool = False) -> None:
    """Bring to an end what killed runs left beside ``store``; unfinished versions are cleared away, or kept.

    Only for the holder of the store's lock.
    """
    if not store.parent.is_dir():
        return
    left = re.compile(re.escape(f".{store.name}.") + r"(new|old)(-[\w-]+)?\.sphisto")
    for leftover in [path for path in store.parent.iterdir() if left.fullmatch(path.name)]:
        if leftover.name.startswith(f".{store.name}.old"):
            if not store.exists():
                leftover.rename(store)
            shutil.rmtree(leftover, ignore_errors=True)
        elif journal := _of_store(leftover, store):
            _place_drafts(leftover, journal, store)
            shutil.rmtree(leftover, ignore_errors=True)
        elif not keep:
            shutil.rmtree(leftover, ignore_errors=True)


def _folder(store: Path) -> Path:
    return store.with_name(f".{store.name}.new.sphisto")


def _staging(folder: Path) -> Path:
    return folder / "store"


def _drafts(folder: Path, call: dict[str, Any]) -> Path:
    """Drafts of a call, distinguished from those of others by its name: they may outlive the journal."""
    return folder / f"beside-{hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()[:16]}"


def _journal(folder: Path) -> Path:
    return folder / "journal"


def _keep_what_took_long(folder: Path, *, only_drafts: bool) -> bool:
    """Remove a folder unless it holds drafts or regions; where space is needed, keep drafts alone, which are small."""
    journal = read_journal(_journal(folder))
    if only_drafts:
        _forget(folder)
    drafts = any(not path.name.startswith(".") for path in folder.glob("beside-*/*"))
    kept = drafts or (not only_drafts and journal is not None and bool(journal.regions))
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


def _begun(store: Path, call: dict[str, Any]) -> Work:
    """Make a copy of the store, and a journal as the sign that it is complete."""
    folder = _folder(store)
    folder.mkdir(exist_ok=True)  # may hold drafts
    _forget(folder)
    for left in list(folder.iterdir()):  # drafts of other calls, and what makes the workers of a killed one go on
        if left.is_file():
            left.unlink()
        elif left != _drafts(folder, call):
            shutil.rmtree(left)
    _staging(folder).mkdir()
    base = _stamps(store)
    if store.exists():
        clone(store, _staging(folder))
    about = {"call": call, "base": base, "itself": _identity(_staging(folder))}
    return Work(folder, start_journal(_journal(folder), about))


def _resumed(store: Path, call: dict[str, Any]) -> Work | None:
    """Find the unfinished version to continue, if it is whole and of the store as it is now."""
    folder = _folder(store)
    journal = read_journal(_journal(folder))
    if journal is None:
        return None
    left = journal.about.get("call", {})
    differing = [
        f"{name} (there {left.get(name)}, here {call.get(name)})"
        for name in {**left, **call}
        if left.get(name) != call.get(name)
    ]
    if differing:
        msg = (
            f"The unfinished version in {folder} is of another call: {', '.join(differing)}. Call as before, or start "
            "again with resume=False, which clears it away."
        )
        raise ValueError(msg)
    whole = _staging(folder).is_dir() and _identity(_staging(folder)) == journal.about.get("itself")
    if not whole or not journal.done or journal.about.get("base") != _stamps(store) or journal.after_failure_of_system:
        return None
    remove_unfinished_chunks(_staging(folder))
    return Work(folder, journal)


def remove_unfinished_chunks(staging: Path) -> None:
    """Remove what zarr was writing in processes that were killed; only when no process writes any more."""
    for unfinished in staging.rglob("*.partial"):
        unfinished.unlink(missing_ok=True)


def _commit(work: Work, store: Path) -> None:
    """Let the new version become the store."""
    now, then = _stamps(store), work.journal.about["base"]
    if now != then:
        changed = sorted({name for name in {**now, **then} if now.get(name) != then.get(name)})
        msg = (
            f"{store} was changed by something else while its new version was written ({', '.join(changed)}); it is "
            "left as it is, and what was written is kept. Call again with resume=True to write it into the store as it is now."
        )
        raise RuntimeError(msg)
    _flush(work.staging)  # else a power failure shortly after may leave empty files, and the old version is removed
    _swap(work.staging, store)
    _place_drafts(work.folder, work.journal, store)


def _place_drafts(folder: Path, journal: Journal, store: Path) -> None:
    for draft in _drafts(folder, journal.about["call"]).glob("[!.]*"):
        draft.replace(store.with_name(draft.name))


def _forget(folder: Path) -> None:
    """Remove an unfinished version; drafts stay."""
    _journal(folder).unlink(missing_ok=True)  # first: without it the rest counts for nothing
    shutil.rmtree(_staging(folder), ignore_errors=True)


def _of_store(folder: Path, store: Path) -> Journal | None:
    """Journal of the version built in a folder if that is the store by now: the process was killed right after."""
    journal = read_journal(_journal(folder))
    return journal if journal and store.is_dir() and _identity(store) == journal.about.get("itself") else None


def _identity(folder: Path) -> list[int]:
    about = folder.stat()
    return [about.st_dev, about.st_ino]


def _stamps(store: Path) -> dict[str, list[int]]:
    """When each element was last written, by its metadata."""
    if not store.is_dir():
        return {}
    files = [store / _METADATA, *(path for kind in KINDS for path in store.glob(f"{kind}/*/{_METADATA}"))]
    return {
        str(path.relative_to(store)): [path.stat().st_mtime_ns, path.stat().st_size] for path in files if path.is_file()
    }


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


def _swap(staging: Path, store: Path) -> None:
    """Put ``staging`` in the place of ``store``; the old version ends up where ``staging`` was."""
    if not store.exists():
        staging.rename(store)
    elif not _exchange(staging, store):
        # without an atomic exchange the store is away for an instant; recover() brings it back after a kill
        old = store.with_name(f".{store.name}.old.sphisto")
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


def _flush(folder: Path) -> None:
    """Bring the file system of a folder to the disk."""
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform.startswith("linux") else None
    if syncfs is None:
        getattr(os, "sync", int)()
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        syncfs(handle)
    finally:
        os.close(handle)
