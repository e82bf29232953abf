"""Score projections on spots they never saw, beside baselines, with seconds by phase and peak memory.

    python benchmarks/held_out_spots.py FOLDER [--share 0.2] [--seed 0] [--methods unet,prior,seed,gaussian,nearest]

FOLDER is a Space Ranger folder. A random share of the spots is taken out before anything is fitted: factors, scaling
and choice of genes see only the rest. Each method runs in a process of its own. The score is the mean Pearson
correlation, over the held-out spots, of log-normalised expression (of predicted rates: its expected value under Poisson
counts, for every method), averaged over the genes seen in more than 3 % of the training spots; the prototype's network
models single genes, so a second column scores all methods on its genes. "prior" is what unet starts from: co-kriging of
the factors without any network.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("unet", "prior", "seed", "gaussian", "nearest")
WIDTHS = (0.5, 0.65, 0.8, 1.0, 1.25)  # pitches; the best on the held-out spots is taken: an advantage for the baseline
SEED_GENES = 32
LEAST_SEEN = 0.03
PATCH = 16  # px; baselines are computed only where held-out spots lie


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--max-epochs", type=int, default=None)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(options)))
        return
    print(f"{options.folder.name}: {options.share:.0%} of spots held out, seed {options.seed}")
    print(f"{'method':<12}{'genes':>7}{'PCC':>8}{'seed genes':>12}{'ceiling':>9}{'peak MB':>9}  seconds")
    for method in options.methods.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", method]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        seconds = ", ".join(f"{phase} {value:.0f}" for phase, value in row["seconds"].items())
        print(
            f"{method:<12}{row['genes']:>7}{row['pcc']:>8.3f}{row['pcc_seed_genes']:>12.3f}{row['ceiling']:>9.3f}"
            f"{row['peak_mb']:>9.0f}  {seconds}",
            flush=True,
        )


def run(options: argparse.Namespace) -> dict[str, Any]:
    import sphisto as sp

    logging.basicConfig()
    logging.getLogger("sphisto").setLevel(logging.INFO)
    adata = sp.io.read_visium(options.folder)
    rng = np.random.default_rng(options.seed)
    held_out = np.zeros(adata.n_obs, dtype=bool)
    held_out[rng.permutation(adata.n_obs)[: round(options.share * adata.n_obs)]] = True
    train, test = adata[~held_out].copy(), adata[held_out].copy()
    measured = test.X.toarray().astype(np.float64)
    counts = train.X.toarray()
    scored = (counts > 0).mean(axis=0) > LEAST_SEEN
    spread = counts.var(axis=0) / np.maximum(counts.mean(axis=0), 1e-9)
    seed_genes = np.sort(np.argsort(-spread)[:SEED_GENES])
    started = time.perf_counter()
    if options.one == "prior":
        predicted, known = prior(train, test, options.seed), np.ones(adata.n_vars, dtype=bool)
        seconds = {"all": time.perf_counter() - started}
    elif options.one in ("nearest", "gaussian"):
        predicted, known = baseline(options.one, train, test, measured, scored), np.ones(adata.n_vars, dtype=bool)
        seconds = {"all": time.perf_counter() - started}
    else:
        predicted, known, seconds = network(options, train, test, seed_genes)
    from sphisto import metrics

    both = scored & known
    score = metrics.pearson(
        metrics.expected_log_normalised(predicted)[:, both], metrics.log_normalised(measured)[:, both]
    )
    few = metrics.pearson(
        metrics.expected_log_normalised(predicted[:, seed_genes]), metrics.log_normalised(measured[:, seed_genes])
    )
    ceiling = metrics.noise_ceiling(measured[:, scored], rng)
    return {
        "genes": int(both.sum()),
        "pcc": float(np.nanmean(score)),
        "pcc_seed_genes": float(np.nanmean(few)),
        "ceiling": float(np.nanmean(ceiling)),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seconds": seconds,
    }


def network(options: argparse.Namespace, train: Any, test: Any, seed_genes: np.ndarray) -> tuple[Any, Any, Any]:
    """Fit on the training spots and sum the rasters over the held-out ones."""
    import sphisto as sp

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "held_out.zarr"
        sp.tl.fit_projection(
            train,
            store=store,
            network=options.one,
            genes=list(train.var_names[seed_genes]),
            max_epochs=options.max_epochs,
            rng=options.seed,
        )
        record = train.uns["projection"]
        radius = record["params"]["spot_um"] / 2 / record["params"]["fullres_um_per_px"]
        regions = sp.tl.aggregate(store, test.obsm["spatial"], radius=radius)
    predicted = np.zeros(test.shape)
    column = test.var_names.get_indexer(regions.var_names)
    predicted[:, column] = regions.X
    known = np.isin(np.arange(test.n_vars), column)
    return predicted, known, record["seconds"]


def prior(train: Any, test: Any, seed: int) -> np.ndarray:
    """Co-krige the factors of the training spots and average the maps over the held-out spots."""
    from sphisto.core.tiles import Window
    from sphisto.io.intake import make_slide, read_section
    from sphisto.model.config import FitConfig
    from sphisto.model.fit import find_factors, informative, prior_of

    slide = make_slide(read_section(train))
    known = informative(slide.spots)
    factors = find_factors(slide.spots, known, FitConfig().n_factors, seed)
    told, _ = prior_of(slide, factors, known)
    height, width = (-(-side // told.stride) * told.stride for side in slide.grid.shape)
    maps = told.prior(Window(0, 0, height, width))
    centers = slide.grid.from_fullres(test.obsm["spatial"][:, ::-1]) / told.stride
    spots = slide.spot.footprint(maps.shape[1:], centers, slide.grid.um_per_px * told.stride)
    return spots.mean(maps) @ factors.loadings.T


def baseline(name: str, train: Any, test: Any, measured: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Pool a baseline's maps over the held-out spots."""
    from sphisto import baselines, metrics
    from sphisto.core.footprint import TilePool
    from sphisto.core.tiles import plan_tiles
    from sphisto.io.intake import make_slide, read_section

    slide = make_slide(read_section(train))
    centers = slide.grid.from_fullres(test.obsm["spatial"][:, ::-1])
    footprint = slide.spot.footprint(slide.grid.shape, centers, slide.grid.um_per_px)
    touched = {(y // PATCH, x // PATCH) for y, x in zip(footprint.y, footprint.x, strict=True)}
    tiles = [
        tile
        for tile in plan_tiles(slide.grid.shape, size=PATCH)
        if (tile.core.y0 // PATCH, tile.core.x0 // PATCH) in touched
    ]

    def pooled(maps: Any) -> np.ndarray:
        pool = TilePool(footprint, train.n_vars)
        for tile, values in maps:
            pool.add(tile.core, values)
        return pool.means()

    if name == "nearest":
        return pooled(baselines.nearest(slide, tiles))
    options = [pooled(baselines.gaussian(slide, tiles, width=w * slide.spots.pitch)) for w in WIDTHS]
    truth = metrics.log_normalised(measured)[:, scored]
    return max(options, key=lambda p: np.nanmean(metrics.pearson(metrics.expected_log_normalised(p)[:, scored], truth)))


if __name__ == "__main__":
    main()
