"""Paths and names that are no section, refused with what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sphisto.io.paths import user_path
from sphisto.io.spaceranger_folder import ZARR, run_above

_TABLES = {".h5ad", ".h5", ".h5mu", ".loom", ".csv", ".tsv", ".mtx"}
_OF_R = "a file of R", "Write its counts, coordinates and image from R as an AnnData (h5ad)"
_ARCHIVE = "a packed file", "Unpack it"
# what other files are, and how to bring here what they hold, by the end of their names
_OTHERS = {
    ".rds": _OF_R,
    ".rdata": _OF_R,
    ".rda": _OF_R,
    ".h5seurat": ("an object of Seurat", 'Convert it in R, `SeuratDisk::Convert("x.h5seurat", dest = "h5ad")`'),
    ".cloupe": ("a file of the Loupe Browser, which no other program reads", "Look for the run that it was made with"),
    ".xlsx": ("an Excel workbook, which is no section", "Look for the run that its table is of"),
    ".xls": ("an Excel workbook, which is no section", "Look for the run that its table is of"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"), _ARCHIVE),
}


def refuse_other_files(data: Any) -> None:
    """Raise for paths of tables and stores, which are read by the libraries that they are of, and of other folders."""
    if not isinstance(data, str | Path):
        return
    path = user_path(data)
    if not str(data) or not path.exists():
        msg = f"Found nothing at {str(path) if str(data) else ''!r}; expected the folder of a Space Ranger run, or an image."
        raise FileNotFoundError(msg)
    if path.is_file() and path.suffix.lower() in _OTHERS:
        kind, remedy = _OTHERS[path.suffix.lower()]
        msg = (
            f"{str(data)!r} is {kind}; expected an AnnData, a SpatialData, the folder of a Space Ranger run, or an image. {remedy}, "
            "or give the folder of the run (its `outs`)."
        )
        raise ValueError(msg)
    reader = None
    if path.suffix.lower() in _TABLES:
        reader = "anndata.read_h5ad" if path.suffix.lower() == ".h5ad" else "scanpy"
    elif any((path / group).is_dir() for group in ("tables", "shapes")):
        reader = "spatialdata.read_zarr"
    elif (path / "obs").is_dir():
        reader = "anndata.read_zarr"
    if reader is not None:
        msg = (
            f"Found the path of a table or store, {str(data)!r}; expected what is in it. Read it with `{reader}` and give what "
            f"that returns; a Space Ranger run is given as its folder.{run_above(path)}"
        )
        raise ValueError(msg)
    if (path / "experiment.xenium").is_file():
        msg = (
            f"{str(data)!r} is a Xenium run, whose counts are those of cells; expected spots or bins, as Visium and Visium HD "
            "have them. Use the cells' counts as they are."
        )
        raise ValueError(msg)
    if path.is_dir() and not any((path / name).is_file() for name in ZARR):
        holds = ", ".join(sorted(each.name for each in path.iterdir())[:10]) or "nothing"
        msg = (
            f"Found a folder that is neither a Space Ranger run nor an OME-Zarr image, {str(data)!r} (it holds: {holds}). "
            "Expected the folder with the counts (filtered_feature_bc_matrix.h5) and `spatial` in it."
        )
        raise ValueError(msg)


def name_of(library_id: Any) -> str | None:
    """Return the name of a library as text: joined tables number them, too."""
    if library_id is None:
        return None
    if not isinstance(library_id, str | int | np.integer) or isinstance(library_id, bool):
        msg = (
            f"Found `library_id` of type {type(library_id).__name__}; expected the name of one section: {library_id!r}."
        )
        raise TypeError(msg)
    if not str(library_id).strip():
        msg = "Found an empty `library_id`; expected the name of a section, or none where there is only one."
        raise ValueError(msg)
    return str(library_id)
