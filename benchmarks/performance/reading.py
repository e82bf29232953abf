"""Seconds to read any gene, and a window of one, out of a store of many factors and genes."""

import os
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from benchmarks.performance import drawn
from benchmarks.performance.measuring import apart, row, seconds

import sphisto as sp

SIDE, WINDOW = 2000, 512  # px
N_FACTORS, N_GENES = 48, 20_000
TIMES = 50


def measure(_data, _device, _whole):
    """Whole genes and windows, with the files in memory and not."""
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "many.zarr"
        apart(prepare, store, SIDE, N_FACTORS, N_GENES)
        found = {what: median(times) for what, times in apart(times_of, store, WINDOW, TIMES).items()}
    behind = f"median of {TIMES} random genes, {N_FACTORS} factors, {N_GENES:,} genes"
    whole, window, cold = f"any gene of {SIDE:,}² px", f"any {WINDOW}² px of any gene", "files forgotten before each"
    return [
        row(whole, found["gene"], "s", f"{behind}; files in the system's memory", most=0.3),
        row(f"{whole}, from disk", found["gene, from disk"], "s", cold),
        row(window, found["window"], "s", "files in the system's memory", most=0.06),
        row(f"{window}, on one chunk", found["chunk"], "s", "a window that begins where chunks do"),
        row(f"{window}, from disk", found["window, from disk"], "s", cold),
    ]


def prepare(store, side, n_factors, n_genes) -> None:
    """Write a store by predicting an image that is tissue everywhere, of a model that was never fitted."""
    model = drawn.model(drawn.spots(1, n_genes=n_genes), n_factors=n_factors, n_genes=1)
    times = -(-side // len(drawn.pattern()))
    image = np.tile(drawn.pattern(), (times, times, 1))[:side, :side]
    slide = sp.io.section(image, image_um_per_px=drawn.UM_PER_PX, tissue=np.ones((side, side), dtype=bool))
    sp.tl.predict(model, slide, store=store, device="cpu")


def times_of(store, window, n):
    """Seconds of ``n`` readings of each kind, of random genes at random places; from disk of a fifth as many."""
    from sphisto.core.tiles import TILE
    from sphisto.io.store import read as stores

    rng, genes = np.random.default_rng(0), stores.factors(store, "projection").genes
    sides = np.array(stores.raster(store, "projection_factors").shapes[0])

    def read(kind="", forgotten=False):
        step = TILE if kind == "chunk" else 1
        corner = rng.integers((sides - window) // step + 1) * step
        box = (*corner[::-1], *(corner[::-1] + window)) if kind else None
        gene = genes[rng.integers(len(genes))]
        if forgotten:
            forget(store)
        return seconds(lambda: sp.get.gene_raster(store, gene, bbox=box))

    read()  # loads what is loaded once
    return {
        "gene": [read() for _ in range(n)],
        "gene, from disk": [read(forgotten=True) for _ in range(-(-n // 5))],
        "window": [read("window") for _ in range(n)],
        "chunk": [read("chunk") for _ in range(n)],
        "window, from disk": [read("window", forgotten=True) for _ in range(-(-n // 5))],
    }


def forget(folder) -> None:
    """Let the system drop what it keeps of files in memory, where it can be asked to."""
    for path in folder.rglob("*") if hasattr(os, "posix_fadvise") else ():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not yet written cannot be dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
