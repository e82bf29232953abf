"""Lines on the terminal; an output that cannot show them never ends the work."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from typing import Any

CLOSED = (OSError, ValueError)  # the other end of a pipe has ended; a file that was closed


def print_line(text: str, *, error: bool = False) -> None:
    """Print a line to standard output, or standard error.

    Letters that the output's encoding lacks are escaped. An output that is closed, or that is not there (a program
    without a window), is passed over.
    """
    output = sys.stderr if error else sys.stdout
    if output is None:
        return
    encoding = getattr(output, "encoding", None) or "ascii"
    with contextlib.suppress(*CLOSED), _bars_aside(output):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=output, flush=True)


def _bars_aside(output: Any) -> AbstractContextManager[None]:
    """Clear bars while a line is printed, and draw them again below it."""
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return contextlib.nullcontext() if tqdm is None else tqdm.external_write_mode(file=output)
