"""sphisto's prior with one constant of the package changed, to see what that is worth; and how things are changed."""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from benchmarks.fidelity.methods.networks import prior as unchanged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.fidelity.cases import Case, Prediction


def prior(case: Case, *, constants: Mapping[str, Any]) -> Prediction:
    """The prior alone, with some constants of the package changed."""
    with changed(constants):
        return unchanged(case)


@contextlib.contextmanager
def changed(names: Mapping[str, Any]) -> Iterator[None]:
    """Give names of modules, as ``"package.module:name"``, other values for a while."""
    with contextlib.ExitStack() as stack:
        for address, value in names.items():
            module, name = address.split(":")
            stack.enter_context(patch.object(import_module(module), name, value))
        yield
