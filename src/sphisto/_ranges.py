"""Ranges that settings must lie in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def require_ranges(
    settings: Any,
    *,
    whole: Sequence[str] = (),
    whole_from_zero: Sequence[str] = (),
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    shares: Sequence[str] = (),
    below_one: Sequence[str] = (),
    several: Sequence[str] = (),
    switches: Sequence[str] = (),
) -> None:
    """Raise if a setting is not what it must be; lists are turned into tuples, numbers into Python's own, whole ones into int.

    Parameters
    ----------
    settings
        Object whose attributes are the settings; one that is a tuple is checked value by value.
    whole
        Names of settings that are whole numbers from 1.
    whole_from_zero
        Whole numbers from 0.
    positive, not_negative
        Finite numbers above 0; from 0.
    shares, below_one
        Numbers from 0 to 1; from 0 and below 1.
    several
        Settings that are sequences of such numbers.
    switches
        True or false.
    """
    rules: list[tuple[Sequence[str], Callable[[float], bool], str]] = [
        (whole, lambda x: x >= 1 and x == int(x), "a whole number from 1"),
        (whole_from_zero, lambda x: x >= 0 and x == int(x), "a whole number from 0"),
        (positive, lambda x: x > 0, "a finite number above 0"),
        (not_negative, lambda x: x >= 0, "a finite number from 0"),
        (shares, lambda x: 0 <= x <= 1, "a number from 0 to 1"),
        (below_one, lambda x: 0 <= x < 1, "a number from 0 and below 1"),
    ]
    kind = type(settings).__name__
    for name, found in vars(settings).items():  # files hold lists, and could not hold numpy's numbers
        plain = [_plain(each) for each in found] if isinstance(found, tuple | list) else _plain(found)
        object.__setattr__(settings, name, type(found)(plain) if isinstance(found, tuple | list) else plain)
    for name in several:
        found = getattr(settings, name)
        if not isinstance(found, tuple | list):
            msg = f"Found {name}={found!r} in {kind}; expected several numbers, as a tuple."
            raise TypeError(msg)
        if not found:
            msg = f"Found no {name} in {kind}; expected some numbers."
            raise ValueError(msg)
        object.__setattr__(settings, name, tuple(found))
    for name in switches:
        if not isinstance(getattr(settings, name), bool):
            msg = f"Found {name}={getattr(settings, name)!r} in {kind}; expected True or False."
            raise TypeError(msg)
    for names, is_right, expected in rules:
        for name in names:
            found = getattr(settings, name)
            for value in found if isinstance(found, tuple) else (found,):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    msg = f"Found {name}={found!r} in {kind}; expected {expected}."
                    raise TypeError(msg)
                if not (math.isfinite(value) and is_right(value)):
                    msg = f"Found {name}={found!r} in {kind}; expected {expected}."
                    raise ValueError(msg)
    for name in (*whole, *whole_from_zero):  # 8.0 would fail much later, where a size or a number of steps is needed
        object.__setattr__(settings, name, _as_int(getattr(settings, name)))


def _as_int(value: Any) -> Any:
    return tuple(map(int, value)) if isinstance(value, tuple) else int(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
