"""Other ways to make the prior's maps: each function changes one thing, by more than a constant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction
from benchmarks.fidelity.methods.ablations import changed
from benchmarks.fidelity.methods.looks import stain
from benchmarks.fidelity.methods.networks import kriged, prior, scored_of
from scipy import ndimage, sparse
from scipy.spatial import KDTree

from sphisto.core.tiles import Window, plan_tiles, read_window

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case, Floats
    from numpy.typing import NDArray

    from sphisto.core.factors import Factors
    from sphisto.core.footprint import Footprint
    from sphisto.model.neighbours import Kriged, Prior

SURROUNDINGS = 1.0  # pitches: width of what a place's stain is compared with
MOST_POWER = 2.0
UNEVEN = 0.1  # variance of the picture, against 1 over the tissue, below which it shows the guided filter no edge
SPREAD = 1 / 3  # pitches: width of a spot's correction, which must not reach the next spot
ROUNDS = 12  # of corrections; each leaves less than a fifth of the error
MOST_CORRECTED = 3.0  # natural logarithm, as the network's largest
LEAST = 1e-3  # of the mean density; nothing can be multiplied to become something


def frobenius(case: Case) -> Prediction:
    """Factors by squared error instead of Poisson likelihood; loadings are still shrunken by the likelihood."""
    with changed({"sphisto.model.factorize:_divergence": lambda _: {"solver": "mu", "beta_loss": "frobenius"}}):
        return prior(case)


def content_by_stain(case: Case, *, power: float | None = None) -> Prediction:
    """The prior's maps times a power of the local stain over its mean around; ``None``: as left-out totals tell."""
    told, factors = kriged(case)
    ratio = stain_over_surroundings(case)
    if power is None:
        power = fitted_power(case, told, factors, ratio)
    density = pooled(case, told, spots_of_regions(case), np.power(ratio, power))
    return Prediction(counts(case, density, factors), note=f"power {power:.2f}")


def guided(case: Case) -> Prediction:
    """The prior's maps smoothed within edges of the picture by a guided filter (He et al. 2013) of a pitch's width."""
    told, factors = kriged(case)
    slopes, levels = guided_filter(drawn(told, case), *guide(case), case.pitch)
    regions = spots_of_regions(case)
    density = pooled(case, slopes, regions, guide(case)[0]) + pooled(case, levels, regions)
    n_plain = factors.n_factors - factors.n_signed
    density[:, :n_plain] = np.maximum(density[:, :n_plain], 0)  # a straight line in stain may fall below nothing
    return Prediction(counts(case, density, factors))


def conserved(case: Case) -> Prediction:
    """The prior's maps corrected around each spot, so that their means over spots are the shrunken measured values."""
    told, factors = kriged(case)
    corrected = conserving(case, told, shrunken(case, told, factors))
    return Prediction(counts(case, pooled(case, corrected, spots_of_regions(case)), factors))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Maps of a whole slide at the points of a prior, and of one point beyond on each side: (K, h + 2, w + 2)."""

    maps: NDArray[np.float32]
    stride: int
    mean: Floats

    @property
    def window(self) -> Window:
        """What the maps cover, in px."""
        height, width = (self.stride * (side - 2) for side in self.maps.shape[1:])
        return Window(0, 0, height, width).grown(self.stride)

    def prior(self, window: Window) -> NDArray[np.float32]:
        """As the prior that it was drawn from."""
        y, x = (begin // self.stride + 1 for begin in (window.y0, window.x0))
        height, width = (side // self.stride for side in window.shape)
        return self.maps[:, y : y + height, x : x + width]


def drawn(told: Prior, case: Case) -> Drawn:
    """Draw a prior's maps once for the whole slide."""
    height, width = (-(-side // told.stride) * told.stride for side in case.slide.grid.shape)
    return Drawn(told.prior(Window(0, 0, height, width).grown(told.stride)), told.stride, told.mean)


def spots_of_regions(case: Case) -> Footprint:
    """Footprints of the regions."""
    return case.regions.spot.footprint(case.slide.grid.shape, case.regions.centers, case.slide.grid.um_per_px)


def pooled(case: Case, told: Prior | Drawn, spots: Footprint, weight: Any = 1.0) -> Floats:
    """(m, K) means of a prior over spots or regions, its pixels multiplied by a (y, x) weight."""
    from sphisto.tl._held_out import pool_prior

    # the mask is what pixels are multiplied by
    slide: Any = replace(case.slide, tissue=np.asarray(case.slide.tissue) * weight)
    return np.nan_to_num(pool_prior(told, slide, spots, plan_tiles(slide.grid.shape, size=256, multiple=told.stride)))


def counts(case: Case, density: Floats, factors: Factors) -> Floats:
    """Counts of the scored genes in the regions from (m, K) densities."""
    from sphisto.core.factors import rates

    area = case.regions.spot.area_px(1.0) / case.slide.spot.area_px(1.0)
    return rates(density, scored_of(case, factors).loadings.astype(np.float64), factors.n_signed) * area


def stain_over_surroundings(case: Case) -> Floats:
    """(y, x) stain over its mean around, in tissue; 0 elsewhere."""
    dye, tissue = stain(case), np.asarray(case.slide.tissue, dtype=np.float32)
    width = SURROUNDINGS * case.pitch
    around, inside = (ndimage.gaussian_filter(r, width, truncate=3) for r in (dye * tissue, tissue))
    return tissue * dye / np.maximum(around / np.maximum(inside, 1e-6), 1e-6)


def fitted_power(case: Case, told: Prior, factors: Factors, ratio: Floats) -> float:
    """Slope of spots' totals over what the others say of them, on their stain over that around; both as logarithms."""
    rows, density, _ = told.left_out(factors.of(list(factors.genes[:1])))  # no variance of genes is wanted
    spots = case.slide.footprint().select(rows)
    share = np.maximum(spots.mean(case.slide.tissue)[:, 0], LEAST)
    expected = density[:, : factors.n_factors - factors.n_signed].sum(axis=1) * share
    y = np.log((case.counts[rows].sum(axis=1) + 0.5) / (expected + 0.5))
    x = np.log(np.maximum(spots.mean(ratio)[:, 0] / share, LEAST))
    x, y = (v - np.average(v, weights=expected) for v in (x, y))
    return float(np.clip((expected * x * y).sum() / max((expected * x * x).sum(), 1e-12), 0, MOST_POWER))


def guide(case: Case) -> tuple[Floats, Floats]:
    """(y, x) stain in standard deviations over the tissue, and the tissue."""
    dye, tissue = stain(case).astype(np.float64), np.asarray(case.slide.tissue)
    return (dye - dye[tissue].mean()) / max(dye[tissue].std(), 1e-9), tissue.astype(np.float64)


def guided_filter(told: Drawn, picture: Floats, tissue: Floats, width: float) -> tuple[Drawn, Drawn]:
    """Slopes and levels of maps that are locally straight lines in the picture: map = slope x picture + level."""
    fine, inside = (blocks(raster, told.window, told.stride) for raster in (picture, tissue))
    size = max(3, round(width / told.stride))
    known = np.maximum(ndimage.uniform_filter(inside, size), LEAST)

    def smooth(raster: Floats) -> Floats:
        return ndimage.uniform_filter(raster * inside, size) / known

    mean = smooth(fine)
    variance = smooth(fine**2) - mean**2 + UNEVEN
    slopes, levels = np.empty_like(told.maps), np.empty_like(told.maps)
    for k, plane in enumerate(told.maps.astype(np.float64)):
        slope = (smooth(fine * plane) - mean * smooth(plane)) / variance
        slopes[k], levels[k] = smooth(slope), smooth(smooth(plane) - slope * mean)
    return replace(told, maps=slopes), replace(told, maps=levels)


def blocks(raster: Floats, window: Window, stride: int) -> Floats:
    """Means over the blocks of a window, which may reach beyond the raster."""
    height, width = (side // stride for side in window.shape)
    return read_window(raster, window).reshape(height, stride, width, stride).mean(axis=(1, 3))


def shrunken(case: Case, told: Kriged, factors: Factors) -> Floats:
    """(n, K') densities of the known spots: what was measured, drawn to what the others say as far as it is noise."""
    from sphisto.model.fit import evidence_of
    from sphisto.model.neighbours import Kriged, _composed

    if not isinstance(told, Kriged):
        msg = f"A prior of {len(case.centers)} spots is not kriged: what is noise is not known."
        raise TypeError(msg)
    plain = slice(factors.n_factors - factors.n_signed)
    found = evidence_of(case.slide, factors, told.known)
    measured, first, second = (d[told.known, plain] for d in (found.density, *(found.half_densities or ())))
    others = _composed(told.field.left_out(), told.gain_hidden, told.mean, told.level)[:, plain]
    noise = np.square(first - second).mean(axis=0) / 4  # each half has twice the noise
    spread = np.maximum(np.square(others - measured).mean(axis=0) - noise, 0)
    share = spread / np.maximum(spread + noise, 1e-12)
    return np.maximum(others + share * (measured - others), LEAST * measured.mean(axis=0))


def conserving(case: Case, told: Kriged, wanted: Floats) -> Drawn:
    """Multiply the maps around each known spot until their means over it are the wanted (n, K') densities."""
    from sphisto.model.drawing import block_middles

    n_plain = wanted.shape[1]
    before = drawn(told, case)
    spots = case.slide.footprint().select(told.known)
    share = spots.mean(case.slide.tissue)
    points, width = block_middles(before.window, before.stride), SPREAD * case.pitch
    pairs = KDTree(points).sparse_distance_matrix(KDTree(told.field.centers), 3 * width, output_type="ndarray")
    bell = np.exp(-np.square(pairs["v"] / width) / 2)
    spread = sparse.csr_array((bell, (pairs["i"], pairs["j"])), shape=(len(points), len(spots)))
    correction, after = np.zeros_like(wanted), before
    for _ in range(ROUNDS):
        found = pooled(case, after, spots)[:, :n_plain]
        error = np.log(np.maximum(wanted * share, 1e-12) / np.maximum(found, 1e-12))
        correction = np.clip(correction + np.where(share > LEAST, error, 0), -MOST_CORRECTED, MOST_CORRECTED)
        times = np.exp(spread @ correction).T.reshape(-1, *before.maps.shape[1:])
        after = replace(before, maps=np.concatenate([before.maps[:n_plain] * times, before.maps[n_plain:]]))
    return after
