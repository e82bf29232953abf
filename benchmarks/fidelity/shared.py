"""What benchmarks share with ``sp.tl.evaluate``: how spots are held out, and how spots are averaged over regions."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from sphisto.core.splits import random_spots, spot_blocks
from sphisto.core.spot import median_pitch
from sphisto.field.gaussian import gaussian_weights

_AT_ONCE = 200_000  # pixels looked up at once; each brings the weights of some 24 spots


def hold_out(spots, kind, share, rng):
    """(n,) True for the spots to hold out: single ones, or blocks of 5 x 5."""
    if kind == "random":
        return random_spots(len(spots.centers), share, rng)
    return spot_blocks(spots.centers, spots.pitch, share, rng)


def measured_at(slide, kept, genes):
    """Keep some spots and genes of a slide; the tissue mask is that of the image and stays."""
    spots = slide.spots
    centers = spots.centers[kept]
    values = sparse.csr_array(spots.values[kept][:, genes])
    names = tuple(np.asarray(spots.genes)[genes])
    return replace(
        slide, measured=replace(spots, centers=centers, values=values, genes=names, pitch=median_pitch(centers))
    )


def spot_weights(slide, regions, width):
    """(m, n) weights of the spots in each region, for Gaussians of ``width`` px; 0 is the nearest spot.

    Averaged over the region's pixels; where it is far smaller than a spot, its centre stands for it.
    """
    if np.median(regions.area) < slide.spot_area / 4:
        return gaussian_weights(regions.centroids(), slide.spots.centers, width)
    weights = []
    for rows in np.array_split(np.arange(len(regions)), -(-len(regions.y) // _AT_ONCE)):
        part = regions.select(rows)
        points = np.stack([part.y, part.x], axis=1) + 0.5
        share = part.weight / np.repeat(part.covered, np.diff(part.indptr))
        average = sparse.csr_array((share, np.arange(len(share)), part.indptr), shape=(len(rows), len(share)))
        weights.append(average @ gaussian_weights(points, slide.spots.centers, width))
    return sparse.csr_array(sparse.vstack(weights))
