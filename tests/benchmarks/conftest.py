"""The benchmarks lie outside the package: they are found from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@pytest.fixture(scope="session")
def toy_case() -> Case:
    """Some 40 spots on 400 x 400 px, truth in bins of 8 um."""
    from benchmarks.fidelity.sets import toy

    return toy.make(None, "finer", 0, side=400)


@pytest.fixture(scope="session")
def spots_case(toy_case: Case) -> Case:
    """The same section, a fifth of its spots held out."""
    import numpy as np
    from benchmarks.fidelity.cases import Case, Regions, training

    from sphisto.core.splits import random_spots
    from sphisto.scoring import metrics

    whole, genes = toy_case.slide, np.arange(toy_case.adata.n_vars)
    held_out = random_spots(len(toy_case.centers), 0.2, np.random.default_rng(0))
    truth = whole.spots.values[held_out].toarray().astype(np.float64)
    return Case(
        name="toy",
        split="random",
        seed=0,
        adata=toy_case.adata[~held_out].copy(),
        slide=training(whole, ~held_out, genes),
        regions=Regions(whole.spot, whole.spots.centers[held_out], np.ones(int(held_out.sum()))),
        truth=truth,
        scored=genes,
        ceiling=metrics.noise_ceiling(truth, np.random.default_rng(0)),
        options={"tissue": whole.tissue},
    )
