"""Sections of bins (Visium HD): seconds and memory of factors, prior and maps; what the prior adds to the bins."""

import time
from dataclasses import replace

import numpy as np
from benchmarks.performance.measuring import apart, peak, row
from scipy import ndimage, sparse

import sphisto as sp
from sphisto.core.grid import Grid
from sphisto.core.lazy_footprint import LazyFootprint
from sphisto.core.splits import spot_blocks
from sphisto.core.spot import Spot
from sphisto.core.tiles import nested, plan_tiles
from sphisto.features.texture import Texture
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.genes.observations import informative
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.predict.tiles import SharedPrior
from sphisto.scoring.at_spots import pool_posterior
from sphisto.slide.slide import Measured, Slide

SIDE, UM_PER_PX = 2_048, 3.2  # px, the grid of both
SIZES = (16.0, 8.0)  # um: some 167,000 and 671,000 bins
SEED = 1  # of a section with a piece of all kinds of tissue and hardly any glass
PIECE, TISSUE = 768, (slice(864, 864 + 768), slice(704, 704 + 768))  # px of the section
SCORED = (512, 8.0)  # px and um of the section that is scored
WIDTHS = (0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)  # bins: widths of Gaussian weights
SHARE, KEPT = 0.2, 0.7  # of bins held out; of counts that are learned from


def measure(_data, _device, _whole):
    """Cost at two bin sizes on one grid; scores of held-out blocks of bins and of counts that were kept back."""
    small, large = (apart(mapped, SIDE, um) for um in SIZES)
    rows = []
    for um, found in zip(SIZES, (small, large), strict=True):
        what = f"{found['n']:,} bins of {um:g} um: factors, prior and {SIDE}² px"
        rows += [
            row(f"{what}: seconds", found["seconds"], "s", found["said"]),
            row(f"{what}: memory", found["mb"], "MB"),
            row(f"{what}: counts over the true ones", found["level"], "", least=0.97, most=1.03),
            row(f"{what}: Pearson with the true rates of the genes that vary", found["pearson"], ""),
        ]
    rows[0]["most"] = 600
    rows.append(row("seconds, smaller bins over larger", large["seconds"] / small["seconds"], "", most=5))
    rows.append(row("memory, smaller bins over larger", large["mb"] / small["mb"], "", most=1.3))
    for what, found in apart(scored, *SCORED).items():
        best = max(value for name, value in found.items() if name != "prior")
        behind = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        rows.append(row(f"{what}: Pearson of the prior above all others", found["prior"] - best, "", behind, least=0))
    return rows


def drawn(side, bin_um):
    """Slide of bins, nearly all on tissue: a piece of a drawn section in mirror images; and the truth, (G, side, side) rates."""
    section = sp.datasets.toy(SIDE, SIDE, um_per_px=UM_PER_PX, rng=SEED)
    at = PIECE - 1 - abs(np.arange(side) % (2 * PIECE) - PIECE + 0.5).astype(int)  # there and back
    image = np.asarray(sp.datasets.toy_image(section)[TISSUE])[np.ix_(at, at)]
    spot, grid = Spot(bin_um, "square"), Grid(side, side, UM_PER_PX)
    of_spots = section.uns["toy"]["spot_um"]
    piece = np.asarray(sp.datasets.toy_truth(section)[:, *TISSUE]) * np.float32(
        spot.area_px(1.0) / Spot(of_spots).area_px(1.0)
    )
    truth = piece[:, at[:, None], at]
    place = np.indices([int(side * UM_PER_PX / bin_um + 1e-9)] * 2).reshape(2, -1).T
    centers = (place + 0.5) * bin_um / UM_PER_PX
    counts = np.random.default_rng(0).poisson(LazyFootprint(spot, grid, centers).mean(truth)).astype(np.float32)
    measured = Measured(centers, sparse.csr_array(counts), tuple(section.var_names), True, bin_um / UM_PER_PX)
    return Slide("bins", np.moveaxis(image, -1, 0), grid, truth.any(axis=0), spot, measured), truth


def prior(slide, learned):
    """Gene model and posterior of a slide, given some bins."""
    config = sp.config.FitConfig()
    model = fit_factors(slide.spots, learned, config.genes, 0)
    field = fit_field(slide, model, learned, features_of(slide, [Texture()], config), config)
    return model, field.given("all")


def tiles(slide):
    """Tiles of a slide, neighbours one after the other."""
    return nested(plan_tiles(slide.grid.shape, size=512, multiple=8))


def mapped(side, bin_um):
    """Seconds and memory of fitting the prior and computing it at every pixel, tile by tile."""
    (slide, truth), sums, spent = drawn(side, bin_um), [], {"fitted": 0.0, "read": 0.0}

    def do():
        started = time.perf_counter()
        model, posterior = prior(slide, informative(slide))
        spent["fitted"] = time.perf_counter() - started
        shared = SharedPrior(posterior)
        for tile in tiles(slide):
            started = time.perf_counter()
            maps = shared.maps(tile.core)
            spent["read"] += time.perf_counter() - started
            sums.append(agreement(maps, posterior.stride, model, truth[:, *tile.core.slices]))

    found = {"n": len(slide.spots.centers), "mb": peak(do), "seconds": sum(spent.values())}
    return found | {"said": f"{spent['fitted']:.0f} s and {spent['read']:.0f} s"} | pearson_of(sums)


def agreement(maps, stride, model, truth):
    """Sums over a tile from which levels and correlations of the genes' maps with the truth follow, at the middles of blocks."""
    found = rates(maps.reshape(len(maps), -1).T.astype(float), model.loadings.astype(float), model.n_contrasts)
    own = (
        truth.reshape(len(truth), maps.shape[1], stride, maps.shape[2], stride)
        .mean(axis=(2, 4))
        .reshape(len(truth), -1)
        .T
    )
    return np.stack([np.ones(found.shape), found, own, found**2, own**2, found * own]).sum(axis=1)


def pearson_of(sums):
    """Mean of all maps over that of the truth, and the mean correlation of genes that vary."""
    n, found, own, squares, own_squares, both = np.sum(sums, axis=0)
    spread = (squares / n - (found / n) ** 2) * (own_squares / n - (own / n) ** 2)
    varies = own_squares / n > 1.001 * (own / n) ** 2
    pearson = (both / n - found * own / n**2)[varies] / np.sqrt(spread[varies])
    return {"level": float(found.sum() / own.sum()), "pearson": float(pearson.mean())}


def scored(side, bin_um):
    """Mean Pearson over genes: of bins in held-out blocks, and of counts that were kept back from all bins."""
    slide, _ = drawn(side, bin_um)
    spots, rng = slide.spots, np.random.default_rng(0)
    counts = spots.values.toarray()
    grid = np.rint((spots.centers - spots.centers.min(axis=0)) / spots.pitch).astype(int)
    held = spot_blocks(spots.centers, spots.pitch, SHARE, rng)
    kept = rng.binomial(counts.astype(int), KEPT).astype(np.float32)
    thinned = replace(slide, measured=replace(spots, values=sparse.csr_array(kept)))
    everything = np.ones(len(held), dtype=bool)
    return {
        "blocks of held-out bins": compared(slide, ~held & informative(slide), held, counts, counts, grid),
        "counts kept back": compared(thinned, informative(thinned), everything, kept, counts - kept, grid),
    }


def compared(slide, learned, asked, seen, truth, grid):
    """Mean Pearson over genes at the bins that are asked for, by the prior and from the bins that are learned from."""
    model, posterior = prior(slide, learned)
    rows = np.flatnonzero(asked)
    density = pool_posterior(posterior, slide, slide.footprint().select(rows), tiles(slide))
    found = {"prior": rates(density, model.loadings.astype(float), model.n_contrasts)}
    if (learned & asked).any():
        found["bins themselves"] = seen[rows]
    for width in WIDTHS:
        found[f"Gaussian of {width:g} bins"] = smoothed(seen, learned, grid, width)[rows]
    return {name: mean_pearson(values, truth[rows]) for name, values in found.items()}


def smoothed(seen, learned, grid, width):
    """(n, G) Gaussian weights of the bins that are learned from."""
    shape = grid.max(axis=0) + 1
    planes = np.zeros((*shape, seen.shape[1] + 1))
    planes[tuple(grid[learned].T)] = np.column_stack([seen[learned], np.ones(learned.sum())])
    planes = ndimage.gaussian_filter(planes, (width, width, 0), mode="constant", truncate=6)
    at = planes[tuple(grid.T)]
    return at[:, :-1] / np.maximum(at[:, -1:], 1e-12)


def mean_pearson(values, truth):
    """Mean over genes of the correlation over bins."""
    values, truth = (each - each.mean(axis=0) for each in (values, truth))
    sizes = np.sqrt(np.square(values).sum(axis=0) * np.square(truth).sum(axis=0))
    return float(np.mean((values * truth).sum(axis=0) / np.maximum(sizes, 1e-12)))
