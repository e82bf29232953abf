"""What is killed: a small section is fitted into a store that holds something already.

The store holds a projection ``first``, an older ``second`` and labels that a user added. The run replaces ``second``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np

KEY = "second"
STORE = "toy.zarr"
_TILE = 32  # px: the section is small, and writing shall have instants to be killed at


def load() -> None:
    """Load all libraries, and let small sections have several tiles and short epochs."""
    import sklearn.decomposition
    import spatialdata
    import zarr.codecs

    import sphisto.tl._fit_projection
    from sphisto.predict import tiles as inference
    from sphisto.tl import _project
    from sphisto.train import loop as training

    assert all((sklearn, spatialdata, zarr, sphisto))
    logging.disable(logging.WARNING)
    training._LEAST_BATCHES = 4
    _project.tiles_of = lambda fitted, slide: inference.tiles_of(fitted, slide, tile=_TILE)
    _project.REGION = _TILE


def section():
    import sphisto as sp

    return sp.datasets.toy(96, 112, pitch_um=24, rng=1)


def prepare(folder: Path) -> None:
    """Make the store that is there before."""
    import spatialdata as sd
    from spatialdata.models import Labels2DModel

    _fit(folder, key="first", rng=5, max_epochs=1)
    _fit(folder, key=KEY, rng=6, max_epochs=1)
    sdata = sd.read_zarr(folder / STORE)
    sdata["cells"] = Labels2DModel.parse(np.arange(96 * 112, dtype=np.int32).reshape(96, 112), dims=("y", "x"))
    sdata.write_element("cells")


def replace(folder: Path, *, resume: bool = False) -> None:
    """Fit ``second`` anew: the run that is killed."""
    _fit(folder, key=KEY, rng=7, max_epochs=3, resume=resume)


def _fit(folder: Path, *, key: str, rng: int, max_epochs: int, resume: bool = False) -> None:
    import sphisto as sp

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sp.tl.fit_projection(
            section(), store=folder / STORE, key_added=key, rng=rng, max_epochs=max_epochs, device="cpu",
            genes=["noise_a", "class1_a"], resume=resume,
        )  # fmt: skip


def opens(folder: Path) -> str:
    """Say what keeps the store from being read as a whole, nothing if all is well."""
    import spatialdata as sd

    import sphisto as sp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            sdata = sd.read_zarr(folder / STORE)
            for name in sdata.images:
                sp.get.raster(folder / STORE, name)
            for key in ("first", KEY):
                sp.get.gene_raster(folder / STORE, "noise_a", key=key)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
            return f"{type(error).__name__}: {error}"
    return ""


def earlier(folder: Path) -> dict[str, str]:
    """Digest of each element that a run does not write, over names and contents of all its files."""
    own = {KEY, *(f"{KEY}_{name}" for name in ("factors", "sd", "reconstruction"))}
    found = {}
    for element in sorted((folder / STORE).glob("*/*")):
        # picture, tissue, spots and table are the library's: each run writes them anew
        if element.is_dir() and element.name not in own and not element.name.startswith(("toy_", "table")):
            found[element.name] = digest(element)
    return found


def library_of_first(folder: Path) -> dict[str, bytes]:
    """What the table says of ``first``."""
    from sphisto.io.store import read as stores

    table = stores.table(folder / STORE)
    arrays = {"loadings": table.varm["first_loadings"], "fitted": table.obsm["first_fitted"]}
    return {name: np.ascontiguousarray(values).tobytes() for name, values in arrays.items()}


def result(folder: Path) -> dict[str, bytes]:
    """Rasters of all resolutions and what the table says of the projection."""
    from sphisto.io.store import read as stores

    found = {}
    for name in (KEY, *(f"{KEY}_{part}" for part in ("factors", "sd", "reconstruction"))):
        for level, array in enumerate(stores.raster(folder / STORE, name).levels):
            found[f"{name} {level}"] = np.asarray(array[:]).tobytes()
    table = stores.table(folder / STORE)
    found["loadings"] = np.ascontiguousarray(table.varm[f"{KEY}_loadings"]).tobytes()
    found["fitted"] = np.ascontiguousarray(table.obsm[f"{KEY}_fitted"]).tobytes()
    return found


def digest(folder: Path) -> str:
    """Digest of names and contents of all files of a folder."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def copied(source: Path, target: Path) -> Path:
    """Copy a folder with all that lies in it, models beside the store, too."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def stage(folder: Path) -> str:
    """Say how far a killed run had come, by what it left."""
    from sphisto.io.store.journal import read_journal

    work = folder / f".{STORE}.new.sphisto"
    journal = read_journal(work / "journal")
    if journal is None:
        return "copying the store" if work.exists() else "before or after"
    if journal.regions:
        return "writing tiles"
    if list(work.glob("beside-*/[!.]*")):
        return "making rasters"
    return "training" if journal.done else "writing the slide"
