"""Sections of many spots: co-kriging in windows against all spots at once, and what it costs as sections grow."""

from statistics import median

import numpy as np
import pandas as pd
from anndata import AnnData
from benchmarks.performance.measuring import apart, in_turn, peak, row
from scipy import sparse

import sphisto as sp
from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.field.field import Field
from sphisto.genes.factorize import fit_factors
from sphisto.genes.observations import Observations
from sphisto.slide.slide import Measured, Slide
from sphisto.train.crops import Crops

SIDES = (1_650, 3_810)  # px of 4 um: some 2,700 and 14,336 spots on tissue, a Visium array and one of 11 mm
BRAIN, SEEDS = "mouse_brain_coronal", (0, 1, 2)
FEW, MANY, STEPS = 3_000, 1_000_000, 30
PITCH_PX, N_FACTORS = 25, 12  # 100 um at 4 um per px
N_GENES = 18_000  # of a whole transcriptome


def measure(data, _device, _whole):
    """Accuracy, seconds and memory at two sizes; windows against the dense solution; crops of small and huge sections."""
    sizes = [apart(sized, side) for side in SIDES]
    rows = [line for found in sizes for line in rows_of(found, most_seconds=180, most_mb=2000)]
    small, large = (found["prior"] - found["gaussian"] for found in sizes)
    rows.append(row("margin of the larger over that of the smaller", large / small, "", least=0.8))
    crops = apart(crop_seconds)
    rows.append(row(f"a crop of {MANY:,} spots over one of {FEW:,}", crops["ratio"], "", crops["said"], most=1.1))
    if data is not None and (data / BRAIN).is_dir():
        rows += rows_of(apart(sized, SIDES[1], data / BRAIN), most_seconds=360, most_mb=4000)
        for seed in SEEDS:
            dense, windows = (apart(scored, data / BRAIN, seed, most) for most in (100_000, 500))
            for name in ("mean_pearson", "deviance_explained", "coverage"):
                behind = f"{windows[name]:.4f}, {dense[name]:.4f}"
                limit = {"most": 0.002} if name == "mean_pearson" else {}
                rows.append(
                    row(
                        f"{BRAIN}, seed {seed}: {name}, windows from dense",
                        abs(windows[name] - dense[name]),
                        "",
                        behind,
                        **limit,
                    )
                )
    return rows


def rows_of(found, *, most_seconds, most_mb):
    """Rows of one drawn section."""
    of, margin = f"{found['n']:,} spots, {found['genes']:,} genes", found["prior"] - found["gaussian"]
    behind = f"{found['prior']:.3f}, {found['gaussian']:.3f}"
    return [
        row(f"{of}: Pearson of the prior above gaussian's", margin, "", behind),
        row(f"{of}: coverage of 90 % intervals", found["coverage"], "", least=0.87, most=0.93),
        row(f"{of}: factors and prior", found["seconds"], "s", most=most_seconds),
        row(f"{of}: memory", found["mb"], "MB", most=most_mb),
    ]


def alone(most_spots=None):
    """Settings of a prior without a network."""
    train = sp.config.TrainConfig(held_out=0, max_epochs=1, least_batches=1)
    field = sp.config.FieldConfig() if most_spots is None else sp.config.FieldConfig(most_spots=most_spots)
    return sp.config.FitConfig(train=train, field=field)


def sized(side, like=None, **drawing):
    """Evaluate a drawn section of side² px; with genes like those of a real one whose folder is given, at its depth."""
    adata = sp.datasets.toy(side, side, um_per_px=4.0, **({} if like is None else {"mean_counts": 1e4}) | drawing)
    if like is not None:
        adata = with_genes_like(sp.io.read_visium(like), adata)
    adata.uns["spatial"]["toy"]["images"] = {"hires": np.asarray(sp.datasets.toy_image(adata))}
    adata.uns["spatial"]["toy"]["scalefactors"]["tissue_hires_scalef"] = 1.0
    found = {}

    def evaluate():
        found["table"] = sp.tl.evaluate(adata, config=alone(), um_per_px=4.0, device="cpu")

    mb, table = peak(evaluate), found["table"]
    pearson = table["mean_pearson"]
    return {"n": adata.n_obs, "genes": adata.n_vars, "mb": mb, "prior": pearson["prior"], "gaussian": pearson["gaussian"],
            "coverage": table.loc["prior", "coverage"], "seconds": table.loc["prior", "seconds"]}  # fmt: skip


def with_genes_like(real, drawn, *, n_genes=N_GENES, at_once=500):
    """Draw counts of genes whose loadings are drawn from those of a real section's, at its depth.

    Each drawn gene is the density of one factor: it has so many counts that these are its rates.
    """
    rng, every = np.random.default_rng(0), np.ones(real.n_obs, dtype=bool)
    measured = Measured(real.obsm["spatial"], sparse.csr_array(real.X), tuple(real.var_names), True, 1.0)
    config = sp.config.GeneModelConfig(n_factors=drawn.n_vars, least_certain=1.0)
    loadings = fit_factors(measured, every, config, 0).loadings.astype(np.float64)
    loadings = loadings[rng.integers(len(loadings), size=n_genes)] * rng.gamma(1, size=(n_genes, 1))
    density = drawn.X.toarray().astype(np.float64)[:, : loadings.shape[1]]
    density /= density.mean(axis=0)
    rates = (loadings / loadings.sum() * real.X.sum() / real.n_obs).T
    parts = [rng.poisson(density[i : i + at_once] @ rates) for i in range(0, len(density), at_once)]
    counts = sparse.csr_matrix(sparse.vstack([sparse.csr_matrix(part.astype(np.float32)) for part in parts]))
    names = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    return AnnData(counts, drawn.obs, names, drawn.uns, drawn.obsm)


def scored(folder, seed, most_spots):
    """Scores of the prior of a real section at 20 % of its spots."""
    table = sp.tl.evaluate(sp.io.read_visium(folder), config=alone(most_spots), rng=seed, device="cpu")
    return dict(table.loc["prior", ["mean_pearson", "deviance_explained", "coverage"]])


def crop_seconds():
    """Seconds of a crop of a small and of a huge section, in turn."""
    few, many = (crops(n) for n in (FEW, MANY))
    number = iter(range(10**6))
    times = in_turn(*(lambda each=each: each[next(number)] for each in (few, many)), rounds=STEPS)
    ratio = median(times[1]) / median(times[0])
    return {"ratio": ratio, "said": f"{median(times[1]) * 1e3:.0f} ms over {median(times[0]) * 1e3:.0f} ms"}


def crops(n):
    """Crops of a section of about n spots on a square array."""
    side = round(np.sqrt(n))
    rng, shape = np.random.default_rng(0), (side * PITCH_PX, side * PITCH_PX)
    centers = (np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2) + 0.5) * PITCH_PX
    wave = 1 + np.sin(centers @ rng.normal(0, 0.05, (2, N_FACTORS)))
    density = rng.poisson(10 * wave).astype(float)
    values = sparse.csr_array(density.astype(np.float32))
    measured = Measured(centers, values, tuple(f"g{i}" for i in range(N_FACTORS)), True, float(PITCH_PX))
    grid = Grid(*shape, um_per_px=100 / PITCH_PX)
    image, tissue = (np.broadcast_to(value, size) for value, size in ((np.uint8(200), (3, *shape)), (np.True_, shape)))
    slide = Slide("drawn", image, grid, tissue, Spot(55.0), measured)
    every = np.arange(len(centers))
    observations = Observations(every * 0, every, centers, density, None, 0, float(PITCH_PX))
    field = Field.fit(observations, None, sp.config.FieldConfig())
    learned = np.ones(len(centers), dtype=bool)
    config = sp.config.TrainConfig(batch=1)
    genes, shape = np.arange(N_FACTORS), (config.crop, config.crop)
    return Crops(slide, slide.footprint(), field, genes, learned, ~learned, shape, config, 10**6, 0, 0)
