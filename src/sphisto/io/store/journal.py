"""What of a new version of a store is already written: one line for each thing that is done."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sphisto.core.atomic import whole_file

_REGION = "region "
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class Journal:
    """Lines in a file, each written when what it names is."""

    path: Path
    about: dict[str, Any]  # what the version belongs to, plain values: first line of the file
    # names of what is done, in order
    done: dict[str, None] = field(default_factory=dict)  # as a set that keeps its order

    def note(self, name: str) -> None:
        """Write down that something is done."""
        with self.path.open("a") as file:
            file.write(f"\n{json.dumps(name)}\n")  # on a line of its own, also after one that broke off
        self.done[name] = None

    def note_region(self, number: int) -> None:
        """Write down that a region is written, what lies wholly in it of coarser levels included."""
        self.note(f"{_REGION}{number}")

    @property
    def regions(self) -> set[int]:
        """Regions that are written."""
        return {int(name.removeprefix(_REGION)) for name in self.done if name.startswith(_REGION)}

    def __contains__(self, name: str) -> bool:
        return name in self.done

    @property
    def after_failure_of_system(self) -> bool:
        """Whether the machine was restarted since: files written shortly before may then be empty."""
        return bool(self.about["boot"] != _boot())


def start_journal(path: Path, about: dict[str, Any]) -> Journal:
    """Begin an empty journal."""
    journal = Journal(path, {**about, "boot": _boot()})
    with whole_file(path) as new:
        new.write_text(json.dumps(journal.about) + "\n")
    return journal


def read_journal(path: Path) -> Journal | None:
    """Read a journal, as far as it goes; ``None`` where there is none."""
    try:
        first, *lines = path.read_text().splitlines()
        about = json.loads(first)
    except (OSError, ValueError):
        return None
    return (
        Journal(path, about, dict.fromkeys(_readable(lines))) if isinstance(about, dict) and "boot" in about else None
    )


def _readable(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        with contextlib.suppress(ValueError):  # an empty line, or one that broke off
            yield str(json.loads(line))


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return os.name
