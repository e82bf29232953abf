"""Fit a projection, evaluate it, predict another slide, sum rasters over regions, save and load what was fitted, convert and export stores."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_fit_projection": ["fit_projection"],
        "_predict": ["predict"],
        "_aggregate": ["aggregate"],
        "_evaluate": ["evaluate"],
        "_export": ["export"],
        "_integration": ["integration"],
        "_save": ["load", "save"],
        "_upgrade": ["upgrade"],
    },
)
