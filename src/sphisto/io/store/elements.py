"""Elements that SpatialData writes into a store that is being built."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from sphisto.io.store.groups import open_group


def add_element(store: Path, kind: str, name: str, element: Any) -> None:
    """Let SpatialData write an element beside a store, then move it in, in place of one of that name.

    Written into the store, SpatialData would first read all that is there, tables of counts included.
    """
    import spatialdata as sd

    beside = _beside(store)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The table is annotating")  # an element that is in the store
        sd.SpatialData(**{kind: {name: element}}).write(beside)
    shutil.rmtree(store / kind / name, ignore_errors=True)
    if (store / kind).exists():
        (beside / kind / name).replace(store / kind / name)
        if kind == "labels":
            _list_labels(store)
    else:
        (beside / kind).replace(store / kind)
    shutil.rmtree(beside)


def make_blank(store: Path, attrs: dict[str, Any]) -> None:
    """Let SpatialData write a store without elements into a folder that is there."""
    import spatialdata as sd

    beside = _beside(store)
    sd.SpatialData(attrs=attrs).write(beside)
    for path in beside.iterdir():
        path.replace(store / path.name)
    beside.rmdir()


def _beside(store: Path) -> Path:
    """Return a free path for a short while, in the folder of a store that is being built."""
    path = store.with_name("beside")
    shutil.rmtree(path, ignore_errors=True)  # what a killed run left
    return path


def _list_labels(store: Path) -> None:
    """Name all labels elements where the format of images wants them named."""
    group = open_group(store / "labels", "r+")
    names = sorted(path.parent.name for path in (store / "labels").glob("*/zarr.json"))
    group.attrs["ome"] = {**group.attrs.get("ome", {}), "labels": names}
