"""Lines and progress bars on the terminal; an output that cannot show them never ends the work."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_CLOSED = (OSError, ValueError)  # the other end of a pipe has ended; a file that was closed


def print_line(text: str, *, error: bool = False) -> None:
    """Print a line to standard output, or standard error.

    Letters that the output's encoding lacks are escaped. An output that is closed, or that is not there (a program
    without a window), is passed over.
    """
    output = sys.stderr if error else sys.stdout
    if output is None:
        return
    encoding = getattr(output, "encoding", None) or "ascii"
    with contextlib.suppress(*_CLOSED):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=output, flush=True)


def progress_bar(total: int, *, initial: int = 0, desc: str | None = None, unit: str) -> tqdm[Any]:
    """Return a progress bar on standard error, where there is one, or in the notebook."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def display(self, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(*_CLOSED):
                return super().display(*args, **kwargs)

        def close(self) -> None:
            with contextlib.suppress(*_CLOSED):
                super().close()

    # switched off only where it must be: `None`, rather than False, leaves the choice to TQDM_DISABLE
    return Bar(total=total, initial=initial, desc=desc, unit=unit, **({"disable": True} if sys.stderr is None else {}))
