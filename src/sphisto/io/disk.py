"""Whether a disk has room for what will be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from sphisto._settings import logger


def require_room(folder: Path, least: float, most: float, *, needs: str, mend: str) -> None:
    """Refuse what a disk surely cannot hold, and warn of what it may not.

    It will take from ``least`` to ``most`` bytes; ``needs`` and ``mend`` are the words of what needs them, and of what
    to do.
    """
    free = shutil.disk_usage(folder).free
    if free >= most:
        return
    msg = f"{needs} some {least / 1e9:.1f} to {most / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free. {mend}."
    if free < least:
        raise OSError(msg)
    logger.warning("%s", msg)
