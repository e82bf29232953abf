"""A window of ten million bins of 2 um, of which the table stays in its file: read, factorised, fitted, written."""

import tempfile
from pathlib import Path

import numpy as np
from anndata import read_h5ad
from benchmarks.performance import drawn
from benchmarks.performance.measuring import apart, peak, row, seconds
from benchmarks.performance.memory import write_table
from scipy import sparse

import sphisto as sp

SIDE = 3_200  # bins of 2 um along either side: 10.2 million, some 6.5 mm
GENES, PER_BIN, KINDS = 2_000, 5.0, 6
WINDOW = 2_048  # px
BIN_UM, UM_PER_PX = 2.0, drawn.UM_PER_PX
MINUTES, MB = 30, 4_000
SAID = ("read", "factors", "field", "train", "write rasters")


def measure(_data, device, _whole):
    """Seconds and memory of a window, whether rates are right, and how much of them is found."""
    found = fitted_window(SIDE, GENES, WINDOW, device)
    what = f"{SIDE**2:,} bins of 2 um, a window of {WINDOW:,}² px"
    said = f"{found['bins']:,} bins of {found['per_bin']:.1f} counts in the window; {found['said']}"
    return [
        row(f"{what}: read, fit and write", found["seconds"] / 60, "min", said, most=MINUTES),
        row(f"{what}: memory", found["mb"], "MB", most=MB),
        row(f"{what}: counts found over those drawn", found["level"], "", least=0.97, most=1.03),
        row(f"{what}: Pearson of maps with the rates that were drawn from", found["pearson"], ""),
    ]


def fitted_window(side, genes, window, device="cpu", **settings):
    """Draw a table of ``side`` x ``side`` bins and its image, and fit its middle ``window`` px in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(prepare, Path(name), side, genes)
        return apart(fit, Path(name), side, genes, window, device, settings)


def prepare(folder, side, genes) -> None:
    """Write image and table."""
    px = int(side * BIN_UM / UM_PER_PX)
    tiles = px // drawn.TILE - 2
    drawn.write_image(folder / "image.tif", px, tiles)
    rng, profiles = np.random.default_rng(0), profiles_of(genes)
    small = drawn.image(slice(0, px), slice(0, px), tiles)[::16, ::16]
    factors = {
        "bin_size_um": BIN_UM,
        "microns_per_pixel": UM_PER_PX,
        "spot_diameter_fullres": BIN_UM / UM_PER_PX,
        "tissue_hires_scalef": 1 / 16,
    }

    def block(first, rows):
        place = np.stack(np.divmod(np.arange(first, first + rows), side), axis=1)
        mixture = mixtures(place, side) * on_tissue(place, tiles)[:, None]
        counts = rng.poisson(mixture)  # of each kind in each bin
        bins, kinds = (np.repeat(each, counts.ravel()) for each in np.indices(counts.shape).reshape(2, -1))
        gene = np.empty(len(bins), dtype=np.int64)
        for kind, profile in enumerate(profiles):
            of_kind = kinds == kind
            gene[of_kind] = np.searchsorted(np.cumsum(profile), rng.random(of_kind.sum()) * profile.sum())
        ones = np.ones(len(bins), dtype=np.float32)
        found = sparse.csr_matrix((ones, (bins, np.minimum(gene, genes - 1))), shape=(rows, genes))
        found.sort_indices()
        return found

    write_table(folder / "bins.h5ad", side, genes, block, {"images": {"hires": small}, "scalefactors": factors})


def profiles_of(genes):
    """(kinds, genes) shares of the genes in the counts of each kind of tissue."""
    shares = np.random.default_rng(1).gamma(0.3, size=(KINDS, genes))
    return shares / shares.sum(axis=1, keepdims=True)


def mixtures(place, side):
    """(n, kinds) expected counts of each kind in bins at (n, 2) rows and columns of the array."""
    um, rng = place * BIN_UM, np.random.default_rng(2)
    waves = [
        np.sin(um @ rng.normal(0, 0.02, 2) + rng.uniform(0, 6)) + np.sin(um @ rng.normal(0, 0.04, 2))
        for _ in range(KINDS)
    ]
    weights = np.exp(1.5 * np.stack(waves, axis=1))
    total = PER_BIN * (1 + 0.5 * np.sin(um @ rng.normal(0, 0.03, 2)))
    return total[:, None] * weights / weights.sum(axis=1, keepdims=True)


def on_tissue(place, tiles):
    """(n,) whether bins lie on the tissue of the drawn image."""
    px = (place + 0.5) * BIN_UM / UM_PER_PX
    return ((px >= drawn.TILE + drawn.INSET) & (px < drawn.TILE * (tiles + 1) - drawn.INSET)).all(axis=1)


def fit(folder, side, genes, window, device, settings):
    """Fit the middle of the section; what it took, and how its maps agree with the rates that counts were drawn from."""
    middle = side * BIN_UM / UM_PER_PX / 2
    box = (middle - window / 2, middle - window / 2, middle + window / 2, middle + window / 2)
    times, found = [], {}

    def do():
        image = str(folder / "image.tif")
        section = sp.io.section(read_h5ad(folder / "bins.h5ad", backed="r"), image=image, bbox=box)
        sp.tl.fit_projection(section, store=folder / "out.zarr", device=device, **settings)
        found.update(section.adata.uns["projection"]["seconds"])
        found["bins"], found["per_bin"] = section.adata.n_obs, section.adata.X.sum() / section.adata.n_obs

    mb = peak(lambda: times.append(seconds(do)))
    said = ", ".join(f"{name} {found[name]:.0f} s" for name in ("prepare", "factors", "image", "joint", "write"))
    return {"mb": mb, "seconds": times[0], "said": said, **compared(folder / "out.zarr", side, genes, box)} | found


def compared(store, side, genes, box):
    """Mean of the genes' maps over that of the rates drawn from, and their mean Pearson, at bins of the window."""
    maps = sp.get.raster(store, "projection")
    x0, y0, x1, y1 = (int(edge) for edge in box)
    per_bin = int(BIN_UM / UM_PER_PX)
    names = [int(str(name).removeprefix("g")) for name in maps.coords["c"].values]
    values = np.stack([np.asarray(plane[y0:y1, x0:x1], dtype=np.float64) for plane in maps])
    values = (
        values.reshape(len(values), (y1 - y0) // per_bin, per_bin, -1, per_bin)
        .mean(axis=(2, 4))
        .reshape(len(values), -1)
    )
    place = np.indices(((y1 - y0) // per_bin, (x1 - x0) // per_bin)).reshape(2, -1).T + (y0 // per_bin, x0 // per_bin)
    truth = (mixtures(place, side) @ profiles_of(genes)[:, names]).T
    pearson = [np.corrcoef(a, b)[0, 1] for a, b in zip(values, truth, strict=True)]
    return {"level": values.mean() / truth.mean(), "pearson": float(np.mean(pearson))}
