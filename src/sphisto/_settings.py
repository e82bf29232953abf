"""Settings of a session: which messages and bars are shown, where downloads are kept, which device computes."""

from __future__ import annotations

import contextlib
import difflib
import logging
import operator
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

from sphisto._terminal import print_line

Verbosity = Literal["error", "warning", "info", "debug"]
Progress = Literal[True, False, "auto"]

_LEVELS: dict[str, int] = {name: getattr(logging, name.upper()) for name in get_args(Verbosity)}
_SCANPY = ("error", "warning", "info", "info", "debug")  # by number; 3 is scanpy's "hint", which sphisto never gives
_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}  # as variables spell it

logger = logging.getLogger("sphisto")


class Settings:
    """How sphisto behaves in this session: ``sphisto.settings``.

    Set an attribute and it holds until it is set again. Each begins with the environment variable ``SPHISTO_`` and its
    name in capitals, where there is one: ``SPHISTO_CACHEDIR=/scratch/sections``.

    Examples
    --------
    >>> import sphisto as sp
    >>> sp.settings.verbosity = "warning"
    >>> with sp.settings.override(verbosity="debug", progress=False):
    ...     sp.settings.verbosity
    'debug'
    >>> sp.settings.verbosity
    'warning'
    >>> sp.settings.verbosity = "info"
    """

    __slots__ = ("_cachedir", "_device", "_progress")

    def __init__(self) -> None:
        self._progress: Progress = "auto"
        self._cachedir: Path | None = None
        self._device = "auto"

    @property
    def verbosity(self) -> Verbosity:
        """Which messages are let through.

        One of ``"error"``, ``"warning"``, ``"info"`` (at first) and ``"debug"``. Scanpy's numbers 0 to 4 are understood, too (3, its ``"hint"``, is ``"info"`` here). It is the level of the logger
        ``"sphisto"``: where a program has set up logging, its handlers receive the messages; elsewhere they go to standard
        error, a line each.
        """
        level = logger.getEffectiveLevel()
        return next((name for name in reversed(get_args(Verbosity)) if level <= _LEVELS[name]), "error")

    @verbosity.setter
    def verbosity(self, value: Verbosity | int) -> None:
        logger.setLevel(_LEVELS[_verbosity(value)])

    @property
    def progress(self) -> Progress:
        """Whether bars show how far a call is, and the time left.

        ``"auto"`` (at first): in a notebook, and where standard error is a terminal; never where the variable ``CI`` or
        ``TQDM_DISABLE`` is set. Where none is shown, a line in the log tells the seconds of each stage that took more
        than one.
        """
        return self._progress

    @progress.setter
    def progress(self, value: Progress) -> None:
        found: Any = _SWITCH.get(value.lower(), value.lower()) if isinstance(value, str) else value
        if found not in (True, False, "auto"):
            _refuse("progress", value, 'True, False or "auto"')
        self._progress = found if found == "auto" else bool(found)

    @property
    def cachedir(self) -> Path:
        """Folder in which ``sphisto.datasets`` keeps what it fetches.

        At first the system's own place for such files (on Linux ``~/.cache/sphisto``); ``None`` brings that back.
        """
        if self._cachedir is None:
            import pooch

            return Path(pooch.os_cache("sphisto"))
        return self._cachedir

    @cachedir.setter
    def cachedir(self, value: str | os.PathLike[str] | None) -> None:
        if value is None:
            self._cachedir = None
            return
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            _refuse("cachedir", value, "the path of a folder, or None")
        path = Path(value).expanduser()
        if path.exists() and not path.is_dir():
            _refuse("cachedir", value, "the path of a folder, and this is a file")
        self._cachedir = path.absolute()

    @property
    def device(self) -> str:
        """Where networks are computed if ``device=`` is not given.

        One of ``"auto"`` (at first), which takes a GPU if there is one, ``"cpu"``, ``"cuda"``, ``"mps"``, and ``"cuda:1"``
        for one of several.
        """
        return self._device

    @device.setter
    def device(self, value: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            _refuse("device", value, '"auto", "cpu", "cuda", "cuda:N" or "mps"')
        self._device = value

    @contextlib.contextmanager
    def override(self, **values: Any) -> Iterator[None]:
        """Set some settings for a while: those given, under their names, until the block ends.

        Parameters
        ----------
        **values
            Settings by name.

        Raises
        ------
        AttributeError
            If there is no such setting.
        ValueError
            If one cannot have such a value; nothing is changed then.
        """
        before = {name: self._kept(name) for name in values}
        try:
            for name, value in values.items():
                setattr(self, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in SETTINGS and name not in self.__slots__:
            raise _unknown(name)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise _unknown(name)

    def __dir__(self) -> list[str]:
        return [*SETTINGS, "override"]

    def __repr__(self) -> str:
        width = max(map(len, SETTINGS))
        return "\n".join(["Settings", *(f"  {name:<{width}}  {_shown(getattr(self, name))}" for name in SETTINGS)])

    def _kept(self, name: str) -> Any:
        """Value that brings a setting back to what it is now."""
        return self._cachedir if name == "cachedir" else getattr(self, name)


SETTINGS = tuple(name for name, kind in vars(Settings).items() if isinstance(kind, property))


def _verbosity(value: Any) -> Verbosity:
    found: Any = None
    if isinstance(value, str):
        found = "info" if value.lower() == "hint" else value.lower()
        if found.isdecimal():  # as a variable or a shell gives it
            return _verbosity(int(found))
    elif not isinstance(value, bool):
        with contextlib.suppress(TypeError):  # scanpy's own Verbosity is a number, too
            number = operator.index(value)
            found = _SCANPY[number] if 0 <= number < len(_SCANPY) else None
    if found not in _LEVELS:
        _refuse("verbosity", value, f"{', '.join(map(_shown, _LEVELS))}, or a number from 0 to 4")
    return found


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    msg = f"Found settings.{name} = {value!r}; expected {expected}."
    raise ValueError(msg)


def _unknown(name: str) -> AttributeError:
    close = difflib.get_close_matches(name, SETTINGS, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    return AttributeError(f"There is no setting {name!r}. There are: {', '.join(SETTINGS)}.{meant}")


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


# ---- messages


class _Console(logging.Handler):
    """Messages to standard error, where nobody else takes them."""

    def emit(self, record: logging.LogRecord) -> None:
        if _has_others():  # a message that has arrived must not come twice
            return
        try:
            print_line(self.format(record), error=True)
        except Exception:  # noqa: BLE001 - as every handler of logging does: a message must not end the work
            self.handleError(record)


def _has_others() -> bool:
    handlers = [*logger.handlers, *(logging.getLogger().handlers if logger.propagate else ())]
    return any(not isinstance(handler, _Console | logging.NullHandler) for handler in handlers)


def _begin() -> Settings:
    """Make the settings of a session: the environment's, else those above; let messages be seen."""
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())
    if logger.level == logging.NOTSET:  # else it was set before sphisto was imported
        logger.setLevel(logging.INFO)
    made = Settings()
    for name in SETTINGS:
        variable = f"SPHISTO_{name.upper()}"
        value = os.environ.get(variable)
        if value:
            try:
                setattr(made, name, value)
            except ValueError as error:
                # a wrong variable must not keep `import sphisto` from working
                logger.warning("The variable %s is passed over. %s", variable, error)
    return made


settings = _begin()
