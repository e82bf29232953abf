"""What is killed: a small section is fitted into a store that holds something already.

The store holds a projection ``first``, an older ``second`` and labels that a user added. The run replaces ``second``.
"""

import contextlib
import hashlib
import io
import logging
import shutil
import time
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np

KEY, STORE = "second", "toy.zarr"
OWN = (KEY, *(f"{KEY}_{part}" for part in ("factors", "sd", "reconstruction")))
TILE = 32  # px: the section is small, and writing shall have instants to be killed at


def load() -> None:
    """Load all libraries, and let small sections have several tiles and short epochs."""
    from sphisto.predict import tiles as inference
    from sphisto.tl import _project

    for name in ("sklearn.decomposition", "spatialdata", "zarr.codecs", "sphisto.tl._fit_projection"):
        import_module(name)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    _project.tiles_of = lambda fitted, slide: inference.tiles_of(fitted, slide, tile=TILE)
    _project.REGION = TILE


def prepare(folder: Path, *, windows: bool = False) -> None:
    """Make the store that is there before."""
    import spatialdata as sd
    from spatialdata.models import Labels2DModel

    fit(folder, windows, key_added="first", rng=5, max_epochs=1)
    fit(folder, windows, key_added=KEY, rng=6, max_epochs=1)
    sdata = sd.read_zarr(folder / STORE)
    sdata["cells"] = Labels2DModel.parse(np.arange(96 * 112, dtype=np.int32).reshape(96, 112), dims=("y", "x"))
    sdata.write_element("cells")


def replace(folder: Path, *, windows: bool = False, resume: bool = False) -> float:
    """Fit ``second`` anew: the run that is killed. Returns how long it took."""
    started = time.perf_counter()
    fit(folder, windows, key_added=KEY, rng=7, max_epochs=3, resume=resume)
    return time.perf_counter() - started


def fit(folder: Path, windows: bool, **options) -> None:
    import sphisto as sp

    # some 50 spots, which are solved together, or in four windows as those of large sections are
    field = sp.config.FieldConfig(**({"most_spots": 10, "core": 3, "halo": 2, "blend": 1} if windows else {}))
    short = sp.config.FitConfig(field=field, train=sp.config.TrainConfig(least_batches=4))
    section, genes = sp.datasets.toy(96, 112, pitch_um=24, rng=1), ["noise_a", "class1_a"]
    with contextlib.redirect_stdout(io.StringIO()):
        sp.tl.fit_projection(section, store=folder / STORE, device="cpu", genes=genes, config=short, **options)


def opens(folder: Path) -> str:
    """Say what keeps the store from being read as a whole, nothing if all is well."""
    import spatialdata as sd

    import sphisto as sp

    try:
        for name in sd.read_zarr(folder / STORE).images:
            sp.get.raster(folder / STORE, name)
        for key in ("first", KEY):
            sp.get.gene_raster(folder / STORE, "noise_a", key=key)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
        return f"{type(error).__name__}: {error}"
    return ""


def others(folder: Path) -> dict[str, str]:
    """Digests of what a run must leave alone: all files of each other element, and what the table says of ``first``."""
    found = table_of(folder, "first")
    for element in sorted((folder / STORE).glob("*/*")):
        # image, tissue, spots and table are the library's: each run writes them anew
        if element.is_dir() and element.name not in OWN and not element.name.startswith(("toy_", "table")):
            files = sorted(path for path in element.rglob("*") if path.is_file())
            found |= {str(path.relative_to(folder)): digest(path.read_bytes()) for path in files}
    return found


def result(folder: Path) -> dict[str, str]:
    """Digests of the rasters of all resolutions, and of what the table says of the projection."""
    from sphisto.io.store import read as stores

    levels = {f"{name} {i}": a for name in OWN for i, a in enumerate(stores.raster(folder / STORE, name).levels)}
    return table_of(folder, KEY) | {name: digest(np.asarray(array[:])) for name, array in levels.items()}


def table_of(folder: Path, key: str) -> dict[str, str]:
    """Digests of what the table says of a projection."""
    from sphisto.io.store import read as stores

    table = stores.table(folder / STORE)
    return {"loadings": digest(table.varm[f"{key}_loadings"]), "fitted": digest(table.obsm[f"{key}_fitted"])}


def digest(content) -> str:
    return hashlib.sha256(
        content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
    ).hexdigest()


def copy(source: Path, target: Path) -> None:
    """Copy a folder with all that lies in it, models beside the store, too."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


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
