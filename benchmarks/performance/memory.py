"""Memory of predicting and writing slides of different sizes, and of a fit from a full-resolution image."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
from benchmarks.performance import drawn
from benchmarks.performance.measuring import apart, peak, quiet, row, seconds

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.core.tiles import on_tissue, plan_tiles

SIDES = (4096, 8192, 16384)
TILES = 6  # on tissue, along each side of it
N_FACTORS, N_GENES = 32, 20
REAL, REAL_UM_PER_PX, REAL_SPOT_UM = "her2st_C2", 0.734, 100.0  # 9,274 x 9,911 px
IMAGE = "tissue_image_fullres.jpg"


def measure(data, device, whole):
    """Peaks of predicting drawn slides, their ratio, and peaks of predicting and fitting the real section."""
    found = {side: of_drawn(side, side // drawn.TILE - 2 if whole else TILES, device) for side in SIDES}
    rows = [row(f"{side:,}² px: predict and write", f["mb"], "MB", f["said"]) for side, f in found.items()]
    small, large = (found[side]["mb"] for side in (SIDES[0], SIDES[-1]))
    behind = f"{large:.0f} MB of {small:.0f} MB"
    rows.append(row(f"{SIDES[-1]:,}² px over {SIDES[0]:,}² px", large / small, "", behind, most=1.1))
    if data is not None and (data / REAL).is_dir():
        for what, fit, most in (("predict and write", False, 800), ("fit at 2 um per px, 2 epochs", True, 1500)):
            real = of_real(data / REAL, device, fit=fit)
            rows.append(row(f"{REAL}: {what}", real["mb"], "MB", real["said"], most=most))
    return rows


def of_drawn(side, tiles, device="cpu", *, n_factors=N_FACTORS, n_genes=N_GENES):
    """Predict a drawn slide, of which ``tiles`` x ``tiles`` tiles hold tissue, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(_prepare_drawn, Path(name), side, tiles, n_factors, n_genes)
        return apart(_drawn, Path(name), device)


def of_real(data, device, *, fit):
    """Predict or fit the real section in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(_prepare_real, data, Path(name))
        return apart(_real, data, Path(name), device, fit)


def _prepare_drawn(folder, side, tiles, n_factors, n_genes):
    drawn.write_image(folder / "image.tif", side, tiles)
    adata = drawn.spots(tiles)
    adata.write_h5ad(folder / "spots.h5ad")
    sp.tl.save(drawn.model(adata, n_factors=n_factors, n_genes=n_genes), folder / "model.pt")


def _prepare_real(data, folder):
    adata, spot = sp.io.read_visium(data), Spot(REAL_SPOT_UM)
    model = drawn.model(adata, n_factors=N_FACTORS, n_genes=N_GENES, um_per_px=REAL_UM_PER_PX, spot=spot)
    sp.tl.save(model, folder / "model.pt")


def _drawn(folder, device):
    def do():
        adata = ad.read_h5ad(folder / "spots.h5ad")
        section = sp.io.section(adata, image=str(folder / "image.tif"), image_scale=1.0)
        sp.tl.predict(sp.tl.load(folder / "model.pt"), section, store=folder / "out.zarr", device=device)

    return _watched(do, folder / "out.zarr")


def _real(data, folder, device, fit):
    given = {"image": str(data / IMAGE), "store": folder / "out.zarr", "device": device}

    def do():
        adata = sp.io.read_visium(data)
        if fit:
            sp.tl.fit_projection(adata, um_per_px=2.0, max_epochs=2, **given)
        else:
            sp.tl.predict(sp.tl.load(folder / "model.pt"), adata, **given)

    return _watched(do, folder / "out.zarr")


def _watched(do, store):
    """Peak, and in words how long it took and how many tiles hold tissue."""
    times = []
    most = peak(lambda: times.append(seconds(lambda: quiet(do))))
    name = next(path.name for path in (store / "labels").iterdir() if path.is_dir())
    tissue = np.asarray(sp.get.raster(store, name)).astype(bool)
    tiles = plan_tiles(tissue.shape, size=drawn.TILE)
    held, every = len(on_tissue(tiles, tissue)), len(tiles)
    return {"mb": most, "tiles": held, "all_tiles": every,
            "said": f"{held} of {every} tiles hold tissue, {times[0]:.0f} s"}  # fmt: skip
