"""Held-out spots of real sections: a random fifth, or blocks of neighbours."""

import numpy as np
from benchmarks.fidelity.cases import Case
from benchmarks.fidelity.shared import hold_out, measured_at

from sphisto.io import read_visium, section
from sphisto.io.slides import make_slide
from sphisto.scoring import metrics

SHARE = 0.2
LEAST_SEEN = 0.03  # share of the training spots in which a gene is seen, if it is to be scored
HER2ST = {"image": "tissue_image_fullres.jpg", "um_per_px": 4.0}


def make(folder, name, kind, seed) -> Case:
    """Take spots out before anything else: choice of genes, factors and scaling see only the rest.

    The tissue mask is that of the whole section: it is found in the image, and spots have no part in it.
    """
    adata, options = read_visium(folder), {}
    if name.startswith("her2st"):
        options = HER2ST | {"image": str(folder / HER2ST["image"])}
    whole = make_slide(section(adata, image=options.get("image")), um_per_px=options.get("um_per_px"))
    spots = whole.spots
    held_out = hold_out(spots, kind, SHARE, np.random.default_rng(seed))
    seen = np.asarray((spots.values[~held_out] > 0).mean(axis=0)).ravel()
    genes = np.flatnonzero(seen > LEAST_SEEN)
    truth = spots.values[held_out][:, genes].toarray().astype(np.float64)
    ones = np.ones(len(truth))
    return Case(
        name, kind, seed,
        adata=adata[~held_out, genes].copy(),
        slide=measured_at(whole, ~held_out, genes),
        regions=whole.spot.footprint(whole.grid.shape, spots.centers[held_out], whole.grid.um_per_px),
        area=ones,
        tissue=ones,
        truth=truth,
        scored=np.arange(len(genes)),
        ceiling=metrics.noise_ceiling(truth, np.random.default_rng(seed)),
        options=options | {"tissue": whole.tissue},
    )  # fmt: skip
