"""Stages of a long call: a bar each, with the time left, or a line in the log where bars are not shown."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from sphisto._settings import logger, settings
from sphisto._terminal import CLOSED

_BRIEF = 1.0  # s; a stage that takes less leaves no line
_LOOK, _LONG = 5.0, 60.0  # s; steps that are timed, and what they must leave to do for an estimate to be worth a line


@contextlib.contextmanager
def stage(
    name: str, total: int | None = None, *, initial: int = 0, unit: str = "step", less: str = ""
) -> Iterator[Steps]:
    """Show a stage of a long call while the block runs; yield its steps, for ``update(n)``.

    Of ``total`` steps ``initial`` were done before; without, only the time that it takes is shown. ``unit`` is what is
    counted. Where the first steps foretell a long stage, an estimate says what would take ``less`` time.
    """
    started = time.perf_counter()
    with progress_bar(name, total, initial=initial, unit=unit) as bar:
        yield Steps(bar, Pace(name, (total or 0) - initial, unit=unit, less=less))
        seconds = time.perf_counter() - started
        bar.leave = seconds >= _BRIEF
    if not shows_progress():
        logger.log(logging.INFO if seconds >= _BRIEF else logging.DEBUG, "%s: %s", name, _duration(seconds))


class Steps:
    """Steps of a stage, counted by its bar and its pace."""

    def __init__(self, bar: Any, pace: Pace) -> None:
        self._bar, self._pace = bar, pace

    def update(self, n: int = 1) -> None:
        """Count ``n`` steps more."""
        self._bar.update(n)
        self._pace.update(n)


class Pace:
    """Foretells once, by the first steps, how long the others take, and says so if that is long.

    Of ``n_left`` steps, each a ``unit``; nothing is foretold without what would take ``less`` time.
    """

    def __init__(self, name: str, n_left: int, *, unit: str, less: str) -> None:
        self._name, self._n_left, self._unit, self._less = name, n_left, unit, less
        self._n_timed, self._started = 0, 0.0

    def update(self, n: int = 1) -> None:
        """Count ``n`` steps more."""
        if not self._less:
            return
        now = time.perf_counter()
        self._n_left -= n
        if not self._started:  # the first ones prepare what the others find
            self._started = now
            return
        self._n_timed += n
        if (taken := now - self._started) < _LOOK:
            return
        rest = taken / self._n_timed * self._n_left
        if rest >= _LONG:
            words = self._name, self._n_left, self._unit, _duration(rest), self._unit, self._less
            logger.info(
                "%s: the %d %ss that are left take about %s, if each takes as long as the first %ss did; %s", *words
            )
        self._less = ""


def shows_progress() -> bool:
    """Whether bars are shown: as ``settings.progress`` says, and where it leaves it open, where somebody may look."""
    if settings.progress != "auto":
        return settings.progress and sys.stderr is not None
    if sys.stderr is None or os.environ.get("CI") or os.environ.get("TQDM_DISABLE"):
        return False
    return _in_notebook() or _is_terminal()


def progress_bar(
    name: str, total: int | None = None, *, initial: int = 0, unit: str = "step", shown: bool | None = None
) -> Any:
    """Return a bar on standard error or in the notebook, or, where it is not to be ``shown``, what takes its place."""
    if not (shows_progress() if shown is None else shown):
        return _Silent()
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def display(self, *args: Any, **kwargs: Any) -> Any:
            with contextlib.suppress(*CLOSED):
                return super().display(*args, **kwargs)

        def close(self) -> None:
            with contextlib.suppress(*CLOSED):
                super().close()

    alone = {"bar_format": "{desc}: {elapsed}"} if total is None else {}
    return Bar(total=total, initial=initial, desc=name, unit=unit, ncols=_columns(), disable=False, **alone)


class _Silent:
    """A bar that shows nothing."""

    leave = False

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        pass

    def set_description(self, *_: Any, **__: Any) -> None:
        pass

    def set_postfix(self, *_: Any, **__: Any) -> None:
        pass

    def close(self) -> None:
        pass


def _is_terminal() -> bool:
    with contextlib.suppress(*CLOSED, AttributeError):
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return False


def _columns() -> int | None:
    """Width of a bar where the terminal does not know its own, as in a container; ``None``: its own."""
    with contextlib.suppress(*CLOSED, AttributeError):
        return None if os.get_terminal_size(sys.stderr.fileno()).columns else 80
    return None


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook, whose standard error is no terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _duration(seconds: float) -> str:
    """Write a time as ``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
