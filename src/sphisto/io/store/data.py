"""What users hand over where a store is read: its path, the SpatialData read from it, the AnnData that was fitted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from sphisto import _keys
from sphisto.io.store import read as stores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from spatialdata import SpatialData

    from sphisto.io.store.read import Store

    Data: TypeAlias = str | Path | SpatialData | AnnData


def is_anndata(data: Any) -> bool:
    """Whether data is an AnnData, without importing it."""
    return hasattr(data, "obsm") and hasattr(data, "var_names")


def record_of(adata: AnnData, key: str) -> Mapping[str, Any]:
    """Return what a fit left in ``uns[key]``."""
    record = adata.uns.get(key)
    if not _is_projection(record):
        raise KeyError(_missing(adata, key))
    return cast("Mapping[str, Any]", record)


def store_of(data: Data, key: str | None = None) -> Store:
    """Return the store itself, or the one that an AnnData was fitted into.

    Without a ``key``, all projections of the AnnData must lie in one store.
    """
    if isinstance(data, str | os.PathLike) or _is_spatialdata(data):
        return data
    if not is_anndata(data):
        msg = (
            f"Found {type(data).__module__}.{type(data).__qualname__}; expected the path of a store, the SpatialData read "
            "from it, or the AnnData that was fitted."
        )
        raise TypeError(msg)
    adata = cast("AnnData", data)
    if key is not None:
        return recorded_path(_store_of_projection(adata, key), "store")
    places = {str(record["store"]) for record in adata.uns.values() if _is_projection(record)}
    if not places:
        msg = "Did not find a projection in .uns. Run `sphisto.tl.fit_projection` first."
        raise KeyError(msg)
    if len(places) > 1:
        msg = f"The projections in .uns lie in {len(places)} stores: {', '.join(sorted(places))}. Give the path of one."
        raise ValueError(msg)
    return recorded_path(places.pop(), "store")


def recorded_path(recorded: str, what: Literal["store", "model"]) -> str:
    """Return a path as a table records it; refuse one where nothing is, which need not mean that nothing was made."""
    if Path(recorded).expanduser().exists():
        return recorded
    where = "" if Path(recorded).is_absolute() else f" from the working folder, {str(Path.cwd())!r}"
    msg = (
        f"Found no {what} at {recorded}{where}, where the table records that its projection lies. If the {what} or the working folder was "
        f"moved, give the path of the {what}, or correct `adata.uns[key]['{what}']`; if it is gone, run `sphisto.tl.fit_projection`."
    )
    raise FileNotFoundError(msg)


def _store_of_projection(adata: AnnData, key: str) -> str:
    """Return the store of a projection: of one section, or of several that were fitted together under that name."""
    if _is_projection(adata.uns.get(key)):
        return str(adata.uns[key]["store"])
    places = {
        str(record["store"])
        for name, record in adata.uns.items()
        if _is_projection(record) and name == _keys.of_section(key, str(record["params"].get("library_id")))
    }
    if len(places) != 1:
        raise KeyError(_missing(adata, key))
    return places.pop()


def _missing(adata: AnnData, key: str) -> str:
    known = [name for name, record in adata.uns.items() if _is_projection(record)]
    there = f"; there is {', '.join(map(repr, known))}" if known else ""
    return (
        f"Did not find a projection in .uns[{key!r}]{there}. Run `sphisto.tl.fit_projection` first, or correct `key`."
    )


def table_of(data: Data, key: str | None = None) -> AnnData:
    """Return the AnnData itself, or the table of a projection's library in a store."""
    return cast("AnnData", data) if is_anndata(data) else stores.table(store_of(data), key)


def _is_projection(record: Any) -> bool:
    return hasattr(record, "keys") and "params" in record and "store" in record


def _is_spatialdata(data: Any) -> bool:
    return hasattr(data, "images") and hasattr(data, "tables")
