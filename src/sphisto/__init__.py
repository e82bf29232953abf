"""Gene expression at every pixel of a spatial transcriptomics section.

The functions live in subpackages: ``pp`` (prepare), ``tl`` (fit, predict, aggregate), ``pl`` (plot), ``get`` (read rasters),
``io`` (read instruments' folders) and ``datasets``; ``config`` holds the settings of a fit. Each is imported when it is
first used. ``settings`` holds which messages and bars are shown, where downloads are kept, and which device computes.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any

from sphisto import _forks as _forks  # takes care of forked processes from now on
from sphisto._settings import settings as settings

__version__ = version("sphisto")
__all__ = ["config", "datasets", "get", "io", "pl", "pp", "settings", "tl"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module 'sphisto' has no attribute {name!r}. It offers: {', '.join(__all__)}."
        raise AttributeError(msg)
    return importlib.import_module(f"sphisto.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
