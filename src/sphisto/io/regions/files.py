"""Regions that lie in files: outlines as other programs export them, circles as a table."""

from __future__ import annotations

import gzip
import zlib
from codecs import BOM_UTF8
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from sphisto._settings import logger
from sphisto.io.paths import user_path

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from geopandas import GeoDataFrame

_TABLE, _PARQUET = ".csv", ".parquet"
_GEOJSON = (".geojson", ".json")
_SUFFIXES = (_TABLE, _PARQUET, *_GEOJSON, ".gpkg", ".shp", ".fgb")
_PACKED = ".gz"
_ID = "id"


def is_region_file(name: str | os.PathLike[str]) -> bool:
    """Whether regions are called as a file is, and not as an element of a store."""
    path = user_path(name)
    return path.is_file() or _kind(path) in _SUFFIXES


def regions_of(name: str) -> str | GeoDataFrame:
    """Return the regions of a file, or the name itself, of an element of a store."""
    return read_regions(name) if is_region_file(name) else name


def read_regions(path: str | os.PathLike[str]) -> GeoDataFrame:
    """Read regions in full-resolution px from a file.

    Parameters
    ----------
    path
        Outlines: GeoJSON (as QuPath and napari export; also a bare list of features, and packed as ``.geojson.gz``), GeoParquet, or whatever else geopandas reads. Circles: csv with
        columns ``x``, ``y`` and perhaps ``radius``. A column ``id``, or a feature's id, gives the regions their names;
        without one they are numbered.
    """
    import geopandas as gpd

    file = user_path(path)
    if not file.is_file():
        msg = f"Found no file {file}; expected outlines (GeoJSON, parquet) or circles (csv), or the name of an element of the store."
        raise FileNotFoundError(msg)
    if _kind(file) == _TABLE:
        frame = _circles(file)
    else:
        try:
            frame = gpd.read_parquet(file) if _kind(file) == _PARQUET else gpd.read_file(_readable(file))
        except (ValueError, RuntimeError, OSError, KeyError, EOFError, zlib.error) as error:
            msg = f"{file} cannot be read as outlines of regions ({error}). Export it again, as GeoJSON for instance."
            raise ValueError(msg) from error
        if not hasattr(frame, "geometry"):  # a table without outlines is read as a plain data frame
            msg = f"{file} holds a table without outlines; expected polygons, or circles as csv with columns x, y, radius."
            raise ValueError(msg)
    named = _ID in frame.columns and frame[_ID].notna().all()
    return frame.set_index(_ID) if named else frame


def _kind(path: Path) -> str:
    """Ending of a file's name, without that of gzip around it."""
    inner = path.with_suffix("") if path.suffix.lower() == _PACKED else path
    return inner.suffix.lower()


def _readable(file: Path) -> Path | BytesIO:
    """Return a file as geopandas reads it: GeoJSON unpacked, and a bare list of features as the collection that it means."""
    beginning = 4_096  # bytes
    packed = file.suffix.lower() == _PACKED
    if _kind(file) not in _GEOJSON:
        return file
    with gzip.open(file) if packed else file.open("rb") as opened:
        if not packed and not _begins_a_list(opened.read(beginning)):
            return file
        opened.seek(0)
        text = opened.read()
    if not _begins_a_list(text):
        return BytesIO(text)
    logger.info("%s is a list of features, and is read as the collection of them.", file)
    return BytesIO(b'{"type": "FeatureCollection", "features": ' + text.removeprefix(BOM_UTF8) + b"}")


def _begins_a_list(text: bytes) -> bool:
    return text.removeprefix(BOM_UTF8).lstrip().startswith(b"[")


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
