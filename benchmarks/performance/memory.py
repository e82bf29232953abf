"""Memory of predicting and writing slides of different sizes, and of a fit from a full-resolution image."""

import tempfile
from operator import itemgetter
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from anndata.io import write_elem
from benchmarks.performance import drawn
from benchmarks.performance.measuring import apart, peak, row, seconds
from scipy import sparse

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.core.tiles import on_tissue, plan_tiles

SIDES = (4096, 8192, 16384)
BINS = 3200  # along either side, of 2 um: some 6.5 mm
TILES = 6  # on tissue, along each side of it
ROUNDS = 3  # a peak differs by some 5 % from one to the next
N_FACTORS, N_GENES = 32, 20
REAL, IMAGE = "her2st_C2", "tissue_image_fullres.jpg"  # 9,274 x 9,911 px
REAL_SCALE = {"um_per_px": 0.734, "spot": Spot(100.0)}


def measure(data, device, whole):
    """Peaks of predicting drawn slides, their ratio, and peaks of predicting and fitting the real section."""
    tiles = {side: side // drawn.TILE - 2 if whole else TILES for side in SIDES}
    rounds = [{side: of_drawn(side, tiles[side], device) for side in SIDES} for _ in range(ROUNDS)]
    found = {side: sorted((each[side] for each in rounds), key=itemgetter("mb"))[ROUNDS // 2] for side in SIDES}
    rows = [row(f"{side:,}² px: predict and write", f["mb"], "MB", f["said"]) for side, f in found.items()]
    small, large = (found[side]["mb"] for side in (SIDES[0], SIDES[-1]))
    behind = f"{large:.0f} MB of {small:.0f} MB, the middle of {ROUNDS} rounds each"
    rows.append(row(f"{SIDES[-1]:,}² px over {SIDES[0]:,}² px", large / small, "", behind, most=1.1))
    window = of_window(BINS)
    behind = f"{BINS**2:,} bins of 2 um; {window['bins']:,} of 8 um in the window, {window['seconds']:.0f} s"
    rows.append(row("read a window of a table in its file", window["mb"], "MB", behind, most=4000))
    if data is not None and (data / REAL).is_dir():
        for what, fit, most in (("predict and write", False, 800), ("fit at 2 um per px, 2 epochs", True, 1500)):
            with tempfile.TemporaryDirectory() as name:
                apart(prepare, Path(name), real=data / REAL)
                real = apart(watched, Path(name), device, data / REAL, fit=fit)
            rows.append(row(f"{REAL}: {what}", real["mb"], "MB", real["said"], most=most))
    return rows


def of_drawn(side, tiles, device="cpu", **sizes):
    """Predict a drawn slide, of which ``tiles`` x ``tiles`` tiles hold tissue, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(prepare, Path(name), side=side, tiles=tiles, **sizes)
        return apart(watched, Path(name), device)


def prepare(folder, *, real=None, side=0, tiles=0, n_factors=N_FACTORS, n_genes=N_GENES) -> None:
    """Write the model, and image and spots of a drawn section."""
    if real is None:
        drawn.write_image(folder / "image.tif", side, tiles)
        adata, scale = drawn.spots(tiles), {}
        adata.write_h5ad(folder / "spots.h5ad")
    else:
        adata, scale = sp.io.read_visium(real), REAL_SCALE
    sp.tl.save(drawn.model(adata, n_factors=n_factors, n_genes=n_genes, **scale), folder / "model.pt")


def watched(folder, device, real=None, *, fit=False):
    """Predict, or fit, what was prepared: peak, and in words how long it took and how many tiles hold tissue."""
    given, times = {"store": folder / "out.zarr", "device": device}, []

    def do():
        if real is None:
            adata, image = read_h5ad(folder / "spots.h5ad"), {"image": str(folder / "image.tif"), "image_scale": 1.0}
        else:
            adata, image = sp.io.read_visium(real), {"image": str(real / IMAGE)}
        section = sp.io.section(adata, **image)
        if fit:
            sp.tl.fit_projection(section, um_per_px=2.0, max_epochs=2, **given)
        else:
            sp.tl.predict(sp.tl.load(folder / "model.pt"), section, **given)

    most = peak(lambda: times.append(seconds(do)))
    name = next(path.name for path in (folder / "out.zarr" / "labels").iterdir() if path.is_dir())
    tissue = np.asarray(sp.get.raster(folder / "out.zarr", name)).astype(bool)
    tiles = plan_tiles(tissue.shape, size=drawn.TILE)
    n, every = len(on_tissue(tiles, tissue)), len(tiles)
    return {"mb": most, "tiles": n, "of": every, "said": f"{n} of {every} tiles hold tissue, {times[0]:.0f} s"}


def of_window(side, genes=2000, per_bin=10):
    """Read a window of a drawn table of ``side`` x ``side`` bins of 2 um that stays in its file; peak MB and bins read."""
    with tempfile.TemporaryDirectory() as name:
        apart(write_bins, Path(name) / "bins.h5ad", side, genes, per_bin)
        return apart(read_window, Path(name) / "bins.h5ad", side)


def write_bins(path, side, genes, per_bin):
    """Write a table of bins, of the same number of genes each, drawn at random, on an image of noise."""
    rng = np.random.default_rng(0)
    image = np.full((side // 8, side // 8, 3), 200, np.uint8)
    image[2:-2, 2:-2] = rng.integers(90, 190, (side // 8 - 4, side // 8 - 4, 3))
    factors = {
        "bin_size_um": 2.0,
        "microns_per_pixel": 1.0,
        "spot_diameter_fullres": 2.0,
        "tissue_hires_scalef": 1 / 16,
    }
    first_of_range = np.arange(per_bin) * (genes // per_bin)

    def block(_first, rows):
        entries = np.sort(rng.integers(0, genes // per_bin, (rows, per_bin)) + first_of_range).ravel()
        counts = rng.integers(1, 4, rows * per_bin).astype(np.float32)
        return sparse.csr_matrix((counts, entries, np.arange(rows + 1) * per_bin), shape=(rows, genes))

    write_table(path, side, genes, block, {"images": {"hires": image}, "scalefactors": factors})


def write_table(path, side, genes, block, library, at_once=250_000):
    """Write a table of ``side`` x ``side`` bins of 2 um as anndata lays it out: ``block(first, rows)`` gives rows as csr.

    Centres lie in full-resolution px of the size that the library's scale factors state.
    """
    n, px = side**2, library["scalefactors"]["bin_size_um"] / library["scalefactors"]["microns_per_pixel"]
    empty = AnnData(
        sparse.csr_matrix((1, genes), dtype=np.float32),
        var=pd.DataFrame(index=[f"g{i}" for i in range(genes)]),
        uns={"spatial": {"hd": library}},
    )
    empty.write_h5ad(path)
    row, column = np.divmod(np.arange(n), side)
    names = [f"s_002um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]
    obs = pd.DataFrame({"in_tissue": 1, "array_row": row, "array_col": column}, index=names)
    with h5py.File(path, "r+") as file:
        del file["obs"], file["X"]
        write_elem(file, "obs", obs)
        write_elem(file, "obsm", {"spatial": (np.column_stack([column, row]) + 0.5) * px})
        matrix = file.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([n, genes])})
        data = matrix.create_dataset("data", (0,), np.float32, maxshape=(None,), chunks=(2**18,))
        indices = matrix.create_dataset("indices", (0,), np.int32, maxshape=(None,), chunks=(2**18,))
        indptr, filled = np.zeros(n + 1, dtype=np.int64), 0
        for first in range(0, n, at_once):
            part = block(first, min(at_once, n - first))
            for dataset, values in ((data, part.data), (indices, part.indices)):
                dataset.resize((filled + part.nnz,))
                dataset[filled:] = values
            indptr[first + 1 : first + 1 + part.shape[0]] = filled + part.indptr[1:]
            filled += part.nnz
        matrix["indptr"] = indptr


def read_window(path, side):
    """Understand the middle tenth of a table of bins, along either side."""
    low, high = 0.9 * side, 1.1 * side
    found = []

    def do():
        section = sp.io.section(read_h5ad(path, backed="r"), bin_um=8, bbox=(low, low, high, high))
        found.append(section.adata.n_obs)

    return {"mb": peak(do), "bins": found[0], "seconds": seconds(do)}
