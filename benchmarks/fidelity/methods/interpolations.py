"""Interpolation of the spots' counts, without a look at the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import headline

from sphisto.field.gaussian import gaussian_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.fidelity.cases import Case
    from scipy import sparse

WIDTHS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.2, 3.0)  # pitches


def nearest(case: Case) -> Prediction:
    """At each place the nearest spot's counts, averaged over the region."""
    return Prediction(case.in_counts(averaging(case, 0.0) @ case.counts[:, case.scored]))


def gaussian(case: Case) -> Prediction:
    """Gaussian-weighted average of the spots around, of the width that scores best: an advantage of this baseline."""
    counts = case.counts[:, case.scored]
    return best(
        case,
        (
            Prediction(case.in_counts(averaging(case, width) @ counts), note=f"width {width:g} pitches")
            for width in WIDTHS
        ),
    )


def averaging(case: Case, width: float) -> sparse.csr_array:
    """(m, n) weights of the spots in each region, for Gaussians of ``width`` pitches; 0 is the nearest spot."""
    from scipy import sparse

    points = case.points()
    m, k = points.shape[:2]
    weights = gaussian_weights(points.reshape(-1, 2), case.centers, width * case.pitch)
    mean = sparse.csr_array((np.full(m * k, 1 / k), np.arange(m * k), np.arange(0, m * k + 1, k)), (m, m * k))
    return sparse.csr_array(mean @ weights)


def best(case: Case, candidates: Iterable[Prediction]) -> Prediction:
    """The prediction that scores best on the truth itself."""
    return max(candidates, key=lambda predicted: headline(case, predicted))
