"""Trained on real Visium, scored on the Xenium cells of a neighbouring section, summed in squares of 50 um."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import LEAST_SEEN, Case, bin_centers, bins, training

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.io.spaceranger import read_visium
from sphisto.scoring import metrics

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BIN_UM = 50.0  # no finer: the two sections are aligned to about 30-50 um


def make(folder: Path, split: str, seed: int) -> Case:
    """The 100 genes that both platforms measured; bins outside the hull of the cells are not scored."""
    from anndata import read_h5ad
    from scipy.spatial import Delaunay

    adata = read_visium(folder)
    whole = make_slide(sp.io.section(adata))
    cells = read_h5ad(folder / "xenium_cells.h5ad")
    seen = np.asarray((whole.spots.values > 0).mean(axis=0)).ravel()
    genes = np.flatnonzero(seen > LEAST_SEEN)
    names = adata.var_names[genes]
    common = [gene for gene in cells.var_names if gene in names]
    centers = whole.grid.from_fullres(np.asarray(cells.obsm["spatial_refined"])[:, ::-1])
    side = BIN_UM / whole.grid.um_per_px
    inside = Delaunay(centers).find_simplex(bin_centers(whole, side)[1]) >= 0
    regions = bins(whole, side, inside)
    counts = np.asarray(cells[:, common].X.toarray()).astype(np.int64)
    half = np.random.default_rng(seed).binomial(counts, 0.5)
    truth, first = (summed(values, centers / side, regions.shape, regions.cells) for values in (counts, half))
    return Case(
        name=folder.name,
        split=split,
        seed=seed,
        adata=adata[:, genes].copy(),
        slide=training(whole, np.arange(adata.n_obs), genes),
        regions=regions,
        truth=truth,
        scored=names.get_indexer(common),
        ceiling=metrics.ceiling_of_halves(first, truth - first),
        same_units=False,
    )


def summed(
    values: NDArray[np.int64], places: NDArray[np.float64], shape: tuple[int, int] | None, cells: Any
) -> NDArray[np.float64]:
    """Sum cells' (n, S) values in the bins they lie in; (m, S)."""
    rows, columns = shape or (0, 0)
    row, column = np.floor(places).astype(np.int64).T
    kept = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    out = np.zeros((rows * columns, values.shape[1]))
    np.add.at(out, row[kept] * columns + column[kept], values[kept])
    return out[cells]
