"""Draw maps beside their truth, to be looked at: region by region, as they are scored."""

import matplotlib.pyplot as plt
import numpy as np
from benchmarks.fidelity.methods import METHODS
from scipy import ndimage

SHOWN, N_GENES = ("gaussian", "prior"), 2


def draw(case, path) -> None:
    """Two genes, an abundant and a middling one, a line each: spots, maps of two methods, truth, and truth blurred."""
    abundance = np.argsort(-case.counts[:, case.scored].sum(axis=0), kind="stable")
    genes = abundance[np.linspace(0, len(abundance) // 2, min(N_GENES, len(abundance))).astype(int)]
    predicted = {name: METHODS[name](case).counts for name in SHOWN}
    (height, width), (y, x) = case.slide.grid.shape, case.centers.T
    size = (13, (2.6 * height / width + 0.25) * len(genes))
    figure, axes = plt.subplots(len(genes), 5, figsize=size, layout="constrained", squeeze=False)
    colours = lambda values: {"cmap": "magma", "vmin": 0, "vmax": max(np.nanquantile(values, 0.99), 1e-6)}
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
