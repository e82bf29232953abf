"""Held-out spots of real sections: a random fifth, or blocks of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import LEAST_SEEN, Case, Regions, training

import sphisto as sp
from sphisto.core.splits import random_spots, spot_blocks
from sphisto.io.slides import make_slide
from sphisto.io.spaceranger import read_visium
from sphisto.scoring import metrics

if TYPE_CHECKING:
    from pathlib import Path

SHARE = 0.2
HER2ST: dict[str, Any] = {"image": "tissue_image_fullres.jpg", "um_per_px": 4.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "mouse_brain_coronal": {},
    "her2st_C2": HER2ST,
    "her2st_C4": HER2ST,
    "mob_st_1": {},
    "breast_visium_xenium": {},
}


def make(folder: Path, split: str, seed: int) -> Case:
    """Take spots out before anything else: choice of genes, factors and scaling see only the rest.

    The tissue mask is that of the whole section: an array says of each spot whether tissue lies on it, and it says so
    from the picture.
    """
    adata = read_visium(folder)
    options = dict(OPTIONS[folder.name])
    if "image" in options:
        options["image"] = str(folder / options["image"])
    um_per_px = options.get("um_per_px")
    whole = make_slide(sp.io.section(adata, image=options.get("image")), um_per_px=um_per_px)
    spots, rng = whole.spots, np.random.default_rng(seed)
    held_out = (
        random_spots(adata.n_obs, SHARE, rng)
        if split == "random"
        else spot_blocks(spots.centers, spots.pitch, SHARE, rng)
    )
    seen = np.asarray((spots.values[~held_out] > 0).mean(axis=0)).ravel()
    genes = np.flatnonzero(seen > LEAST_SEEN)
    truth = spots.values[held_out][:, genes].toarray().astype(np.float64)
    return Case(
        name=folder.name,
        split=split,
        seed=seed,
        adata=adata[~held_out, genes].copy(),
        slide=training(whole, ~held_out, genes),
        regions=Regions(whole.spot, spots.centers[held_out], np.ones(int(held_out.sum()))),
        truth=truth,
        scored=np.arange(len(genes)),
        ceiling=metrics.noise_ceiling(truth, np.random.default_rng(seed)),
        options=options | {"tissue": whole.tissue},
    )
