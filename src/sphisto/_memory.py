"""Let the C library keep memory that is freed and wanted again at once."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_USUAL = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 128 * 1024, _MMAP_THRESHOLD: 32 * 1024 * 1024}
_KEEPING = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 1024 * 1024, _MMAP_THRESHOLD: 1024 * 1024 * 1024}


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed blocks for the next ones while arrays of the same few sizes come and go; give them back at the end.

    Without it glibc maps each large array anew and the system fills it with zeros, page by page: a quarter of the time
    of a fit. Nothing happens where the C library is another.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for option, value in _KEEPING.items():
        library.mallopt(option, value)
    try:
        yield
    finally:
        for option, value in _USUAL.items():
            library.mallopt(option, value)
        library.malloc_trim(0)


def give_back() -> None:
    """Give back what is free just now: threads that come and go each leave behind some memory that only they would use."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
    except (AttributeError, OSError, TypeError):
        return None
    return library
