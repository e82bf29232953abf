"""Fits of several sections that were broken off, by the file beside their store that says what is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphisto.core.atomic import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Unfinished:
    """A fit of several sections before its end."""

    call: dict[str, Any]  # plain values that name it; its ``slides`` are the sections
    written: tuple[str, ...]  # names of the sections that are in the store

    def __str__(self) -> str:
        n, of = len(self.written), len(self.call.get("slides", ()))
        names = f" ({', '.join(self.written)})" if self.written else ""
        return f"a fit that was broken off, or is still writing: {n} of {of} sections are written{names}"


def read_unfinished(file: Path) -> Unfinished | None:
    """Read what :func:`note_unfinished` wrote; ``None`` if there is nothing, or not that."""
    try:
        left = json.loads(file.read_bytes())
        return Unfinished(dict(left["call"]), tuple(map(str, left["written"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_unfinished(file: Path, call: dict[str, Any], written: Sequence[str]) -> None:
    """Write down what a fit has written so far."""
    with whole_file(file) as new:
        new.write_text(json.dumps({"call": call, "written": list(written)}))
