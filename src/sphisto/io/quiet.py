"""Warnings, and lines of a log, of libraries below us that a user can do nothing about."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_KNOWN = (
    "Consolidated metadata",  # zarr 3: consolidation is not yet in the specification; SpatialData relies on it
    "zarr v3 autosharding",  # dask: announces a default that we set ourselves
    "Object at .* is not recognized as a component of a Zarr hierarchy",  # zarr: SpatialData keeps shapes as parquet
    "Call to deprecated class Scaler",  # ome-zarr's own writer
    "The data type .* does not have a Zarr V3 specification",  # zarr: strings, which anndata writes
)


_READER = "ome_zarr.reader"  # it logs each mask whose image it does not find, as SpatialData's never do
_NO_PICTURE = "no parent found for"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ignore them within a block; usable as a decorator."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_NO_PICTURE)

    reader = logging.getLogger(_READER)
    reader.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            for message in _KNOWN:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        reader.removeFilter(is_news)
