"""Regions that lie in files: outlines as other programs export them, circles as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sphisto.io.paths import user_path

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from geopandas import GeoDataFrame

_TABLE, _PARQUET = ".csv", ".parquet"
_SUFFIXES = (_TABLE, _PARQUET, ".geojson", ".json", ".gpkg", ".shp", ".fgb")
_ID = "id"


def is_region_file(name: str | os.PathLike[str]) -> bool:
    """Whether regions are called as a file is, and not as an element of a store."""
    path = user_path(name)
    return path.is_file() or path.suffix.lower() in _SUFFIXES


def regions_of(name: str) -> str | GeoDataFrame:
    """Return the regions of a file, or the name itself, of an element of a store."""
    return read_regions(name) if is_region_file(name) else name


def read_regions(path: str | os.PathLike[str]) -> GeoDataFrame:
    """Read regions in full-resolution px from a file.

    Parameters
    ----------
    path
        Outlines: GeoJSON (as QuPath and napari export), GeoParquet, or whatever else geopandas reads. Circles: csv with
        columns ``x``, ``y`` and perhaps ``radius``. A column ``id``, or a feature's id, gives the regions their names;
        without one they are numbered.
    """
    import geopandas as gpd

    file = user_path(path)
    if not file.is_file():
        msg = f"Found no file {file}; expected outlines (GeoJSON, parquet) or circles (csv), or the name of an element of the store."
        raise FileNotFoundError(msg)
    if file.suffix.lower() == _TABLE:
        frame = _circles(file)
    else:
        try:
            frame = gpd.read_parquet(file) if file.suffix.lower() == _PARQUET else gpd.read_file(file)
        except (ValueError, RuntimeError, OSError, KeyError) as error:
            msg = f"{file} cannot be read as outlines of regions ({error}). Export it again, as GeoJSON for instance."
            raise ValueError(msg) from error
        if not hasattr(frame, "geometry"):  # a table without outlines is read as a plain data frame
            msg = f"{file} holds a table without outlines; expected polygons, or circles as csv with columns x, y, radius."
            raise ValueError(msg)
    named = _ID in frame.columns and frame[_ID].notna().all()
    return frame.set_index(_ID) if named else frame


def _circles(file: Path) -> GeoDataFrame:
    import geopandas as gpd
    import pandas as pd

    try:
        table = pd.read_csv(file, skipinitialspace=True, dtype={_ID: str})
    except ValueError as error:  # of the parser and of the encoding, too
        msg = f"{file} cannot be read as csv ({error})."
        raise ValueError(msg) from error
    missing = [name for name in ("x", "y") if name not in table.columns]
    if missing:
        msg = (
            f"{file} has the columns {', '.join(map(str, table.columns))}; expected x and y, and perhaps radius and id."
        )
        raise ValueError(msg)
    for name in [name for name in ("x", "y", "radius") if name in table.columns]:
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = np.flatnonzero(values.isna())
        if len(wrong):
            msg = f"{file}: expected numbers in the column {name}, found {table[name].iloc[wrong[0]]} in row {wrong[0] + 2}."
            raise ValueError(msg)
        table[name] = values
    return gpd.GeoDataFrame(table.drop(columns=["x", "y"]), geometry=gpd.points_from_xy(table["x"], table["y"]))
