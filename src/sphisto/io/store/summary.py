"""What a store holds, from its metadata alone: no pixel and no count is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sphisto import _keys
from sphisto.io.paths import beside, user_path
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store.groups import open_group
from sphisto.io.store.unfinished import read_unfinished


@dataclass(frozen=True)
class RasterSummary:
    """A raster: its channels and its pyramid, finest level first, as (height, width) in px and um per px."""

    name: str
    channels: tuple[str, ...]
    levels: tuple[tuple[int, int], ...]
    um_per_px: tuple[float, ...]


@dataclass(frozen=True)
class LibrarySummary:
    """A library and the size of its table; ``None`` where there is none."""

    library_id: str
    n_spots: int | None
    n_genes: int | None


@dataclass(frozen=True)
class StoreSummary:
    """A store: libraries, version that wrote it, format, rasters, and what is known of each projection.

    A projection's entry is ``uns[key]`` without the history, and empty where there is no table. ``skill`` has the correlation
    at left-out spots of each of its genes of which it is known, ``written`` the date of its files. ``unfinished`` says of a
    fit of several sections that was broken off what is written.
    """

    libraries: tuple[LibrarySummary, ...]
    version: str
    format: int
    rasters: tuple[RasterSummary, ...]
    projections: dict[str, dict[str, Any]]
    skill: dict[str, dict[str, float]]
    written: dict[str, str]
    unfinished: dict[str, str]


def summarise(store: str | Path) -> StoreSummary:
    """Summarise a store."""
    store = user_path(store)
    mark = stores.mark(store)
    return StoreSummary(
        libraries=tuple(
            LibrarySummary(name, *_table_shape(store, about["table"]))
            for name, about in claims.libraries_of(mark).items()
        ),
        version=str(mark.get("version", "unknown")),
        format=stores.format_of(mark),
        rasters=tuple(
            _raster(store, name)
            for name in mark["grids"]
            if any((store / kind / name).is_dir() for kind in ("images", "labels"))
        ),
        projections={key: plain(stores.record(store, key)) for key in mark["keys"]},
        skill={key: _skill(store, key) for key in mark["keys"]},
        written={key: _written(store, key) for key in mark["keys"]},
        unfinished=_unfinished(store, mark),
    )


def _unfinished(store: Path, mark: dict[str, Any]) -> dict[str, str]:
    joint = dict.fromkeys(entry["joint"] for entry in mark["keys"].values() if entry.get("joint"))
    found = {key: read_unfinished(beside(store, key, "sections")) for key in joint}
    return {key: str(left) for key, left in found.items() if left is not None}


def _skill(store: Path, key: str) -> dict[str, float]:
    if not (store / "tables" / stores.table_name(store, key) / "var").is_dir():
        return {}
    column = stores.gene_column(store, _keys.skill(key), key)
    return {gene: float(value) for gene, value in column.items() if np.isfinite(value)}


def _written(store: Path, key: str) -> str:
    """Local date and time at which the projection's factor maps were written; empty where they are not there."""
    file = store / "images" / _keys.factors(key) / "zarr.json"
    return datetime.fromtimestamp(file.stat().st_mtime).isoformat(" ", "minutes") if file.is_file() else ""


def _raster(store: Path, name: str) -> RasterSummary:
    raster = stores.raster(store, name)
    grids = [raster.grid_at(scale) for scale in range(len(raster.shapes))]
    return RasterSummary(name, raster.channels, tuple(g.shape for g in grids), tuple(g.um_per_px for g in grids))


def _table_shape(store: Path, name: str) -> tuple[int | None, int | None]:
    folder = store / "tables" / name
    if not folder.is_dir():
        return None, None
    table = open_group(folder)
    n_obs, n_var = (_length(table[frame]) for frame in ("obs", "var"))
    return n_obs, n_var


def _length(frame: Any) -> int:
    """Rows of a data frame as anndata writes it: the length of its index, an array or (nullable strings) a group."""
    index = frame[frame.attrs["_index"]]
    return int((index["values"] if str(index.attrs.get("encoding-type")).startswith("nullable") else index).shape[0])


def plain(value: Any) -> Any:
    """Turn what anndata reads (numpy scalars and arrays) into plain Python values."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value
