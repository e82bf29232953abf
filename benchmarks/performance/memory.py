"""Memory of predicting and writing slides of different sizes, and of a fit from a full-resolution image."""

import tempfile
from operator import itemgetter
from pathlib import Path

import numpy as np
from anndata import read_h5ad
from benchmarks.performance import drawn
from benchmarks.performance.measuring import apart, peak, row, seconds

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.core.tiles import on_tissue, plan_tiles

SIDES = (4096, 8192, 16384)
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
