"""Write a small store and model with the code and libraries at hand, and the numbers that are read from them.

    python tests/golden/make.py 0.1.0.tar.xz

``tests/test_golden.py`` reads such archives: those beside this file, each made by a release of sphisto with the
versions in its ``constraints.txt``, and the one that ``SPHISTO_GOLDEN`` names, for instance of other libraries. An
archive once committed is never made anew: stores of its time must stay readable.

0.1.0.tar.xz was made on Python 3.11 by the code of 28 November 2026 (no release yet): anndata 0.12.19, spatialdata 0.7.3,
zarr 3.1.6, torch 2.13.0. 0.1.0-format2.tar.xz was made with the same versions by the code of 29 November 2026, the first
that wrote stores of format 2.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

GENES = ["class1_a", "class3_b", "gradient_a", "noise_a"]
STORE, MODEL, EXPECTED = "toy.zarr", "toy.projection.pt", "expected.json"
STEP = 8  # px: every so many pixels are compared
REGIONS = {"regions": np.array([[24.0, 40.0], [6.0, 12.0]]), "radius": 9.0}
TISSUE = np.add.outer(np.arange(64), np.arange(72)) > 20  # all but a corner


def make(folder: Path) -> None:
    """Fit a section of a few spots and write what the archive holds."""
    import sphisto as sp

    section = sp.datasets.toy(64, 72, pitch_um=24, rng=1)[:, GENES].copy()
    sp.tl.fit_projection(
        sp.io.section(section, tissue=TISSUE, check=False),
        store=folder / STORE,
        genes=GENES[:2],
        config="fast",
        max_epochs=2,
        device="cpu",
    )
    sp.tl.save(coarse(sp.tl.load(folder / MODEL)), folder / MODEL)


def coarse(fitted: Any) -> Any:
    """Leave each weight three values, so that the archive is small, and have the network count in what it predicts."""
    import torch

    def of_three(values: Any) -> Any:
        large = 2 * values.std()
        return torch.where(values.abs() > 0.75 * large, values.sign() * large, 0.0)

    weights = {name: of_three(values) if values.ndim > 1 else values for name, values in fitted.weights.items()}
    weights |= {"gate": torch.tensor(0.5), "last.weight": 50 * fitted.weights["last.weight"]}
    return dataclasses.replace(fitted, weights=weights)


def numbers(folder: Path, scratch: Path) -> dict[str, Any]:
    """Read a store and a model of an archive in several ways: lists of numbers, of rasters those of few pixels."""
    import spatialdata

    import sphisto as sp

    store, predicted = folder / STORE, scratch / "predicted.zarr"
    whole = spatialdata.read_zarr(store)
    table = whole.tables["table"]
    rasters = [
        "projection",
        "projection_factors",
        "projection_sd",
        "projection_reconstruction",
        "toy_image",
        "toy_tissue",
    ]
    regions = sp.tl.aggregate(store, **REGIONS)
    found = {f"raster {name}": _thinned(sp.get.raster(store, name)) for name in rasters} | {
        "genes": [str(gene) for gene in table.var_names],
        "spots": [str(spot) for spot in table.obs_names],
        "counts": rounded(table.X.toarray()),
        "loadings": rounded(table.varm["projection_loadings"]),
        "fitted": rounded(table.obsm["projection_fitted"]),
        "gene": _thinned(sp.get.gene_raster(store, GENES[2:])),
        "gene of what SpatialData reads": _thinned(sp.get.gene_raster(whole, GENES[3])),
        "regions": rounded(regions.X),
        "coverage": rounded(regions.obs["coverage"].to_numpy()),
    }
    section = sp.io.section(whole, image="toy_image", tissue=TISSUE, check=False)
    sp.tl.predict(sp.tl.load(folder / MODEL), section, store=predicted, device="cpu")
    return found | {
        "predicted": _thinned(sp.get.gene_raster(predicted, GENES)),
        "predicted factors": _thinned(sp.get.raster(predicted, "projection_factors")),
    }


def _thinned(raster: Any) -> list[Any]:
    return rounded(raster.values[..., ::STEP, ::STEP])


def rounded(values: np.ndarray) -> list[Any]:
    """Return six digits of each value, in nested lists."""
    return np.vectorize(lambda value: float(f"{value:.6g}"), otypes=[float])(values).tolist()


def pack(folder: Path, archive: Path) -> None:
    """Write the files of a folder into an archive that does not say whose they were."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz") as tar:
        for name in (EXPECTED, MODEL, STORE):
            tar.add(folder / name, name, filter=anonymous)


def main(archive: str) -> None:
    """Make an archive."""
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as scratch:
        folder = Path(made)
        make(folder)
        expected: Mapping[str, Any] = numbers(folder, Path(scratch))
        (folder / EXPECTED).write_text(json.dumps(expected))
        pack(folder, Path(archive))


if __name__ == "__main__":
    main(sys.argv[1])
