"""Draw six genes of two sections for the documentation, next to what was measured. Run from the repository's root:

    python -m benchmarks.fidelity.pictures --data FOLDER

All spots of the section are used: these pictures show what a user gets, the table shows how good it is.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cells import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sphisto.io.sections import Section

FIGURES = ROOT / "docs" / "_static" / "fidelity"
BRAIN_GENES = ("Prox1", "Wfs1", "Mbp", "Prkcd", "Lamp5", "Penk")  # each of another structure of the section
N_GENES = 6
SHOWN_PX = 300  # of the shorter side, at least: more are of no use in a small panel


def main() -> None:
    """Fit both sections and draw them."""
    found = os.environ.get("SPHISTO_DATA")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=found and Path(found), required=not found)
    data = options.parse_args().data
    FIGURES.mkdir(parents=True, exist_ok=True)
    brain(data, FIGURES / "rasters-mouse_brain_coronal.png")
    dapi(data, FIGURES / "rasters-xenium_breast_dapi.png")


def brain(data: Path, path: Path) -> None:
    """A whole section: measured, projected, and its standard deviation, in the same colours as the projected."""
    import sphisto as sp

    adata = sp.io.read_visium(data / "mouse_brain_coronal")
    genes = list(BRAIN_GENES)
    rasters, sds, um = projected(sp.io.section(adata), genes, {})
    rows, columns = (np.flatnonzero(np.isfinite(rasters[0]).any(axis=axis)) for axis in (1, 0))
    top, left = rows[0], columns[0]
    rasters, sds = (maps[:, top : rows[-1] + 1, left : columns[-1] + 1] for maps in (rasters, sds))
    counts, centers = adata[:, genes].X.toarray(), np.asarray(adata.obsm["spatial"], dtype=np.float64)
    scale = adata.uns["projection"]["params"]["fullres_um_per_px"]
    x, y = (centers * scale / um - (left, top)).T
    skill = adata.var.loc[genes, "projection_pearson"]
    panels = []
    for i, gene in enumerate(genes):
        bright = float(np.nanquantile(rasters[i], 0.995))
        look = {"top": float(np.quantile(counts[:, i], 0.995)), "size": 3.2, "shape": rasters[i].shape}
        panels.append([
            look | {"points": (x, y, counts[:, i]), "title": f"{gene}, measured at spots"},
            {"image": rasters[i], "title": f"projected; expected skill {skill.iloc[i]:.2f}", "top": bright},
            {"image": sds[i], "title": "standard deviation", "top": bright},
        ])  # fmt: skip
    draw(panels, 2, path)


def dapi(data: Path, path: Path) -> None:
    """Pseudo-spots of single molecules: measured, projected and true, the last two in bins of 8.5 um."""
    from benchmarks.fidelity.sets import make_case

    case = make_case("xenium_breast_dapi", "finer", 0, data)
    abundance = np.argsort(-case.truth.sum(axis=0))
    chosen = abundance[np.linspace(0, len(abundance) // 2, N_GENES).astype(int)]
    names = [str(case.slide.spots.genes[case.scored[i]]) for i in chosen]
    adata = case.adata.copy()
    rasters, _, um = projected(case.section(adata), names, case.resolution)
    y, x = (case.centers * case.slide.grid.um_per_px / um).T
    assert case.regions.shape is not None
    assert case.regions.cells is not None
    factor = case.regions.spot.um / um
    rows = []
    for i, (column, name) in enumerate(zip(chosen, names, strict=True)):
        truth = np.full(case.regions.shape, np.nan)
        truth.flat[case.regions.cells] = case.truth[:, column] / np.maximum(case.regions.size, 1e-9)
        binned = blocks(rasters[i], round(factor))
        top = float(np.nanquantile(truth, 0.99))
        values = case.counts[:, case.scored[column]]
        rows.append([
            {"points": (x / factor, y / factor, values), "size": 9, "title": f"{name}, pseudo-spots",
             "top": float(np.quantile(values, 0.99)), "shape": truth.shape},
            {"image": binned, "title": "projected", "top": float(np.nanquantile(binned, 0.99))},
            {"image": truth, "title": "true, 8.5 um bins", "top": top},
        ])  # fmt: skip
    draw(rows, 2, path)


def projected(section: Section, genes: list[str], options: Mapping[str, Any]) -> tuple[Any, Any, float]:
    """Fit with all defaults; return (genes, y, x) rasters and their standard deviations, with um per px."""
    import sphisto as sp

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "drawn.zarr"
        sp.tl.fit_projection(section, store=store, genes=genes, rng=0, **options)
        maps, sds = (sp.get.raster(store, name) for name in ("projection", "projection_sd"))
        return maps.to_numpy(), sds.to_numpy(), float(maps.attrs["um_per_px"])


def blocks(raster: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Means over squares of so many px."""
    rows, columns = (length // side for length in raster.shape)
    return np.nanmean(raster[: rows * side, : columns * side].reshape(rows, side, columns, side), axis=(1, 3))


def draw(rows: list[list[dict[str, Any]]], genes_per_line: int, path: Path) -> None:
    """Panels of each gene side by side, some genes a line."""
    import matplotlib.pyplot as plt

    panels = len(rows[0])
    lines = -(-len(rows) // genes_per_line)
    height, width = rows[0][0]["shape"]
    side = 2.0
    size = (side * panels * genes_per_line, (side * height / width + 0.25) * lines)
    figure, axes = plt.subplots(lines, panels * genes_per_line, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for i, row in enumerate(rows):
        line, first = divmod(i, genes_per_line)
        for axis, panel in zip(axes[line, first * panels :], row, strict=False):
            fill(axis, panel)
    figure.savefig(path, dpi=110, pil_kwargs={"optimize": True})
    plt.close(figure)


def fill(axis: Any, panel: dict[str, Any]) -> None:
    """One panel: a raster, or spots on the same axes."""
    look = {"cmap": panel.get("cmap", "magma"), "vmin": 0, "vmax": max(panel["top"], 1e-6)}
    if "image" in panel:
        step = max(1, min(panel["image"].shape) // SHOWN_PX)
        axis.imshow(panel["image"][::step, ::step], interpolation="nearest", **look)
    else:
        x, y, values = panel["points"]
        axis.scatter(x, y, c=values, s=panel["size"], linewidths=0, **look)
        axis.set(xlim=(0, panel["shape"][1]), ylim=(panel["shape"][0], 0), aspect="equal")
    axis.set_title(panel["title"], fontsize=7)


if __name__ == "__main__":
    main()
