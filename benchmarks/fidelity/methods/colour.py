"""Methods that look at colour only: inverse distance in place and colour, ridge regression, stain as RNA content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import Prediction, picture
from benchmarks.fidelity.methods.interpolations import WIDTHS, averaging, best
from benchmarks.fidelity.methods.looks import stain, standardised
from scipy import ndimage
from scipy.spatial import cKDTree

from sphisto.scoring.metrics import log_normalised

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats

NEIGHBOURS = 10  # TESLA's defaults, with the second power
POWER = 2
RIDGES = tuple(10.0**i for i in range(-2, 6))
FACTORS = 24
LOCAL = (0.5, 1.0, 2.0)  # pitches: widths of the surroundings that stain is compared with
POWERS = (0.25, 0.5, 1.0)  # of the ratio: how much of the contrast of stain is one of RNA


def colour_distance(case: Case) -> Prediction:
    """Inverse distance in (x, y, colour), as TESLA does (Hu et al. 2023, Cell Systems).

    Colour is one number, the channels weighted by their variance over the spots and stretched to the spread of the
    coordinates; each place is an average of its ten nearest spots, by inverse squared distance.
    """
    at_spots, at_regions = case.pooled(picture(case).astype(np.float32))
    share = at_spots.var(axis=0) / max(at_spots.var(axis=0).sum(), 1e-9)
    z_spots, z_regions = standardised((at_spots @ share)[:, None], (at_regions @ share)[:, None])
    stretch = case.centers.std(axis=0).max()
    tree = cKDTree(np.column_stack([case.centers, z_spots * stretch]))
    points = np.column_stack([case.regions.centers, z_regions * stretch])
    distance, spot = tree.query(points, k=min(NEIGHBOURS, len(z_spots)))
    weight = ((distance + 0.1) / (distance + 0.1).min(axis=1, keepdims=True)) ** -POWER
    weight /= weight.sum(axis=1, keepdims=True)
    counts, values = case.counts[:, case.scored], np.zeros((len(points), len(case.scored)))
    for k in range(weight.shape[1]):
        values += weight[:, k : k + 1] * counts[spot[:, k]]
    return Prediction(case.in_counts(values))


def colour_ridge(case: Case) -> Prediction:
    """Ridge regression of counts, and of log-normalised values, on mean and spread of local colour.

    Colour of the region itself, and its mean and spread in surroundings of a spot's radius and of a pitch; the penalty
    is chosen by left-out spots.
    """
    from sklearn.linear_model import RidgeCV

    rgb = picture(case).astype(np.float32)
    layers = [rgb]
    for width in (case.radius, case.pitch):
        mean = np.stack([ndimage.gaussian_filter(c, width, truncate=3) for c in rgb])
        square = np.stack([ndimage.gaussian_filter(c**2, width, truncate=3) for c in rgb])
        layers += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
    spots, regions = standardised(*case.pooled(np.concatenate(layers)))
    counts = case.counts
    rates, logs = (
        RidgeCV(RIDGES).fit(spots, target).predict(regions)
        for target in (counts[:, case.scored], log_normalised(counts)[:, case.scored])
    )
    least = 0.01 * counts[:, case.scored].mean(axis=0)  # a straight line may fall below nothing
    return Prediction(case.in_counts(np.maximum(rates, least)), logs)


def stain_ratio(case: Case) -> Prediction:
    """Interpolated factors times stain over its local mean: no training at all.

    A low-rank Poisson model of the spots, interpolated; where a place holds twice the stain of its surroundings it is
    given twice the RNA, or a power of it. Widths and power are those that score best: an advantage of this baseline.
    """
    counts = low_rank(case)
    dye, tissue = stain(case), np.asarray(case.slide.tissue, dtype=np.float32)
    weights = {width: averaging(case, width) for width in WIDTHS}
    share = np.maximum(case.pooled(tissue[None])[1], 1e-6)
    candidates = []
    for local in LOCAL:
        around, inside = (ndimage.gaussian_filter(r, local * case.pitch, truncate=3) for r in (dye * tissue, tissue))
        ratio = np.where(tissue > 0, dye / np.maximum(around / np.maximum(inside, 1e-6), 1e-6), 0)
        for power in POWERS:
            contrast = case.pooled(ratio[None] ** power)[1] / share
            candidates += [(local, power, width, contrast) for width in WIDTHS]
    return best(
        case,
        (
            Prediction(
                case.in_counts((weights[width] @ counts) * contrast),
                note=f"width {width:g}, surroundings {local:g} pitches, power {power:g}",
            )
            for local, power, width, contrast in candidates
        ),
    )


def low_rank(case: Case) -> Floats:
    """(n, S) counts of the training spots under a non-negative factor model of Poisson likelihood."""
    import warnings

    from sklearn.decomposition import NMF

    counts = case.counts[:, case.scored]
    k = min(FACTORS, *counts.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Maximum number of iterations")
        model = NMF(k, init="nndsvda", solver="mu", beta_loss="kullback-leibler", max_iter=60, random_state=case.seed)
        factors = model.fit_transform(counts)
    return np.asarray(factors @ model.components_)
