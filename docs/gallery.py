"""Draw the pictures of docs/gallery.md from Space Ranger folders of mob_st_1 and mob_st_2, olfactory bulbs of a mouse.

    python docs/gallery.py FOLDER SECOND

Both sections are of individual 1 of the Spatial Transcriptomics study of the mouse olfactory bulb, as STUtility distributes them
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
SECOND = ""  # folder of the second section
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


def registration(adata: AnnData, _store: Path) -> None:
    # [registration]
    second = sp.io.read_visium(SECOND)
    sp.pp.register(second, adata)
    sp.pl.registration(second, adata)
    # [end]


def integration(adata: AnnData, store: Path) -> None:
    # [integration]
    second = sp.io.read_visium(SECOND)
    sp.pp.normalize(second)
    sections = [adata, second]
    sp.tl.fit_projection(sections, store=store.with_name("both.zarr"), config="fast", um_per_px=12)
    sp.tl.integration(sections)
    sp.pl.integration(sections, gene="Penk")
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
    registration,
    integration,
]


def draw(adata: AnnData, store: Path, out: Path = OUT) -> None:
    """Draw every picture into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for drawn in DRAWN:
        drawn(adata, store)
        plt.savefig(out / f"{drawn.__name__}.jpg", dpi=100, bbox_inches="tight", pil_kwargs={"quality": 85})
        plt.close("all")


def main(folder: str, second: str) -> None:
    global SECOND
    SECOND = second
    plt.switch_backend("agg")
    with tempfile.TemporaryDirectory() as place, sp.settings.override(device="cpu"):
        store = Path(place) / "section.zarr"
        draw(fit(folder, store), store)


if __name__ == "__main__":
    main(*sys.argv[1:3])
