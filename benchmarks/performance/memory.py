"""Memory of predicting and writing slides of different sizes, and of a fit from a full-resolution picture."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.performance.apart import Row, apart, middle, peak, seconds
from benchmarks.performance.slides import TILE, drawn_model, quiet, section, write_picture

if TYPE_CHECKING:
    from benchmarks.performance.apart import Setting

SIDES = (4096, 8192, 16384)
TILES = 6  # on tissue, along each side of it
N_FACTORS, N_GENES = 32, 20
REAL, REAL_UM_PER_PX, REAL_SPOT_UM = "her2st_C2", 0.734, 100.0  # 9,274 x 9,911 px
PICTURE = "tissue_image_fullres.jpg"


def measure(setting: Setting) -> list[Row]:
    """Peaks of predicting toy slides, their ratio, and peaks of predicting and fitting the real section."""
    rows, real = [], None if setting.data is None else setting.data / REAL
    if real is not None and real.is_dir():
        found = of_real(real, predicting_real, setting.device)
        rows.append(Row(f"{REAL}: predict and write", found["mb"], "MB", _said(found), most=800))
    peaks = {}
    for side in SIDES:
        tiles = side // TILE - 2 if setting.whole else TILES
        found = of_toy(side, tiles, setting.device)
        peaks[side] = found["mb"]
        rows.append(Row(f"{side:,}² px: predict and write", found["mb"], "MB", _said(found)))
    small, large = SIDES[0], SIDES[-1]
    behind = f"{peaks[large]:.0f} MB of {peaks[small]:.0f} MB"
    rows.append(Row(f"{large:,}² px over {small:,}² px", peaks[large] / peaks[small], "", behind, most=1.1))
    if real is not None and real.is_dir():
        found = of_real(real, fitting_real, setting.device)
        rows.append(Row(f"{REAL}: fit at 2 um per px, 2 epochs", found["mb"], "MB", _said(found), most=1500))
    return rows


def _said(found: dict[str, float]) -> str:
    tiles = f"{found['tiles']:.0f} of {found['all_tiles']:.0f} tiles hold tissue, " if "tiles" in found else ""
    return f"{tiles}{found['seconds']:.0f} s"


def of_toy(side: int, tiles: int, device: str, *, n_factors: int = N_FACTORS, n_genes: int = N_GENES) -> dict[str, Any]:
    """Predict a toy slide, of which ``tiles`` x ``tiles`` tiles hold tissue, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(prepare_toy, Path(name), side, tiles, n_factors, n_genes)
        return dict(apart(predicting_toy, Path(name), device))


def of_real(data: Path, do: Any, device: str) -> dict[str, Any]:
    """Do something with a real section in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        apart(prepare_real, data, Path(name))
        return dict(apart(do, data, Path(name), device))


def prepare_toy(folder: Path, side: int, tiles: int, n_factors: int, n_genes: int) -> None:
    """Write picture, spots and model."""
    import sphisto as sp

    write_picture(folder / "picture.tif", side, tiles)
    adata = section(tiles)
    adata.write_h5ad(folder / "spots.h5ad")
    sp.tl.save(drawn_model(adata, n_factors=n_factors, n_genes=n_genes), folder / "model.pt")


def prepare_real(data: Path, folder: Path) -> None:
    """Write the model; spots and picture are there."""
    import sphisto as sp
    from sphisto.core.spot import Spot

    adata = sp.io.read_visium(data)
    model = drawn_model(adata, n_factors=N_FACTORS, n_genes=N_GENES, um_per_px=REAL_UM_PER_PX, spot=Spot(REAL_SPOT_UM))
    sp.tl.save(model, folder / "model.pt")


def predicting_toy(folder: Path, device: str) -> dict[str, float]:
    """Peak, seconds and tiles of predicting and writing."""
    import anndata as ad

    def do(sp: Any) -> None:
        section = sp.io.section(ad.read_h5ad(folder / "spots.h5ad"), image=str(folder / "picture.tif"), image_scale=1.0)
        sp.tl.predict(sp.tl.load(folder / "model.pt"), section, store=folder / "out.zarr", device=device)

    return _watched(do) | _tiles(folder / "out.zarr")


def predicting_real(data: Path, folder: Path, device: str) -> dict[str, float]:
    """The same of the real section."""

    def do(sp: Any) -> None:
        sp.tl.predict(
            sp.tl.load(folder / "model.pt"), sp.io.read_visium(data), image=str(data / PICTURE),
            store=folder / "out.zarr", device=device,
        )  # fmt: skip

    return _watched(do) | _tiles(folder / "out.zarr")


def fitting_real(data: Path, folder: Path, device: str) -> dict[str, float]:
    """Peak and seconds of fitting the real section."""

    def do(sp: Any) -> None:
        sp.tl.fit_projection(
            sp.io.read_visium(data), image=str(data / PICTURE), um_per_px=2.0, max_epochs=2,
            store=folder / "out.zarr", device=device,
        )  # fmt: skip

    return _watched(do)


def _watched(do: Any) -> dict[str, float]:
    import sphisto as sp

    times: list[float] = []
    most = peak(lambda: times.append(seconds(lambda: quiet(lambda: do(sp)))))
    return {"mb": most, "seconds": middle(times)}


def _tiles(store: Path) -> dict[str, float]:
    """How many tiles hold tissue, and how many there are."""
    import numpy as np

    import sphisto as sp
    from sphisto.core.tiles import on_tissue, plan_tiles

    name = next(path.name for path in (store / "labels").iterdir() if path.is_dir())
    tissue = np.asarray(sp.get.raster(store, name)).astype(bool)
    tiles = plan_tiles(tissue.shape, size=TILE)
    return {"tiles": len(on_tissue(tiles, tissue)), "all_tiles": len(tiles)}
