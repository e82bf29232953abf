"""The benchmarks lie outside the package: they are found from the repository's root."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def held_out_of(case, seed=0):
    """A case of a fifth of the spots of a toy section, all genes scored."""
    from benchmarks.fidelity.shared import hold_out, measured_at

    from sphisto.scoring import metrics

    whole, genes = case.slide, np.arange(case.adata.n_vars)
    out = hold_out(whole.spots, "random", 0.2, np.random.default_rng(seed))
    truth = whole.spots.values[out].toarray().astype(np.float64)
    return replace(
        case,
        kind="random",
        adata=case.adata[~out].copy(),
        slide=measured_at(whole, ~out, genes),
        regions=whole.spot.footprint(whole.grid.shape, whole.spots.centers[out], whole.grid.um_per_px),
        area=np.ones(len(truth)),
        tissue=np.ones(len(truth)),
        truth=truth,
        scored=genes,
        ceiling=metrics.noise_ceiling(truth, np.random.default_rng(seed)),
        options={"tissue": whole.tissue},
    )


@pytest.fixture(scope="session")
def toy_case():
    """Some 40 spots on 400 x 400 px, truth in bins of 8 um."""
    from benchmarks.fidelity import finer_truth

    return finer_truth.toy(None, "toy", "finer", 0, side=400)


@pytest.fixture(scope="session")
def spots_case(toy_case):
    """The same section, a fifth of its spots held out."""
    return held_out_of(toy_case)


@pytest.fixture(scope="session")
def dense_case():
    """A fifth of some 370 spots of few counts held out."""
    from benchmarks.fidelity import finer_truth

    from sphisto.datasets import toy
    from sphisto.io import section
    from sphisto.io.slides import make_slide

    adata = toy(700, 700, pitch_um=60, mean_counts=3, rng=1)
    case = finer_truth.toy(None, "toy", "finer", 1, side=400)
    return held_out_of(replace(case, adata=adata, slide=make_slide(section(adata))))
