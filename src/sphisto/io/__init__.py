"""Files and containers in and out: the only subpackage that uses the objects of anndata, spatialdata and zarr."""

from __future__ import annotations

from sphisto._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "spaceranger": ["read_visium"],
        "sections": ["section"],
        "understood": ["Section"],
        "raster_features": ["RasterFeatures"],
    },
)
