"""The demo of the command line: a section drawn by rule, fitted, written and drawn; no data, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# one gene of each kind the section is drawn with: tissue class, nuclei, RNA content, and one the image cannot show
GENES = ["class1_a", "nuclei_a", "total_a", "gradient_a"]


def run(out: Path, *, size: int = 512, pitch_um: float = 100.0, epochs: int = 6) -> Iterator[Path]:
    """Write the demo's store, figures and report into a folder, and yield the path of each file when it is there.

    Parameters
    ----------
    out
        The folder.
    size
        Side of the section in px of 2 um: about one square millimetre, some 70 spots.
    pitch_um
        Distance of neighbouring spots: Visium's.
    epochs
        Epochs of the fit; fewer than usual, as the demo shows what comes out, not how precise it is.
    """
    from sphisto import datasets, pl, pp, tl

    out.mkdir(parents=True, exist_ok=True)
    store = out / "toy.zarr"
    adata = datasets.toy(size, size, pitch_um=pitch_um)
    pp.qc(adata, min_genes=1, min_cells=3)  # a panel of some 20 genes: the usual floor of 200 would leave nothing
    pp.normalize(adata)
    pp.explore(adata)
    tl.fit_projection(adata, store=store, genes=GENES, max_epochs=epochs)  # prints where the store is

    figures: dict[str, Callable[[Path], Any]] = {
        "reconstruction": lambda path: pl.reconstruction(store, save=path),
        "projection": lambda path: pl.projection(store, GENES, save=path),
        "measured": lambda path: pl.measured(adata, GENES, save=path),
        "comparison": lambda path: pl.comparison(adata, GENES, save=path),
        "umap": lambda path: pl.umap(adata, GENES, save=path),
        "history": lambda path: pl.history(adata, save=path),
    }
    for name, draw in figures.items():
        path = out / f"{name}.png"
        draw(path)
        yield path
    yield pl.report(store, out / "report.html", overwrite=True)
