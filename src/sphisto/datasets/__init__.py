"""Sections to learn and test with: one drawn by rule, with its truth, and public ones fetched by name."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"_toy": ["toy", "toy_image", "toy_truth"], "_visium": ["visium"]})
