"""Draw maps beside their truth, to be looked at. Run from the repository's root:

    python -m benchmarks.fidelity.maps --data FOLDER                 # all sets of finer truth, and the mouse brain
    python -m benchmarks.fidelity.maps --data FOLDER --only toy      # those named

Maps of finer truth are drawn region by region, as they are scored: spots, the Gaussian baseline, the prior and the truth.
Those of the mouse brain are rasters of a whole fit of all its spots.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.fidelity.cases import SETS, make_case
from benchmarks.fidelity.methods import METHODS
from benchmarks.fidelity.page import FIGURES
from scipy import ndimage

from sphisto.get import raster
from sphisto.io import read_visium, section
from sphisto.tl import fit_projection

BRAIN = "mouse_brain_coronal"
BRAIN_GENES = ("Prox1", "Wfs1", "Mbp", "Prkcd", "Lamp5", "Penk")  # each of another structure of the section
SHOWN = ("gaussian", "prior")


def main() -> None:
    found = os.environ.get("SPHISTO_DATA")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=found and Path(found), required=not found)
    options.add_argument("--only", default="", help="names of sets, with commas between")
    options.add_argument("--folder", type=Path, default=FIGURES, help="where figures go")
    given = options.parse_args()
    names = [name for name in given.only.split(",") if name]
    for name, kind in SETS:
        if kind not in ("random", "blocks") and (not names or name in names):
            draw(finer(make_case(name, kind, 0, given.data)), given.folder / f"maps-{name}-{kind}.png")
    if not names or BRAIN in names:
        draw(brain(given.data), given.folder / f"maps-{BRAIN}.png")


def finer(case, n_genes=2):
    """Rows of panels: genes from abundant to middling; counts of spots, maps of two methods, and the truth."""
    abundance = np.argsort(-case.counts[:, case.scored].sum(axis=0), kind="stable")
    chosen = abundance[np.linspace(0, len(abundance) // 2, min(n_genes, len(abundance))).astype(int)]
    told = {name: METHODS[name](case).counts for name in SHOWN}
    # truth is smoothed by a bin beside itself: where it holds single molecules, nothing can be seen of it
    side = np.sqrt(np.median(case.regions.area))
    rows = []
    for gene in chosen:
        y, x = case.centers.T
        spots = {"points": (x, y, case.counts[:, case.scored[gene]]), "shape": case.slide.grid.shape}
        maps = {name: painted(case, counts[:, gene]) for name, counts in told.items()}
        truth = painted(case, case.truth[:, gene])
        maps |= {"truth": truth, f"truth, blurred by {side:.0f} px": blurred(truth, side)}
        rows.append(
            [spots | {"title": f"{case.genes[gene]}, spots"}, *({"image": m, "title": n} for n, m in maps.items())]
        )
    return rows


def brain(data):
    """Rows of panels: counts of spots, the raster, and its standard deviation in the raster's own colours."""
    adata = read_visium(data / BRAIN)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "drawn.zarr"
        fit_projection(section(adata), store=store, genes=list(BRAIN_GENES), rng=0)
        maps, sds = (raster(store, name) for name in ("projection", "projection_sd"))
        um, maps, sds = maps.attrs["um_per_px"], maps.to_numpy(), sds.to_numpy()
    x, y = (adata.obsm["spatial"] * adata.uns["projection"]["params"]["fullres_um_per_px"] / um).T
    rows = []
    for i, gene in enumerate(BRAIN_GENES):
        top, skill = np.nanquantile(maps[i], 0.995), adata.var.loc[gene, "projection_pearson"]
        points = (x, y, adata[:, gene].X.toarray().ravel())
        rows.append([
            {"points": points, "shape": maps[i].shape, "title": f"{gene}, spots"},
            {"image": maps[i], "top": top, "title": f"projected; expected skill {skill:.2f}"},
            {"image": sds[i], "top": top, "title": "standard deviation"},
        ])  # fmt: skip
    return rows


def painted(case, values):
    """(y, x) map of values per area of the regions; NaN where there is none."""
    out = np.full(case.slide.grid.shape, np.nan)
    out[case.regions.y, case.regions.x] = np.repeat(values / case.area, np.diff(case.regions.indptr))
    return out


def blurred(image, width):
    """Gaussian average of what is known."""
    known = np.isfinite(image)
    sums, share = (ndimage.gaussian_filter(a, width) for a in (np.where(known, image, 0), known.astype(float)))
    return np.where(known, sums / np.maximum(share, 1e-9), np.nan)


def draw(rows, path) -> None:
    """Panels of each gene in a line; each in its own colours unless it says where they end."""
    height, width = rows[0][0]["shape"]
    size = (2.6 * len(rows[0]), (2.6 * height / width + 0.25) * len(rows))
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, layout="constrained", squeeze=False)
    for axis, panel in zip(axes.flat, (panel for row in rows for panel in row), strict=True):
        axis.axis("off")
        axis.set_title(panel["title"], fontsize=7)
        values = panel["image"] if "image" in panel else panel["points"][2]
        look = {"cmap": "magma", "vmin": 0, "vmax": max(panel.get("top") or np.nanquantile(values, 0.99), 1e-6)}
        if "image" in panel:
            step = max(1, min(values.shape) // 300)
            axis.imshow(values[::step, ::step], interpolation="nearest", **look)
        else:
            axis.scatter(*panel["points"][:2], c=values, s=3e3 / len(values), linewidths=0, **look)
            axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    main()
