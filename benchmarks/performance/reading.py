"""Seconds to read any gene, and a window of one, out of a store of many factors and genes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.performance.apart import Row, apart, middle, seconds
from benchmarks.performance.slides import UM_PER_PX, drawn_model, pattern, quiet, section

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.performance.apart import Setting

SIDE, WINDOW = 2000, 512  # px
N_FACTORS, N_GENES = 48, 20_000
TIMES = 50


def measure(setting: Setting) -> list[Row]:
    """Whole genes and windows, with the files in memory and not."""
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "many.zarr"
        apart(prepare, store, SIDE, N_FACTORS, N_GENES)
        found = apart(times, store, WINDOW, TIMES)
    behind = f"median of {TIMES} random genes, {N_FACTORS} factors, {N_GENES:,} genes"
    whole, window = f"any gene of {SIDE:,}² px", f"any {WINDOW}² px of any gene"
    return [
        Row(whole, middle(found["gene"]), "s", f"{behind}; files in the system's memory", most=0.3),
        Row(f"{whole}, from disk", middle(found["gene, from disk"]), "s", "files forgotten by the system before each"),
        Row(window, middle(found["window"]), "s", "files in the system's memory", most=0.06),
        Row(f"{window}, on one chunk", middle(found["chunk"]), "s", "a window that begins where chunks do"),
        Row(f"{window}, from disk", middle(found["window, from disk"]), "s", "files forgotten before each"),
    ]


def prepare(store: Path, side: int, n_factors: int, n_genes: int) -> None:
    """Write a store by predicting a picture that is tissue everywhere, of a model that was never fitted."""
    import sphisto as sp

    model = drawn_model(section(1, n_genes=n_genes), n_factors=n_factors, n_genes=1)
    times = -(-side // len(pattern()))
    image = np.tile(pattern(), (times, times, 1))[:side, :side]
    tissue = np.ones((side, side), dtype=bool)
    slide = sp.io.section(image, image_um_per_px=UM_PER_PX, tissue=tissue)
    quiet(lambda: sp.tl.predict(model, slide, store=store, device="cpu"))


def times(store: Path, window: int, n: int) -> dict[str, list[float]]:
    """Seconds of ``n`` readings of each kind, of random genes at random places; from disk of a fifth as many."""
    import sphisto as sp
    from sphisto.core.tiles import TILE
    from sphisto.io.store import read as stores

    rng, genes = np.random.default_rng(0), stores.factors(store, "projection").genes
    sides = np.array(stores.levels(store, "projection_factors")[0])

    def read(place: Callable[[], Any], *, forgotten: bool = False) -> float:
        gene, corner = genes[rng.integers(len(genes))], place()
        box = None if corner is None else (*corner[::-1], *(corner[::-1] + window))
        if forgotten:
            forget(store)
        return seconds(lambda: sp.get.gene_raster(store, gene, bbox=box))

    def anywhere() -> Any:
        return rng.integers(sides - window + 1)

    def on_chunk() -> Any:
        return rng.integers((sides - window) // TILE + 1) * TILE

    read(lambda: None)  # loads what is loaded once
    return {
        "gene": [read(lambda: None) for _ in range(n)],
        "gene, from disk": [read(lambda: None, forgotten=True) for _ in range(-(-n // 5))],
        "window": [read(anywhere) for _ in range(n)],
        "chunk": [read(on_chunk) for _ in range(n)],
        "window, from disk": [read(anywhere, forgotten=True) for _ in range(-(-n // 5))],
    }


def forget(folder: Path) -> None:
    """Let the system drop what it keeps of files in memory, where it can be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what is not yet written cannot be dropped
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
