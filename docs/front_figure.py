"""Draw the picture on the front page from a Space Ranger folder of mob_st_1, the olfactory bulb of a mouse.

    python docs/front_figure.py FOLDER

The section is individual 1 of the Spatial Transcriptomics study of the mouse olfactory bulb, as STUtility distributes it
(jbergenstrahle/STUtility, inst/extdata, MIT licence). The picture is written to docs/_static/front.jpg.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import sphisto as sp

GENES = ("Doc2g", "Fabp7")
OUT = Path(__file__).resolve().parent / "_static" / "front.jpg"


def main(folder: str) -> None:
    """Fit the section with all defaults, and draw tissue, measured, projected and deviation of two genes."""
    adata = sp.io.read_visium(folder)
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "front.zarr"
        sp.tl.fit_projection(adata, store=store, genes=list(GENES), rng=0, device="cpu")
        draw(store)


def draw(store: Path) -> None:
    """Draw a row for each gene: what is measured, projected and its deviation have one colour scale."""
    values = sp.get.gene_raster(store, list(GENES))
    sd = sp.get.raster(store, "projection_sd").rename(c="gene")
    image = sp.get.raster(store, "MOB1_image")
    right, bottom = (float(image[axis][-1] + image[axis][0]) for axis in ("x", "y"))
    at = {"extent": (0, right, bottom, 0), "interpolation": "none"}
    fig, axes = plt.subplots(len(GENES), 4, figsize=(14, 6.2), layout="constrained")
    y, x = (np.flatnonzero(np.isfinite(values[0]).any(axis)) for axis in ("x", "y"))
    for row, gene in zip(axes, GENES, strict=True):
        most = float(np.nanquantile(values.sel(gene=gene), 0.995))
        row[0].imshow(np.moveaxis(image.to_numpy(), 0, -1), **at)
        sp.pl.measured(store, gene, vmax=most, ax=row[1], show=False)
        for ax, found in zip(row[2:], (values, sd), strict=True):
            ax.imshow(found.sel(gene=gene), vmin=0, vmax=most, cmap="viridis", **at)
    titles = ("tissue", "{} measured", "{} at every pixel", "its standard deviation")
    for row, gene in zip(axes, GENES, strict=True):
        for ax, title in zip(row, titles, strict=True):
            ax.set_axis_off()
            ax.set(xlim=(x[0] - 20, x[-1] + 20), ylim=(y[-1] + 20, y[0] - 20))
            ax.set_title(title.format(gene))
    fig.savefig(OUT, dpi=110, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main(sys.argv[1])
