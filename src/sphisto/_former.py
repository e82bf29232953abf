"""Keywords that have another name now: they work for one more release, with a warning (docs/stability.md)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Translate = Callable[[dict[str, Any], Any], str]

P = ParamSpec("P")
R = TypeVar("R")


def former_keywords(**translate: Translate) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function be called by former keywords.

    Parameters
    ----------
    translate
        For each of them a function of the keywords of the call and the value given, which puts what is meant into the
        keywords and returns how to write it now: :func:`named`, or another one where more than the name has changed.
        They are called in the order in which they stand here.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **keywords: P.kwargs) -> R:
            for name in [name for name in translate if name in keywords]:
                value = keywords.pop(name)
                now = translate[name](keywords, value)
                msg = f"{name}={value!r} is written {now} now; the former keyword will go in the next release."
                warnings.warn(msg, FutureWarning, stacklevel=2)
            return function(*args, **keywords)

        return called

    return decorate


def named(now: str) -> Translate:
    """Translate a keyword that only has another name now."""

    def translate(keywords: dict[str, Any], value: Any) -> str:
        if now in keywords:
            msg = f"Found {now}= together with the name that it had before; expected {now}= alone."
            raise TypeError(msg)
        keywords[now] = value
        return f"{now}={value!r}" if isinstance(value, str) else f"{now}=..."

    return translate
