"""Pseudo-spots on a Xenium crop: truth is the cells' counts, spread evenly over their polygons, in bins of 8.5 um."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Case, Regions, bins
from numpy.typing import NDArray
from scipy import sparse

import sphisto as sp
from sphisto.core.footprint import Footprint
from sphisto.core.spot import Spot
from sphisto.io.slides import make_slide
from sphisto.scoring import metrics

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

UM_PER_PX = 0.85
SPOT_UM, PITCH_UM = 30.0, 50.0
BIN_PX = 10
LEAST_COUNTS = 300  # transcripts of a scored gene in the crop: about one in twelve bins


def make(folder: Path, split: str, seed: int) -> Case:
    """Lay an array with a random offset over the crop and let each transcript fall somewhere in its cell."""
    import pandas as pd
    from anndata import read_h5ad
    from PIL import Image

    dapi = np.asarray(Image.open(folder / "dapi.png"))
    cells = read_h5ad(folder / "cells.h5ad")
    outlines = pd.read_csv(folder / "cell_polygons.csv.gz").groupby("cell")
    polygons = [[outlines.get_group(int(name))[["y", "x"]].to_numpy()] for name in cells.obs_names]
    within = Footprint.from_polygons(dapi.shape, polygons)
    counts = sparse.csr_array(cells.X).toarray().astype(np.int64)
    genes = np.flatnonzero(counts.sum(axis=0) >= LEAST_COUNTS)
    rng = np.random.default_rng(seed)
    centers, rows, columns = lattice(dapi.shape, rng)
    values = fallen(shares(within, spot_of_px(dapi.shape, centers)), counts, len(centers), rng)
    adata = section(dapi, centers, rows, columns, values, list(cells.var_names))
    options: dict[str, Any] = {"spot_um": SPOT_UM, "tissue": np.ones(dapi.shape, dtype=bool)}
    slide = make_slide(sp.io.section(adata, **options))
    regions = bins(slide, BIN_PX)
    spread = shares(within, bin_of_px(dapi.shape, regions))
    half = rng.binomial(counts[:, genes], 0.5)
    return Case(
        name=folder.name,
        split=split,
        seed=seed,
        adata=adata,
        slide=slide,
        regions=regions,
        truth=np.asarray((spread @ counts[:, genes]).astype(np.float64)),
        scored=genes,
        ceiling=metrics.ceiling_of_halves(spread @ half, spread @ (counts[:, genes] - half)),
        fluorescent=True,
        options=options,
    )


def lattice(shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.float64], Any, Any]:
    """Centres (y, x) in px, array rows and columns of all spots of a hexagonal array that lie within the picture."""
    row_px, col_px, radius = (um / UM_PER_PX for um in (PITCH_UM * np.sqrt(3) / 2, PITCH_UM / 2, SPOT_UM / 2))
    y0, x0 = radius + rng.random(2) * (row_px, 2 * col_px)
    row, column = (i.ravel() for i in np.mgrid[: int(shape[0] // row_px) + 1, : int(shape[1] // col_px) + 1])
    centers = np.stack([y0 + row * row_px, x0 + column * col_px], axis=1)
    kept = ((row + column) % 2 == 0) & (centers <= np.array(shape) - radius).all(axis=1)
    return centers[kept], row[kept], column[kept]


def spot_of_px(shape: tuple[int, int], centers: NDArray[np.float64]) -> sparse.csr_array:
    """(spots, px) share of each pixel that a spot covers."""
    discs = Spot(SPOT_UM).footprint(shape, centers, UM_PER_PX)
    return sparse.csr_array((discs.weight, discs.y * shape[1] + discs.x, discs.indptr), (len(centers), np.prod(shape)))


def bin_of_px(shape: tuple[int, int], regions: Regions) -> sparse.csr_array:
    """(bins, px) share of each pixel that lies in a bin."""
    squares = regions.spot.footprint(shape, regions.centers, UM_PER_PX)
    px = squares.y * shape[1] + squares.x
    return sparse.csr_array((squares.weight, px, squares.indptr), (len(regions), np.prod(shape)))


def shares(within: Footprint, of_px: sparse.csr_array) -> sparse.csr_array:
    """(regions, cells) share of each cell's area that lies in each region."""
    px = within.y.astype(np.int64) * within.shape[1] + within.x
    cover = sparse.csr_array((within.weight, px, within.indptr), (len(within), np.prod(within.shape)))
    whole = np.maximum(within.covered, 1e-9)
    return sparse.csr_array(of_px @ cover.T @ sparse.diags_array(1 / whole))


def fallen(share: sparse.csr_array, counts: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n, genes) transcripts in each region, if each falls anywhere in its cell with equal chance."""
    by_cell = sparse.csr_array(share.T)
    cell, gene = np.nonzero(counts)
    each = counts[cell, gene]
    cell, gene = np.repeat(cell, each), np.repeat(gene, each)
    before = np.concatenate([[0.0], np.cumsum(by_cell.data)])
    place = before[by_cell.indptr[cell]] + rng.random(len(cell))
    entry = np.searchsorted(before, place, side="right") - 1
    hit = entry < by_cell.indptr[cell + 1]
    values = np.zeros((n, counts.shape[1]), dtype=np.int64)
    np.add.at(values, (by_cell.indices[entry[hit]], gene[hit]), 1)
    return values


def section(
    dapi: NDArray[np.uint8], centers: NDArray[np.float64], rows: Any, columns: Any, values: Any, genes: list[str]
) -> AnnData:
    """Put pseudo-spots and picture into the Visium layout; the scale is stated, so that nobody takes it for Visium's."""
    import pandas as pd
    from anndata import AnnData

    obs = pd.DataFrame({"in_tissue": 1, "array_row": rows, "array_col": columns})
    obs.index = obs.index.astype(str)
    adata = AnnData(sparse.csr_matrix(values.astype(np.float32)), obs=obs, var=pd.DataFrame(index=genes))
    adata.obsm["spatial"] = centers[:, ::-1].copy()
    factors = {
        "tissue_hires_scalef": 1.0,
        "tissue_lowres_scalef": 1.0,
        "spot_diameter_fullres": SPOT_UM / UM_PER_PX,
        "fiducial_diameter_fullres": SPOT_UM / UM_PER_PX,
        "microns_per_pixel": UM_PER_PX,
    }
    images = {"hires": np.repeat(dapi[..., None], 3, axis=2)}
    adata.uns["spatial"] = {"dapi": {"images": images, "scalefactors": factors, "metadata": {}}}
    return adata
