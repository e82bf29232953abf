"""Interpolation of the spots' counts, and regression on colour: what anyone can do in a few lines."""

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.scores import headline, pearson
from benchmarks.fidelity.shared import spot_weights
from scipy import ndimage

from sphisto.scoring.metrics import log_normalised

WIDTHS = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.2, 3.0)  # pitches
RIDGES = tuple(10.0**i for i in range(-2, 6))


def nearest(case):
    """At each pixel the nearest spot's counts."""
    return averaged(case, 0.0)


def gaussian(case):
    """Gaussian-weighted averages of the spots around, of the width that scores best: an advantage of this baseline."""
    return max((averaged(case, width) for width in WIDTHS), key=lambda p: headline(case, pearson(case, p)))


def averaged(case, width):
    """Gaussian-weighted averages of the spots around each pixel, of so many pitches."""
    weights = spot_weights(case.slide, case.regions, width * case.slide.spots.pitch)
    return Prediction(case.in_counts(weights @ case.counts[:, case.scored]), note=f"width {width:g} pitches")


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


def standardised(spots, regions):
    """Both in standard deviations of the spots."""
    mean, spread = spots.mean(axis=0), spots.std(axis=0) + 1e-9
    return (spots - mean) / spread, (regions - mean) / spread
