"""Draw the pictures of docs/gallery.md from a Space Ranger folder of mob_st_1, the olfactory bulb of a mouse.

    python docs/gallery.py FOLDER

The section is individual 1 of the Spatial Transcriptomics study of the mouse olfactory bulb, as STUtility distributes it
(jbergenstrahle/STUtility, inst/extdata, MIT licence). The page shows the lines between the marks of this file, so that
what is shown is what was run; pictures go to docs/_static/gallery, one for each function of `sphisto.pl`, and of
standard deviations.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

import sphisto as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

GENES = ["Doc2g", "Fabp7"]
OUT = Path(__file__).resolve().parent / "_static" / "gallery"


def fit(folder: str, store: Path) -> AnnData:
    # [fit]
    adata = sp.io.read_visium(folder)
    sp.pp.normalize(adata)
    sp.pp.explore(adata)
    trained_through = sp.config.FitConfig(train=sp.config.TrainConfig(first_look=1))
    sp.tl.fit_projection(adata, store=store, genes=GENES, config=trained_through)
    sp.tl.evaluate(adata)
    # [end]
    return adata


def measured(adata: AnnData, _store: Path) -> None:
    # [measured]
    sp.pl.measured(adata, GENES)
    # [end]


def projection(_adata: AnnData, store: Path) -> None:
    # [projection]
    sp.pl.projection(store, GENES)
    # [end]


def deviation(_adata: AnnData, store: Path) -> None:
    # [deviation]
    sp.pl.projection(store, GENES, layer="sd", spots=True, cmap="magma")
    # [end]


def comparison(_adata: AnnData, store: Path) -> None:
    # [comparison]
    sp.pl.comparison(store, GENES)
    # [end]


def reconstruction(_adata: AnnData, store: Path) -> None:
    # [reconstruction]
    sp.pl.reconstruction(store)
    # [end]


def history(adata: AnnData, _store: Path) -> None:
    # [history]
    sp.pl.history(adata)
    # [end]


def umap(adata: AnnData, _store: Path) -> None:
    # [umap]
    sp.pl.umap(adata, GENES)
    # [end]


def evaluation(adata: AnnData, _store: Path) -> None:
    # [evaluation]
    sp.pl.evaluation(adata)
    # [end]


DRAWN: list[Callable[[AnnData, Path], Any]] = [
    measured,
    projection,
    deviation,
    comparison,
    reconstruction,
    history,
    umap,
    evaluation,
]


def draw(adata: AnnData, store: Path, out: Path = OUT) -> None:
    """Draw every picture into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for drawn in DRAWN:
        drawn(adata, store)
        plt.savefig(out / f"{drawn.__name__}.jpg", dpi=100, bbox_inches="tight", pil_kwargs={"quality": 85})
        plt.close("all")


def main(folder: str) -> None:
    plt.switch_backend("agg")
    with tempfile.TemporaryDirectory() as place, sp.settings.override(device="cpu"):
        store = Path(place) / "section.zarr"
        draw(fit(folder, store), store)


if __name__ == "__main__":
    main(sys.argv[1])
