"""Read rasters of genes and images out of a store."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"_gene_raster": ["gene_raster"], "_raster": ["raster"]})
