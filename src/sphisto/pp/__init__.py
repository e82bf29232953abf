"""Prepare a section: quality control, normalisation, exploration, tissue, alignment and registration."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_qc": ["qc"],
        "_normalize": ["normalize"],
        "_explore": ["explore"],
        "_tissue_mask": ["tissue_mask"],
        "_check_alignment": ["check_alignment"],
        "_register": ["Registration", "register"],
    },
)
