"""A section drawn by rule, whose rate is known at every pixel; scored in bins of 8 um."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import Case, bins

import sphisto as sp
from sphisto.datasets import toy, toy_truth
from sphisto.io.slides import make_slide

if TYPE_CHECKING:
    from pathlib import Path

SIDE_PX = 1200  # of 2 um: some 400 spots
BIN_PX = 4
SCORED = tuple(f"{kind}_{x}" for kind in ("class0", "class2", "nuclei", "total", "gradient") for x in "ab")
"""Two of each pattern: the median over all genes would be one of the easiest, of classes far larger than a spot."""


def make(_: Path | None, split: str, seed: int, *, side: int = SIDE_PX, name: str = "toy", **drawn: float) -> Case:
    """As :func:`sphisto.datasets.toy` draws it; two genes of each pattern are scored."""
    adata = toy(side, side, rng=seed, **drawn)
    slide = make_slide(sp.io.section(adata))
    regions = bins(slide, BIN_PX)
    rates = toy_truth(adata, SCORED).to_numpy()
    rows, columns = regions.shape or (0, 0)
    blocks = rates[:, : rows * BIN_PX, : columns * BIN_PX].reshape(len(rates), rows, BIN_PX, columns, BIN_PX)
    means = blocks.mean(axis=(2, 4), dtype=np.float64).reshape(len(rates), -1).T
    return Case(
        name=name,
        split=split,
        seed=seed,
        adata=adata,
        slide=slide,
        regions=regions,
        truth=means[regions.cells] * BIN_PX**2 / slide.spot_area,
        scored=adata.var_names.get_indexer(list(SCORED)),
        ceiling=np.ones(len(SCORED)),
    )
