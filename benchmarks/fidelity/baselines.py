"""Interpolation of the spots' counts, and regression on colour and stain: what anyone can do in a few lines."""

from __future__ import annotations

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import pearson
from benchmarks.fidelity.shared import spot_weights
from scipy import ndimage

from sphisto.scoring.metrics import log_normalised

WIDTHS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.2, 3.0)  # pitches
RIDGES = tuple(10.0**i for i in range(-2, 6))
LOCAL = (0.5, 1.0, 2.0)  # pitches: widths of the surroundings that stain is compared with
POWERS = (0.25, 0.5, 1.0)  # of the ratio: how much of the contrast of stain is one of RNA


def nearest(case):
    """At each pixel the nearest spot's counts."""
    return Prediction(case.in_counts(spot_weights(case.slide, case.regions, 0.0) @ case.counts[:, case.scored]))


def gaussian(case):
    """Gaussian-weighted averages of the spots around, of the width that scores best: an advantage of this baseline."""
    return best(
        case, (Prediction(case.in_counts(values), note=f"width {w:g} pitches") for w, values in _averages(case))
    )


def colour_ridge(case):
    """Ridge regression of counts, and of log-normalised values, on mean and spread of local colour.

    Colour of the region itself, and its mean and spread in surroundings of a spot's radius and of a pitch; the penalty
    is chosen by left-out spots.
    """
    from sklearn.linear_model import RidgeCV

    rgb = case.image.astype(np.float32)
    layers = [rgb]
    for width in (case.radius, case.slide.spots.pitch):
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


def stain_ratio(case):
    """Gaussian averages times stain over its local mean, or a power of it: widths and power are those that score best."""
    grey = case.image.astype(np.float32)
    stain = grey.mean(axis=0) if case.fluorescent else -np.log((grey + 1) / 256).mean(axis=0)
    tissue, pitch = np.asarray(case.slide.tissue, dtype=np.float32), case.slide.spots.pitch
    share, averages, ratios = np.maximum(case.pooled(tissue[None])[1], 1e-6), list(_averages(case)), {}
    for local in LOCAL:
        around, inside = (ndimage.gaussian_filter(r, local * pitch, truncate=3) for r in (stain * tissue, tissue))
        ratio = np.where(tissue > 0, stain / np.maximum(around / np.maximum(inside, 1e-6), 1e-6), 0)
        ratios |= {(local, power): case.pooled(ratio[None] ** power)[1] / share for power in POWERS}
    return best(
        case,
        (
            Prediction(case.in_counts(values * ratio), note=f"width {width:g}, surroundings {local:g}, power {power:g}")
            for width, values in averages
            for (local, power), ratio in ratios.items()
        ),
    )


def best(case, candidates):
    """The prediction that scores best on the truth itself."""
    return max(candidates, key=lambda predicted: np.nanmean(pearson(case, predicted, free=True)))


def standardised(spots, regions):
    """Both in standard deviations of the spots."""
    mean, spread = spots.mean(axis=0), spots.std(axis=0) + 1e-9
    return (spots - mean) / spread, (regions - mean) / spread


def _averages(case):
    """Each width, and the counts of the spots averaged with it over the regions."""
    counts = case.counts[:, case.scored]
    for width in WIDTHS:
        yield width, spot_weights(case.slide, case.regions, width * case.slide.spots.pitch) @ counts
