"""Truth finer than spots, which shares no molecule with them.

Pseudo-spots are made of a random 70 % of the molecules and truth of the other 30 %: with truth of the same molecules a
method scores well that repeats the noise of the spots. Each seed splits the molecules and lays the array of spots anew.
The truth of toy sections is the exact rate, and that of ``breast_visium_xenium`` another section.
"""

import numpy as np
import pandas as pd
from benchmarks.fidelity.cases import Case
from benchmarks.fidelity.held_out_spots import LEAST_SEEN
from benchmarks.fidelity.shared import measured_at
from scipy import sparse
from scipy.spatial import Delaunay, cKDTree

from sphisto.core.footprint import Footprint
from sphisto.core.spot import Spot
from sphisto.datasets import toy as draw_toy
from sphisto.datasets import toy_truth
from sphisto.io import read_visium, section
from sphisto.io.slides import make_slide
from sphisto.scoring import metrics

SPOTS_SHARE = 0.7  # of the molecules
DAPI_LEAST, HE_LEAST = 300, 100  # molecules of a scored gene in the crop, a share of 0.3 of them in its truth
TOY_GENES = tuple(f"{kind}_{x}" for kind in ("class0", "class2", "nuclei", "total", "gradient") for x in "ab")
NEIGHBOUR_UM = 50.0  # no finer: the two sections are aligned to about 30-50 um


def dapi(folder, name, kind, seed, um=0.85, spot_um=30.0, pitch_um=50.0, bin_px=10) -> Case:
    """Cells' counts. Those of spots fall anywhere in their cell's outline, those of truth are spread evenly over it."""
    from anndata import read_h5ad
    from PIL import Image

    rng = np.random.default_rng(seed)
    image, cells = np.asarray(Image.open(folder / "dapi.png")), read_h5ad(folder / "cells.h5ad")
    outlines = pd.read_csv(folder / "cell_polygons.csv.gz").groupby("cell")
    polygons = [[outlines.get_group(int(cell))[["y", "x"]].to_numpy()] for cell in cells.obs_names]
    within = Footprint.from_polygons(image.shape, polygons)
    counts = sparse.csr_array(cells.X).toarray().astype(np.int64)
    scored = np.flatnonzero(counts.sum(axis=0) >= DAPI_LEAST)
    seen, hidden = split_molecules(counts, SPOTS_SHARE, rng)
    array = lattice(image.shape, um, spot_um, pitch_um, rng)
    discs = Spot(spot_um).footprint(image.shape, array[["y", "x"]].to_numpy(), um)
    adata = pseudo_spots(np.repeat(image[..., None], 3, axis=2), um, spot_um, array, cells.var_names,
                         fallen(shares(within, discs), seen, rng))  # fmt: skip
    regions = squares(image.shape, bin_px)
    spread = shares(within, regions)
    half = rng.binomial(hidden[:, scored], 0.5)
    truth, first = (np.asarray((spread @ values).astype(np.float64)) for values in (hidden[:, scored], half))
    return pseudo_case(name, kind, seed, adata, regions, truth, first, scored, spot_um)


def he_if(folder, name, kind, seed, um=0.4, spot_um=12.0, pitch_um=18.0, bin_px=10) -> Case:
    """Single transcripts, in bins of 4 um or in segmented cells; or the protein CD20, as truth for its gene MS4A1."""
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(seed)
    image = np.asarray(Image.open(folder / "he.png"))
    found = pd.read_csv(folder / "transcripts.csv.gz")
    genes = pd.Index(sorted(found.gene.unique()))
    scored = np.flatnonzero(found.gene.value_counts().reindex(genes) >= HE_LEAST)
    gene, place = genes.get_indexer(found.gene), found[["y_px", "x_px"]].to_numpy()
    array = lattice(image.shape[:2], um, spot_um, pitch_um, rng)
    in_spots = rng.random(len(found)) < SPOTS_SHARE
    distance, spot = cKDTree(array[["y", "x"]]).query(place)
    hit = in_spots & (distance <= spot_um / um / 2)
    adata = pseudo_spots(image, um, spot_um, array, genes, counted(spot[hit], gene[hit], len(array), len(genes)))
    if kind == "cells":
        labels = tifffile.imread(folder / "cell_labels.tif")
        regions = Footprint.from_labels(labels, np.unique(labels[labels > 0]))
    else:
        regions = squares(image.shape[:2], bin_px)
    region_of = np.full(image.shape[:2], -1)
    region_of[regions.y, regions.x] = np.repeat(np.arange(len(regions)), np.diff(regions.indptr))
    region = region_of[tuple(np.clip(np.floor(place).astype(int), 0, np.array(region_of.shape) - 1).T)]
    if kind == "protein":
        cd20 = regions.mean(np.moveaxis(np.asarray(Image.open(folder / "if.png")), -1, 0)[:1].astype(np.float64))
        return pseudo_case(name, kind, seed, adata, regions, cd20, None, genes.get_indexer(["MS4A1"]), spot_um)
    known, first = ~in_spots & (region >= 0), rng.random(len(found)) < 0.5
    truth, half = (counted(region[s], gene[s], len(regions), len(genes))[:, scored] for s in (known, known & first))
    return pseudo_case(name, kind, seed, adata, regions, truth, half, scored, spot_um)


def toy(_, name, kind, seed, side=1200, bin_px=4) -> Case:
    """A section drawn by rule, in bins of 8 um; two genes of each pattern. Sparse: half a count of a gene in a spot."""
    adata = draw_toy(side, side, rng=seed, **({"mean_counts": 0.5} if name == "toy_sparse" else {}))
    slide = make_slide(section(adata))
    regions = squares(slide.grid.shape, bin_px)
    tissue = regions.mean(np.asarray(slide.tissue))[:, 0]
    regions, tissue = regions.select(tissue >= 0.5), tissue[tissue >= 0.5]
    truth = regions.mean(toy_truth(adata, TOY_GENES).to_numpy()) * bin_px**2 / slide.spot_area
    return Case(
        name, kind, seed, adata, slide, regions, np.full(len(truth), bin_px**2 / slide.spot_area), tissue, truth,
        adata.var_names.get_indexer(list(TOY_GENES)), np.ones(len(TOY_GENES)),
    )  # fmt: skip


def neighbour(folder, name, kind, seed) -> Case:
    """Real Visium, scored on the Xenium cells of a neighbouring section, in squares within the hull of the cells."""
    from anndata import read_h5ad

    adata, cells = read_visium(folder), read_h5ad(folder / "xenium_cells.h5ad")
    whole = make_slide(section(adata))
    genes = np.flatnonzero(np.asarray((whole.spots.values > 0).mean(axis=0)).ravel() > LEAST_SEEN)
    names = adata.var_names[genes]
    common = [gene for gene in cells.var_names if gene in names]
    places = whole.grid.from_fullres(np.asarray(cells.obsm["spatial_refined"])[:, ::-1])
    side = NEIGHBOUR_UM / whole.grid.um_per_px
    regions = squares(whole.grid.shape, side)
    tissue = regions.mean(np.asarray(whole.tissue))[:, 0]
    kept = (tissue >= 0.5) & (Delaunay(places).find_simplex(regions.centroids()) >= 0)
    rows, columns = (int(length // side) for length in whole.grid.shape)
    row, column = np.floor(places / side).astype(int).T
    on = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    summing = sparse.csr_array(
        (np.ones(on.sum()), (row[on] * columns + column[on], np.flatnonzero(on))), (rows * columns, len(places))
    )
    counts = cells[:, common].X.toarray().astype(np.int64)
    half = np.random.default_rng(seed).binomial(counts, 0.5)
    truth, first = ((summing @ values)[kept].astype(np.float64) for values in (counts, half))
    return Case(
        name, kind, seed, adata[:, genes].copy(), measured_at(whole, np.arange(adata.n_obs), genes),
        regions.select(kept), np.full(kept.sum(), side**2 / whole.spot_area), tissue[kept], truth,
        names.get_indexer(common), metrics.ceiling_of_halves(first, truth - first), same_units=False,
    )  # fmt: skip


def split_molecules(counts, share, rng):
    """Split counts at random into those of the spots and the rest, each molecule by itself."""
    seen = rng.binomial(counts, share)
    return seen, counts - seen


def lattice(shape, um, spot_um, pitch_um, rng) -> pd.DataFrame:
    """Centres (y, x) in px, array rows and columns of all spots of a hexagonal array that lie within the image."""
    row_px, col_px, radius = (length / um for length in (pitch_um * np.sqrt(3) / 2, pitch_um / 2, spot_um / 2))
    y0, x0 = radius + rng.random(2) * (row_px, 2 * col_px)
    row, col = (i.ravel() for i in np.mgrid[: int(shape[0] // row_px) + 1, : int(shape[1] // col_px) + 1])
    found = pd.DataFrame({"y": y0 + row * row_px, "x": x0 + col * col_px, "array_row": row, "array_col": col})
    inside = (found.y <= shape[0] - radius) & (found.x <= shape[1] - radius)
    return found[((row + col) % 2 == 0) & inside].reset_index(drop=True)


def squares(shape, side) -> Footprint:
    """Whole squares of ``side`` px that tile the image, row by row."""
    places = np.meshgrid(*(np.arange(int(length // side)) + 0.5 for length in shape), indexing="ij")
    return Footprint.from_squares(shape, np.stack(places, axis=-1).reshape(-1, 2) * side, side)


def shares(within: Footprint, regions: Footprint) -> sparse.csr_array:
    """(regions, cells) share of each cell's area that lies in each region."""

    def cover(footprint):
        px = footprint.y.astype(np.int64) * footprint.shape[1] + footprint.x
        return sparse.csr_array((footprint.weight, px, footprint.indptr), (len(footprint), np.prod(footprint.shape)))

    return sparse.csr_array(cover(regions) @ cover(within).T @ sparse.diags_array(1 / np.maximum(within.covered, 1e-9)))


def fallen(share: sparse.csr_array, counts, rng):
    """(regions, genes) molecules in each region, if each of the (cells, genes) falls anywhere in its cell."""
    by_cell = sparse.csr_array(share.T)
    cell, gene = np.nonzero(counts)
    cell, gene = np.repeat(cell, counts[cell, gene]), np.repeat(gene, counts[cell, gene])
    before = np.concatenate([[0.0], np.cumsum(by_cell.data)])
    place = before[by_cell.indptr[cell]] + rng.random(len(cell))
    entry = np.searchsorted(before, place, side="right") - 1
    hit = entry < by_cell.indptr[cell + 1]
    return counted(by_cell.indices[entry[hit]], gene[hit], share.shape[0], counts.shape[1])


def counted(region, gene, n_regions, n_genes):
    """(regions, genes) table of single molecules."""
    found = np.zeros((n_regions, n_genes))
    np.add.at(found, (region, gene), 1)
    return found


def pseudo_spots(image, um, spot_um, array, genes, values):
    """Spots and image in the Visium layout; the scale is stated, so that nobody takes it for Visium's."""
    from anndata import AnnData

    obs = array[["array_row", "array_col"]].assign(in_tissue=1)
    obs.index = obs.index.astype(str)
    adata = AnnData(sparse.csr_matrix(values.astype(np.float32)), obs=obs, var=pd.DataFrame(index=list(genes)))
    adata.obsm["spatial"] = array[["x", "y"]].to_numpy()
    factors = {
        "tissue_hires_scalef": 1.0, "tissue_lowres_scalef": 1.0, "spot_diameter_fullres": spot_um / um,
        "fiducial_diameter_fullres": spot_um / um, "microns_per_pixel": um,
    }  # fmt: skip
    adata.uns["spatial"] = {"crop": {"images": {"hires": image}, "scalefactors": factors, "metadata": {}}}
    return adata


def pseudo_case(name, kind, seed, adata, regions, truth, half, scored, spot_um) -> Case:
    """A case of pseudo-spots on a crop full of tissue; without halves the truth is no count."""
    shape = adata.uns["spatial"]["crop"]["images"]["hires"].shape[:2]
    options = {"spot_um": spot_um, "tissue": np.ones(shape, dtype=bool)}
    slide = make_slide(section(adata, **options))
    ceiling = np.ones(len(scored)) if half is None else metrics.ceiling_of_halves(half, truth - half)
    ratio = (1 - SPOTS_SHARE) / SPOTS_SHARE
    return Case(
        name, kind, seed, adata, slide, regions, regions.covered / slide.spot_area * ratio, np.ones(len(regions)), truth,
        scored, ceiling, same_units=half is not None, options=options,
    )  # fmt: skip
