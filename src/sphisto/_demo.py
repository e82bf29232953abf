"""The demo of the command line: a section drawn by rule, fitted, written, drawn and compared with its truth; no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import xarray as xr
    from anndata import AnnData
    from numpy.typing import NDArray

# one gene of each kind the section is drawn with, and what it follows
GENES = {
    "nuclei_a": "the nuclei",
    "total_a": "the RNA content",
    "class1_a": "one kind of tissue",
    "gradient_a": "a ramp that the image does not show",
}


def run(
    out: Path,
    *,
    size: int = 1024,
    um_per_px: float = 1.5,
    pitch_um: float = 100.0,
    mean_counts: float = 40.0,
    epochs: int | None = None,
) -> Iterator[Path | str]:
    """Write the demo's store, figures and report into a folder; yield the path of each when it is there, then what came out.

    Parameters
    ----------
    out
        The folder.
    size
        Side of the section in px: 1.5 mm, some 150 spots, enough to decide whether the network helps.
    um_per_px
        Micrometres per px: nuclei are drawn, and seen.
    pitch_um
        Distance of neighbouring spots: Visium's.
    mean_counts
        Counts of a usual gene in a spot: the panel has 18 genes, so that a spot has some 700 counts in all.
    epochs
        Epochs of the fit at most; ``None``: as usual.
    """
    from sphisto import datasets, get, pl, pp, tl

    out.mkdir(parents=True, exist_ok=True)
    store, genes = out / "toy.zarr", list(GENES)
    adata = datasets.toy(size, size, um_per_px=um_per_px, pitch_um=pitch_um, mean_counts=mean_counts)
    pp.qc(adata, min_genes=1, min_cells=3)  # a panel of some 20 genes: the usual floor of 200 would leave nothing
    pp.normalize(adata)
    pp.explore(adata)
    tl.fit_projection(adata, store=store, genes=genes, max_epochs=epochs)  # prints where the store is

    truth = datasets.toy_truth(adata, genes).compute()
    maps = {"sphisto": get.gene_raster(store, genes).to_numpy(), "Gaussian weights": _gaussian(adata, genes, truth)}
    scores = {name: _correlations(values, truth) for name, values in maps.items()}
    figures: dict[str, Callable[[Path], Any]] = {
        "gained": lambda path: _draw_gained(adata, truth, maps, scores, path),
        "reconstruction": lambda path: pl.reconstruction(store, save=path),
        "projection": lambda path: pl.projection(store, genes, save=path),
        "measured": lambda path: pl.measured(adata, genes, save=path),
        "comparison": lambda path: pl.comparison(adata, genes, save=path),
        "umap": lambda path: pl.umap(adata, genes, save=path),
        "history": lambda path: pl.history(adata, save=path),
    }
    for name, draw in figures.items():
        path = out / f"{name}.png"
        draw(path)
        yield path
    yield pl.report(store, out / "report.html", overwrite=True)
    yield _gained(adata, scores, out)


def _gaussian(adata: AnnData, genes: list[str], truth: xr.DataArray) -> NDArray[Any]:
    """(g, y, x) averages of the spots around each pixel, by Gaussian weights of the width that predicts left-out spots best."""
    import numpy as np

    from sphisto.field.gaussian import choose_width, gaussian_weights

    drawn = adata.uns["toy"]
    centers, counts = adata.obsm["spatial"][:, ::-1], adata[:, genes].layers["counts"].toarray()
    width = choose_width(centers, counts, drawn["pitch_um"] / drawn["um_per_px"])
    rows = [np.stack(np.meshgrid(y, truth.x, indexing="ij"), axis=-1).reshape(-1, 2) for y in truth.y.to_numpy()]
    values = np.stack([gaussian_weights(row, centers, width) @ counts for row in rows])  # (y, x, g)
    return np.moveaxis(values, 2, 0)


def _correlations(values: NDArray[Any], truth: xr.DataArray) -> list[float]:
    """Pearson correlation with the truth of each gene, over the pixels that truly are tissue and have a value."""
    import numpy as np

    tissue = np.isfinite(values).all(axis=0) & (truth.to_numpy() > 0).any(axis=0)
    pairs = zip(values, truth.to_numpy(), strict=True)
    return [float(np.corrcoef(found[tissue], true[tissue])[0, 1]) for found, true in pairs]


def _draw_gained(
    adata: AnnData, truth: xr.DataArray, maps: dict[str, NDArray[Any]], scores: dict[str, list[float]], path: Path
) -> None:
    """Draw a row for each gene: truth, measured, projected, interpolated, in one colour scale."""
    import numpy as np
    from matplotlib import pyplot as plt

    from sphisto import pl

    height, width = truth.shape[1:]
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)  # the middle, where single nuclei can be seen
    at: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "none", "vmin": 0}
    fig, axes = plt.subplots(len(GENES), 4, figsize=(14, 3.5 * len(GENES)), layout="constrained", squeeze=False)
    tissue = np.isfinite(maps["sphisto"][0])
    for row, gene in enumerate(GENES):
        true = np.where(tissue, truth[row], np.nan)
        most = float(np.nanquantile(maps["sphisto"][row], 0.995))
        axes[row, 0].imshow(true, vmax=most, **at)
        axes[row, 0].set_title(f"truth: {gene}")
        pl.measured(adata, gene, bbox=box, vmax=most, ax=axes[row, 1], show=False)
        axes[row, 1].set_title("measured by the spots")
        for ax, (name, values) in zip(axes[row, 2:], maps.items(), strict=True):
            ax.imshow(np.where(tissue, values[row], np.nan), vmax=most, **at)
            ax.set_title(f"{name}, r = {scores[name][row]:.2f}")
    for ax in axes.ravel():
        ax.set_axis_off()
        ax.set(xlim=box[::2], ylim=box[:0:-2])
    fig.savefig(path, dpi=100)
    plt.close(fig)


def _gained(adata: AnnData, scores: dict[str, list[float]], out: Path) -> str:
    """Say what was gained over interpolation, what made it, and where to look."""
    gate = adata.uns["projection"]["params"]["gate"]
    lines = [
        f"\nHow the maps agree with the truth, which is known as the section was drawn ({adata.n_obs} spots; Pearson",
        "correlation over the pixels of tissue):\n",
        f"{'':12}{'':38}{'sphisto':>10}{'Gaussian weights':>20}",
        *(
            f"{gene:12}{what:38}{ours:10.2f}{other:20.2f}"
            for (gene, what), ours, other in zip(GENES.items(), *scores.values(), strict=True)
        ),
        "\nWhat the image shows is drawn finer than the spots; what it does not show is interpolated between them, about",
        "as by Gaussian weights. "
        + (
            f"Held-out spots confirmed the network: {gate:.0%} of its correction is in these maps."
            if gate
            else "These maps are the co-kriging of spots and image: held-out spots did not confirm the network."
        ),
        f"\nIn {out}: report.html shows all of it in a browser, gained.png this table; toy.zarr holds all maps\n(`sphisto info {out / 'toy.zarr'}`).",
    ]
    return "\n".join(lines)
