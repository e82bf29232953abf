"""Large sections with real geometry: 0.5 um pixels, spots of 55 um at 100 um pitch, a picture that is a tiled tif.

Tissue is a tile drawn by :func:`sphisto.datasets.toy`, laid out in mirror images; all else is glass.
"""

from __future__ import annotations

import zlib
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

import sphisto as sp

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.spot import Spot
    from sphisto.predict.fitted import Fitted
    from sphisto.slide.slide import Slide

UM_PER_PX = 0.5
PITCH_UM, SPOT_UM = 100.0, 55.0
TILE = 512  # px, of tif and store
INSET = 40  # px from where a tile begins to the tissue: its border, as it is found, does not touch the tile before
TISSUE = (slice(608, 1120), slice(480, 992))  # of the section that the pattern is cut from: no glass
GLASS = 242
COUNTS = 5_000.0  # of a spot


def tissue_side(tiles: int) -> int:
    """Side in px of a square of tissue that lies on ``tiles`` x ``tiles`` tiles."""
    return tiles * TILE - 2 * INSET


@lru_cache(maxsize=1)
def pattern() -> NDArray[np.uint8]:
    """(1024, 1024, 3) picture of tissue that continues itself on all sides."""
    import sphisto as sp

    drawn = sp.datasets.toy_image(sp.datasets.toy(1280, 1280, um_per_px=UM_PER_PX))
    quarter = np.asarray(drawn[TISSUE])
    half = np.concatenate([quarter, quarter[::-1]])
    return np.concatenate([half, half[:, ::-1]], axis=1)


def picture(y: slice, x: slice, tiles: int) -> NDArray[np.uint8]:
    """Draw a window of the picture, (h, w, 3): glass, and tissue from the second tile on."""
    rows, columns = np.arange(y.start, y.stop), np.arange(x.start, x.stop)
    begin, end = TILE + INSET, TILE + INSET + tissue_side(tiles)
    here = ((rows >= begin) & (rows < end))[:, None] & ((columns >= begin) & (columns < end))
    tissue = pattern()[np.ix_(rows % len(pattern()), columns % len(pattern()))]
    return np.where(here[..., None], tissue, np.uint8(GLASS))


def write_picture(path: Path, side: int, tiles: int) -> None:
    """Write a picture of ``side`` x ``side`` px as a tiled, compressed tif; tiles that are alike are made once."""
    import tifffile

    period = len(pattern()) // TILE

    @cache
    def packed(row: int, column: int) -> bytes:
        y, x = row * TILE, column * TILE
        return zlib.compress(picture(slice(y, y + TILE), slice(x, x + TILE), tiles).tobytes(), 1)

    def like(i: int) -> int:
        """First tile that looks the same, along one axis: all of them away from the tissue's border repeat."""
        if i == 0 or i > tiles:
            return 0
        return i if i in (1, tiles) else 2 + (i - 2) % period

    n = -(-side // TILE)

    def parts():
        for row in range(n):
            for column in range(n):
                glass = like(row) == 0 or like(column) == 0
                yield packed(0, 0) if glass else packed(like(row), like(column))

    tifffile.imwrite(
        path, parts(), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), compression="adobe_deflate",
        photometric="rgb", bigtiff=True,
    )  # fmt: skip


def section(tiles: int, *, n_genes: int = 2_000) -> AnnData:
    """Spots of a section whose tissue lies on ``tiles`` x ``tiles`` tiles, in Visium layout, without a picture."""
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    begin, end = (TILE + INSET) * UM_PER_PX + SPOT_UM, (TILE + INSET + tissue_side(tiles)) * UM_PER_PX - SPOT_UM
    rows, columns = np.mgrid[: int((end - begin) / (PITCH_UM * np.sqrt(0.75))) + 1, : int((end - begin) / PITCH_UM) + 1]
    y, x = begin + rows * PITCH_UM * np.sqrt(0.75), begin + (columns + rows % 2 / 2) * PITCH_UM
    inside = (x < end).ravel()
    rng = np.random.default_rng(0)
    share = rng.gamma(0.3, size=(2, n_genes))
    side = (x - begin) / (end - begin)
    mixed = share[0] * side.reshape(-1, 1) + share[1] * (1 - side.reshape(-1, 1))
    counts = rng.poisson(COUNTS * mixed[inside] / mixed[inside].sum(axis=1, keepdims=True))
    found = AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame(
            {"array_row": rows.ravel()[inside], "array_col": (2 * columns + rows % 2).ravel()[inside]},
            index=[f"spot{i}" for i in range(int(inside.sum()))],
        ),
        var=pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)]),
    )
    found.obsm["spatial"] = np.stack([x.ravel(), y.ravel()], axis=1)[inside] / UM_PER_PX
    return found


def slide_of(adata: AnnData, side: int, tiles: int) -> Slide:
    """The section as arrays, its picture in memory."""
    from sphisto.io.slides import make_slide

    image = picture(slice(0, side), slice(0, side), tiles)
    return make_slide(sp.io.section(adata, image=image, image_scale=1.0))


def drawn_model(
    adata: AnnData, *, n_factors: int, n_genes: int, um_per_px: float = UM_PER_PX, spot: Spot | None = None
) -> Fitted:
    """Make a model of a section that was never fitted: memory and time do not depend on what the weights are.

    ``n_genes`` of its genes are written as rasters.
    """
    import torch

    from sphisto.core.spot import Spot
    from sphisto.genes.model import GeneModel
    from sphisto.networks.registry import network
    from sphisto.predict.fitted import Fitted
    from sphisto.scoring.skill import unknown_skill

    rng, genes = np.random.default_rng(0), tuple(map(str, adata.var_names))
    usual = np.asarray(adata.X.mean(axis=0)).ravel() if adata.n_obs else np.full(len(genes), COUNTS / len(genes))
    loadings = rng.gamma(1.0, size=(len(genes), n_factors)) * (usual + 1e-3)[:, None]
    loadings = (loadings / loadings.sum(axis=0)).astype(np.float32)
    level = np.full(n_factors, usual.sum() / n_factors, dtype=np.float32)
    torch.manual_seed(0)
    module = network("unet").build(torch.from_numpy(level))
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * torch.randn_like(weight)  # some layers start as zeros
    return Fitted(
        "unet", module.state_dict(), GeneModel(genes, loadings), level, level.astype(np.float64), um_per_px,
        spot or Spot(SPOT_UM), is_counts=True, genes=genes[:n_genes],
        params={"precision": "bfloat16"}, history={},
        skill=unknown_skill(len(genes)),
    )  # fmt: skip


def quiet(do: Any) -> Any:
    """Do something without bars, prints and warnings."""
    import contextlib
    import io
    import logging
    import warnings

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return do()
    finally:
        logging.disable(disabled)
