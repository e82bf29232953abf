"""Draw what was measured, projected, learned and found at held-out spots."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_reconstruction": ["reconstruction"],
        "_projection": ["projection"],
        "_measured": ["measured"],
        "_comparison": ["comparison"],
        "_umap": ["umap"],
        "_history": ["history"],
        "_evaluation": ["evaluation"],
        "_integration": ["integration"],
        "_registration": ["registration"],
        "_report": ["report"],
    },
)
