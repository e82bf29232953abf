"""Names of everything sphisto writes, in one place."""

from __future__ import annotations

MARK = "sphisto"  # attribute of a store's root that says the store is ours
TABLE = "table"
SPOT_ID = "spot_id"
REGION = "region"
UNIT = "counts per spot area"


def image(library_id: str) -> str:
    """Name the picture which the network saw."""
    return f"{library_id}_image"


def spots(library_id: str) -> str:
    """Name the circles or squares of the spots."""
    return f"{library_id}_spots"


def tissue(library_id: str) -> str:
    """Name the tissue mask."""
    return f"{library_id}_tissue"


def factors(key: str) -> str:
    """Name the factor maps of a projection."""
    return f"{key}_factors"


def reconstruction(key: str) -> str:
    """Name the redrawn tissue image of a projection."""
    return f"{key}_reconstruction"


def loadings(key: str) -> str:
    """Name the (genes, K) loadings in ``varm``."""
    return f"{key}_loadings"


def fitted(key: str) -> str:
    """Name the (spots, K) fitted factor values in ``obsm``."""
    return f"{key}_fitted"
