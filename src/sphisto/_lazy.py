"""Lazy subpackages (PEP 562): a public name is imported when it is first used, so that ``import sphisto`` stays light."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attach(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` for a package whose modules hold the given public names."""
    module_of = {name: module for module, public in names.items() for name in public}
    public = sorted(module_of)

    def getattr_(name: str) -> Any:
        if name not in module_of:
            msg = f"module {package!r} has no attribute {name!r}. It offers: {', '.join(public)}."
            raise AttributeError(msg)
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return getattr_, lambda: public, public
