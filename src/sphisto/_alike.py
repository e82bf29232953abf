"""Two keywords that are taken for each other: the sides of the bins that are fitted, and of those that are summed over."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

FITTED = "`bin_um`, of `sphisto.io.section`, is the side of the bins of a Visium HD section that are fitted"
SUMMED = (
    "`bins_um`, of `sphisto.tl.aggregate`, is the side of the squares over which the rasters of a store are summed up"
)


def not_to_be_confused(keyword: str, remedy: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Refuse the keyword that belongs to another function, and say what was probably meant.

    Raises
    ------
    TypeError
        When the function is called with it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **keywords: P.kwargs) -> R:
            if keyword in keywords:
                msg = f"Found {keyword}={keywords[keyword]!r} in a call of `{function.__name__}`; {FITTED}, and {SUMMED}. {remedy}"
                raise TypeError(msg)
            return function(*args, **keywords)

        return called

    return decorate
