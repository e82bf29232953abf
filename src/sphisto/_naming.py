"""Say of which of several sections a message or an error is."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("section", default=None)


@contextlib.contextmanager
def naming(section: str) -> Iterator[None]:
    """Begin messages that are logged in the block, and errors that leave it, with the section's name, unless they have it.

    What reads, calibrates or trains knows one section alone, and need not know whether there are others.
    """
    before = _current.set(section)
    try:
        yield
    except Exception as error:
        text = error.args[0] if len(error.args) == 1 else None
        if not isinstance(text, str):  # an error of the system: number, words and path
            error.add_note(f"That is of {section!r}.")
        elif not _names(text, section):
            error.args = (f"{section}: {text}",)
        raise
    finally:
        _current.reset(before)


def _names(text: str, section: str) -> bool:
    return text.startswith(f"{section}: ") or repr(section) in text


class _Naming(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        section = _current.get()
        if section is not None and not _names(text := record.getMessage(), section):
            record.msg, record.args = f"{section}: {text}", None
        return True


logging.getLogger("sphisto").addFilter(_Naming())
