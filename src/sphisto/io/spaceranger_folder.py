"""The folder of a Space Ranger run, and the counts in it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphisto._settings import logger
from sphisto.io.paths import require_target
from sphisto.io.positions import decoded, find_one, visible
from sphisto.io.store.names import as_element

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTS = "feature_bc_matrix"
MTX = ("matrix.mtx.gz", "matrix.mtx")
"""Names of the matrix in a folder of counts, first to last choice."""
ZARR = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
"""Files, one of which is in every folder of a zarr store."""
_CELLS = "feature_cell_matrix"


def is_spaceranger_folder(path: str | Path) -> bool:
    """Whether a folder is one that Space Ranger wrote, or one that ``read_visium`` refuses with a helpful message.

    Folders of Visium HD runs, of segmented cells and of joined sections are among them; zarr folders are not.
    """
    try:
        folder = existing_path(path)
    except TypeError:
        return False
    if not folder.is_dir() or any((folder / name).exists() for name in ZARR):
        return False
    if (folder / "outs").is_dir() and is_spaceranger_folder(folder / "outs"):
        return True
    marks = (
        f"*{COUNTS}", f"*{COUNTS}.h5", f"*{_CELLS}", f"*{_CELLS}.h5", "square_???um", "binned_outputs", "segmented_outputs",
        "spatial/*scalefactors_json.json*", "spatial/*tissue_positions*", "*scalefactors_json.json*",
    )  # fmt: skip
    return COUNTS in folder.name or any(visible(folder, mark) for mark in marks)


def names_apart(names: Sequence[str], folders: Sequence[str | Path]) -> list[str]:
    """Return names of sections that differ, as a store needs: those that several have become their folders'.

    Of folders that are called alike as many of those above them are named as it takes.
    """
    paths = [existing_path(folder).resolve() for folder in folders]
    parts = [(path.parent if path.name == "outs" else path).parts[1:] for path in paths]
    if twice := [str(path) for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1]:
        msg = f"Found the folder {twice[0]} more than once; expected a folder for each section. Leave it out once."
        raise ValueError(msg)
    alike = [_times(name, names) > 1 for name in names]
    found = list(names)
    for depth in range(1, max(map(len, parts), default=0) + 1):
        if all(_times(name, found) == 1 for name in found):
            break
        found = [
            "_".join(own[-depth:]) if other else name for name, own, other in zip(names, parts, alike, strict=True)
        ]
    return found


def _times(name: str, names: Sequence[str]) -> int:
    """How many names a store takes for the same one: in it some letters are replaced, and case does not count."""
    return [as_element(other).casefold() for other in names].count(as_element(name).casefold())


def existing_path(path: Any) -> Path:
    """Return the path as it is, else with ``~`` and Windows' separators replaced, where that exists."""
    try:
        given = Path(path)
    except TypeError as error:
        msg = f"Found a {type(path).__name__} for a path; expected text or a pathlib.Path."
        raise TypeError(msg) from error
    if given.exists():
        return given
    for other in (given, Path(str(path).replace("\\", "/"))):
        try:
            expanded = other.expanduser()
        except RuntimeError:  # no such user
            continue
        if expanded.exists():
            logger.info("%r is read as %s.", str(path), expanded)
            return expanded
    return given


def find_folder(path: Path) -> Path:
    """Return the folder that holds counts and ``spatial``: the given one or its ``outs``."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        msg = f"Found {found} at {str(path)!r}. Expected the folder of a Space Ranger run (or its `outs`)."
        if path.exists():
            msg += f"{run_above(path)}"
        raise FileNotFoundError(msg)
    folder = path / "outs" if (path / "outs").is_dir() and not (path / "spatial").is_dir() else path
    holds_run = (folder / "spatial").is_dir()
    if (path.name == "spatial" and not holds_run) or (COUNTS in path.name and visible(path, "*matrix.mtx*")):
        msg = f"{str(path)!r} is a part of a run. Expected the folder of a Space Ranger run.{run_above(path)}"
        raise ValueError(msg)
    if not bins_in(folder):
        _refuse_cells(path, folder)
    refuse_aggregated(folder, [])
    return folder


def run_above(path: Path) -> str:
    """Name the run that a file or folder is a part of."""
    above = (folder for folder in path.absolute().parents if (folder / "spatial").is_dir())
    run = next(above, None)
    return "" if run is None else f" Give {str(run)!r}."


def bins_in(folder: Path) -> dict[float, Path]:
    """Folders of bins with counts in a Visium HD run, or in its ``binned_outputs``, by the side of the bins in um."""
    found = _folders_of_bins(folder)
    bins = {float(side): each for each in found if (side := each.name[7:-2]).isdigit() and visible(each, f"*{COUNTS}*")}
    if not bins and (found or (folder / "binned_outputs").is_dir()):
        names = ", ".join(repr(str(each)) for each in found) or "none"
        msg = (
            f"{str(folder)!r} is a Visium HD run without counts of bins; expected filtered_{COUNTS}.h5 in the folder of a bin "
            f"size, such as binned_outputs/square_008um. Found: {names}. Copy the counts there."
        )
        raise ValueError(msg)
    return bins


def _folders_of_bins(folder: Path) -> list[Path]:
    return sorted((folder / "binned_outputs").glob("square_*um")) or sorted(folder.glob("square_*um"))


def without_counts(folder: Path) -> list[str]:
    """Names of the folders for bins, in a run with bins, that lack counts."""
    whole = set(bins_in(folder).values())
    return [found.name for found in _folders_of_bins(folder) if found not in whole]


def _refuse_cells(path: Path, folder: Path) -> None:
    """Raise for cells that Space Ranger segmented: they have outlines, no positions on the array."""
    cells = visible(folder, f"*{_CELLS}*") and not visible(folder, f"*{COUNTS}*")
    if cells or (folder / "segmented_outputs").is_dir():
        beside = sorted((folder.parent / "binned_outputs").glob("square_*um"))
        choice = f" ({', '.join(repr(str(found)) for found in beside)})" if beside else ""
        msg = (
            f"{str(path)!r} holds segmented cells, whose counts are not those of spots or bins. Give the folder of one bin "
            f"size, binned_outputs/square_016um{choice}; `sphisto.tl.aggregate` then sums the rasters over the outlines "
            "of cells (cell_segmentations.geojson)."
        )
        raise ValueError(msg)


def refuse_aggregated(folder: Path, libraries: list[str]) -> None:
    """Raise for sections that ``spaceranger aggr`` joined; they have no common image."""
    spatial = folder / "spatial"
    listed = next(
        (folder / name for name in ("aggregation.csv", "aggregation_csv.csv") if (folder / name).is_file()), None
    )
    if listed is None and len(libraries) < 2 and not visible(spatial, "*aggr_tissue_positions*"):
        return
    rows = [] if listed is None else [row for row in csv.DictReader(decoded(listed).splitlines()) if row]
    names = [row.get("library_id") or row.get("sample_id") or "" for row in rows] or libraries
    names = [name for name in names if name] or sorted(
        file.parent.name for file in spatial.glob("*/scalefactors_json.json")
    )
    runs = [str(Path(row["molecule_h5"]).parent) for row in rows if row.get("molecule_h5")]
    msg = (
        f"{str(folder)!r} holds several sections that `spaceranger aggr` joined ({', '.join(names) or 'of unknown names'}). "
        f"Give each section's own run (the outs of `spaceranger count`){': ' + ', '.join(runs) if runs else ''}."
    )
    raise ValueError(msg)


def find_counts(folder: Path) -> Path:
    """Return the counts of a run: filtered before raw, h5 before mtx, folders before the parts of an mtx matrix in the run's own."""
    for kind in ("filtered", "raw"):
        exact = require_target(folder / f"{kind}_{COUNTS}.h5")
        prefixed = visible(folder, f"*{kind}_{COUNTS}.h5")
        if exact.is_file():
            return exact
        if len(prefixed) > 1:
            msg = f"Found several counts files in {str(folder)!r}: {', '.join(p.name for p in prefixed)}. Keep one; files of several sections belong into a folder each."
            raise ValueError(msg)
        if prefixed:
            return require_target(prefixed[0])
        folders = [p for p in visible(folder, f"*{kind}_{COUNTS}") if p.is_dir()]
        if len(folders) == 1:
            return folders[0]
    others = visible(folder, f"*{COUNTS}.h5")
    if others:
        return require_target(others[0])
    if (matrix := find_one(folder, MTX)) is not None:
        logger.info("%s: counts are read from %s and the names beside it.", folder, matrix.name)
        return folder
    there = visible(folder, "*")
    holds = ", ".join(p.name for p in there[:10]) or "nothing"
    packed = [p.name for p in there if p.name.endswith((".tar.gz", ".tgz", ".zip", ".tar", ".h5.gz"))]
    runs = [str(p) for p in there if p.is_dir() and is_spaceranger_folder(p) and p.name != "spatial"]
    if packed:
        hint = f" Unpack {', '.join(packed)}."
    elif runs:
        hint = f" Give one of: {', '.join(runs)}."
    else:
        hint = " Put the counts of this section there." if (folder / "spatial").is_dir() else ""
    msg = (
        f"Found no counts in {str(folder)!r} (it holds: {holds}). Expected filtered_{COUNTS}.h5 or the folder "
        f"filtered_{COUNTS}.{hint}"
    )
    raise FileNotFoundError(msg)
