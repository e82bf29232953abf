"""Draw maps beside their truth, to be looked at. Run from the repository's root:

    python -m benchmarks.fidelity.maps --data FOLDER                 # all sets of finer truth
    python -m benchmarks.fidelity.maps --data FOLDER --only toy      # those named

Maps are drawn region by region, as they are scored; each panel's colours end at its own 99th percentile.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.fidelity.cases import make_case
from benchmarks.fidelity.methods import METHODS
from benchmarks.fidelity.page import FIGURES
from benchmarks.fidelity.table import FINER
from scipy import ndimage

SHOWN, N_GENES = ("gaussian", "prior"), 2


def main() -> None:
    found = os.environ.get("SPHISTO_DATA")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=found and Path(found), required=not found)
    options.add_argument("--only", default="", help="names of sets, with commas between")
    options.add_argument("--folder", type=Path, default=FIGURES, help="where figures go")
    given = options.parse_args()
    for name, kind in FINER:
        if not given.only or name in given.only.split(","):
            draw(make_case(name, kind, 0, given.data), given.folder / f"maps-{name}-{kind}.png")


def draw(case, path) -> None:
    """Two genes, an abundant and a middling one, a line each: spots, maps of two methods, truth, and truth blurred."""
    abundance = np.argsort(-case.counts[:, case.scored].sum(axis=0), kind="stable")
    genes = abundance[np.linspace(0, len(abundance) // 2, min(N_GENES, len(abundance))).astype(int)]
    predicted = {name: METHODS[name](case).counts for name in SHOWN}
    (height, width), (y, x) = case.slide.grid.shape, case.centers.T
    size = (13, (2.6 * height / width + 0.25) * len(genes))
    figure, axes = plt.subplots(len(genes), 5, figsize=size, layout="constrained", squeeze=False)
    for line, gene in zip(axes, genes, strict=True):
        values, truth = case.counts[:, case.scored[gene]], painted(case, case.truth[:, gene])
        line[0].scatter(x, y, c=values, s=3e3 / len(values), linewidths=0, **colours(values))
        line[0].set(xlim=(0, width), ylim=(height, 0), aspect="equal", title=f"{case.genes[gene]}, spots")
        maps = {name: painted(case, counts[:, gene]) for name, counts in predicted.items()} | {"truth": truth}
        maps["truth, blurred by a bin"] = blurred(truth, np.sqrt(np.median(case.regions.area)))
        for axis, (title, values) in zip(line[1:], maps.items(), strict=True):
            step = max(1, min(values.shape) // 300)
            axis.imshow(values[::step, ::step], interpolation="nearest", **colours(values))
            axis.set_title(title)
        for axis in line:
            axis.axis("off")
            axis.title.set_fontsize(8)
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
    plt.close(figure)


def painted(case, values):
    """(y, x) map of values per area of the regions; NaN where there is none."""
    out = np.full(case.slide.grid.shape, np.nan)
    out[case.regions.y, case.regions.x] = np.repeat(values / case.area, np.diff(case.regions.indptr))
    return out


def blurred(image, width):
    """Gaussian average of what is known: in a truth of single molecules nothing can be seen without."""
    known = np.isfinite(image)
    sums, share = (ndimage.gaussian_filter(a, width) for a in (np.where(known, image, 0), known.astype(float)))
    return np.where(known, sums / np.maximum(share, 1e-9), np.nan)


def colours(values):
    return {"cmap": "magma", "vmin": 0, "vmax": max(np.nanquantile(values, 0.99), 1e-6)}


if __name__ == "__main__":
    main()
