"""Figures without a screen, and a section whose measures are known by heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from anndata import AnnData

UM_PER_PX = 0.5
PITCH = 100 / UM_PER_PX  # px
HIRES = 0.1  # hires px per full-resolution px


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture
def section() -> AnnData:
    """Visium array of 8 x 8 spots, 100 um apart at 0.5 um per px; gene A counts 0, 1, 2, ... in the order of spots."""
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    row, place = (index.ravel() for index in np.mgrid[:8, :8])
    column = 2 * place + row % 2
    xy = np.column_stack([200 + column * PITCH / 2, 300 + row * PITCH * np.sqrt(3) / 2])
    counts = np.column_stack([np.arange(64), np.zeros(64), np.ones(64)]).astype(np.float32)
    adata = AnnData(
        sparse.csr_matrix(counts),
        obs=pd.DataFrame({"array_row": row, "array_col": column}, index=[f"spot{i}" for i in range(64)]),
        var=pd.DataFrame(index=["A", "Zero", "One"]),
    )
    adata.obsm["spatial"] = xy
    picture = np.random.default_rng(0).random((180, 200, 3), dtype=np.float32)
    adata.uns["spatial"] = {
        "lib": {
            "images": {"hires": picture, "lowres": picture[::2, ::2]},
            "scalefactors": {
                "tissue_hires_scalef": HIRES,
                "tissue_lowres_scalef": HIRES / 2,
                "spot_diameter_fullres": 65 / UM_PER_PX,
            },
        }
    }
    return adata


@pytest.fixture
def second(store: Path, tmp_path: Path) -> Path:
    """A store with the projection twice, the second time as ``second``, and with cells that somebody else added."""
    import copy
    import shutil
    from pathlib import Path

    import zarr

    path = Path(shutil.copytree(store, tmp_path / "two.zarr"))
    for kind, end in [("images", ""), ("images", "_factors"), ("images", "_sd"), ("labels", "_tissue")]:
        shutil.copytree(path / kind / f"projection{end}", path / kind / f"second{end}")
    for part in ("varm/{}_loadings", "obsm/{}_fitted", "uns/{}"):
        table = path / "tables" / "table"
        shutil.copytree(table / part.format("projection"), table / part.format("second"))
    shutil.copytree(path / "labels" / "toy_tissue", path / "labels" / "cells")
    root = zarr.open_group(path, mode="r+", use_consolidated=False)
    mark: Any = copy.deepcopy(dict(root.attrs["sphisto"]))
    mark["keys"]["second"] = mark["keys"]["projection"]
    for end in ("", "_factors", "_sd", "_tissue"):
        mark["grids"][f"second{end}"] = mark["grids"][f"projection{end}"]
    root.attrs["sphisto"] = mark
    zarr.consolidate_metadata(path)
    return path
