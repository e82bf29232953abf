"""Groups of a store as they lie on the disk: consolidated metadata are those of the last version that was finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def open_group(folder: Path, mode: str = "r") -> Any:
    """Open a group by its own metadata."""
    import zarr

    return zarr.open_group(folder, mode=mode, use_consolidated=False)  # type: ignore[arg-type]


def open_levels(element: Path, mode: str = "r") -> list[Any]:
    """Open the arrays of a raster element, finest first."""
    group = open_group(element, mode)
    return [group[dataset["path"]] for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]]
