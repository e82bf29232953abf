"""What whoever waits at the terminal is shown; that it cannot be shown never ends the work it speaks of."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_UNSEEN = (OSError, ValueError)  # the other end of a pipe is gone; a file that was closed


def say(text: str, *, error: bool = False) -> None:
    """Print a line to standard output, or standard error.

    Letters that the output's encoding lacks are escaped. An output that is closed, or that is not there (a program
    without a window), is passed over.
    """
    output = sys.stderr if error else sys.stdout
    if output is None:
        return
    encoding = getattr(output, "encoding", None) or "ascii"
    with contextlib.suppress(*_UNSEEN):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=output, flush=True)


def bar(total: int, *, initial: int = 0, desc: str | None = None, unit: str) -> tqdm[Any]:
    """Return a progress bar on standard error, where there is one, or in the notebook."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def display(self, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(*_UNSEEN):
                return super().display(*args, **kwargs)

        def close(self) -> None:
            with contextlib.suppress(*_UNSEEN):
                super().close()

    # switched off only where it must be: `None`, rather than False, leaves TQDM_DISABLE its say
    return Bar(total=total, initial=initial, desc=desc, unit=unit, **({"disable": True} if sys.stderr is None else {}))
