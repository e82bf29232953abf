"""Predictions without a network or a covariance, which every other is compared with."""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.field.gaussian import choose_width, gaussian_weights
from sphisto.scoring.at_spots import Prediction
from sphisto.slide.slide import Slide


def nearest(train: Slide, spots: LazyFootprint) -> Prediction:
    """Give each pixel the values of the nearest training spot, and average over other spots."""
    started = time.perf_counter()
    return Prediction(interpolated(train, spots, 0.0), time.perf_counter() - started)


def gaussian(train: Slide, spots: LazyFootprint, *, choosing: int = 4_000) -> tuple[Prediction, float]:
    """Give each pixel the Gaussian-weighted average of the training spots around, and average over other spots.

    Also returns the standard deviation of the weights in px, the one that predicts left-out training spots best; it is
    chosen on the ``choosing`` spots in the middle of the section.
    """
    started, known = time.perf_counter(), train.spots
    from_middle = np.square(known.centers - np.median(known.centers, axis=0)).sum(axis=1)
    piece = np.sort(np.argsort(from_middle, kind="stable")[:choosing])
    width = choose_width(known.centers[piece], known.values[piece], known.pitch)
    return Prediction(interpolated(train, spots, width), time.perf_counter() - started), width


def interpolated(
    train: Slide, spots: LazyFootprint, width: float, *, pixels_at_once: int = 200_000
) -> NDArray[np.float32]:
    """(m, G) means over spots of Gaussian-weighted averages at pixels; of a width of 0, of the nearest spot's values.

    Weights are averaged instead of maps, which would be too many for all genes.
    """
    n_chunks = min(max(1, math.ceil(spots.area.sum() / pixels_at_once)), len(spots))
    out = np.empty((len(spots), train.spots.values.shape[1]), dtype=np.float32)
    for rows in np.array_split(np.arange(len(spots)), n_chunks):
        part = spots.select(rows).drawn()
        points = np.stack([part.y, part.x], axis=1).astype(np.float64) + 0.5
        share = part.weight / np.repeat(part.covered, np.diff(part.indptr))
        average = sparse.csr_array((share, np.arange(len(share)), part.indptr), shape=(len(rows), len(share)))
        weights = average @ gaussian_weights(points, train.spots.centers, width)
        out[rows] = (weights @ train.spots.values).toarray()
    return out
