"""Memory that the C library holds although nothing uses it."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give back what is free just now: threads that come and go each leave behind some memory that only they would use.

    Nothing happens where the C library is not glibc.
    """
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
