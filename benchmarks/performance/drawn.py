"""Large drawn sections: 0.5 um pixels, spots of 55 um at 100 um pitch, an image that is a tiled tif.

Tissue is a piece drawn by :func:`sphisto.datasets.toy`, laid out in mirror images from the second tile on; all else is
glass.
"""

import zlib
from functools import cache

import numpy as np
import pandas as pd
import tifffile
import torch
from anndata import AnnData
from scipy import sparse

import sphisto as sp
from sphisto.core.spot import Spot
from sphisto.genes.model import GeneModel
from sphisto.networks.registry import network
from sphisto.predict.fitted import Fitted
from sphisto.scoring.skill import unknown_skill

UM_PER_PX = 0.5
PITCH_UM, SPOT_UM = 100.0, 55.0
TILE = 512  # px, of tif and store
INSET = 40  # px from where a tile begins to the tissue: its border, as it is found, does not touch the tile before
TISSUE = (slice(608, 1120), slice(480, 992))  # of the section that the pattern is cut from: no glass
GLASS, COUNTS = 242, 5_000.0  # grey level; counts of a spot


@cache
def pattern():
    """(1024, 1024, 3) image of tissue that continues itself on all sides."""
    quarter = np.asarray(sp.datasets.toy_image(sp.datasets.toy(1280, 1280, um_per_px=UM_PER_PX))[TISSUE])
    half = np.concatenate([quarter, quarter[::-1]])
    return np.concatenate([half, half[:, ::-1]], axis=1)


def image(y, x, tiles):
    """Draw a window (two slices), (h, w, 3), of an image whose tissue lies on ``tiles`` x ``tiles`` tiles."""
    rows, columns = np.arange(y.start, y.stop), np.arange(x.start, x.stop)
    begin, end = TILE + INSET, TILE + tiles * TILE - INSET
    here = ((rows >= begin) & (rows < end))[:, None] & ((columns >= begin) & (columns < end))
    tissue = pattern()[np.ix_(rows % len(pattern()), columns % len(pattern()))]
    return np.where(here[..., None], tissue, np.uint8(GLASS))


def write_image(path, side, tiles) -> None:
    """Write an image of ``side`` x ``side`` px as a tiled, compressed tif; tiles that are alike are made once."""

    @cache
    def packed(row, column):
        y, x = row * TILE, column * TILE
        return zlib.compress(image(slice(y, y + TILE), slice(x, x + TILE), tiles).tobytes(), 1)

    def like(i):
        """First tile that looks the same, along one axis: those away from the tissue's border repeat the pattern."""
        outside, border = i == 0 or i > tiles, i in (1, tiles)
        return 0 if outside else i if border else 2 + (i - 2) % (len(pattern()) // TILE)

    places = [like(i) for i in range(-(-side // TILE))]
    parts = (packed(0, 0) if 0 in (row, column) else packed(row, column) for row in places for column in places)
    tifffile.imwrite(
        path, parts, shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), compression="adobe_deflate",
        photometric="rgb", bigtiff=True,
    )  # fmt: skip


def spots(tiles, *, n_genes=2_000) -> AnnData:
    """Spots on such tissue, in Visium layout, without an image."""
    begin, end = (TILE + INSET) * UM_PER_PX + SPOT_UM, (TILE + tiles * TILE - INSET) * UM_PER_PX - SPOT_UM
    rows, columns = np.mgrid[: int((end - begin) / (PITCH_UM * np.sqrt(0.75))) + 1, : int((end - begin) / PITCH_UM) + 1]
    y, x = begin + rows * PITCH_UM * np.sqrt(0.75), begin + (columns + rows % 2 / 2) * PITCH_UM
    inside, rng = (x < end).ravel(), np.random.default_rng(0)
    share, side = rng.gamma(0.3, size=(2, n_genes)), ((x - begin) / (end - begin)).reshape(-1, 1)[inside]
    mixed = share[0] * side + share[1] * (1 - side)
    counts = rng.poisson(COUNTS * mixed / mixed.sum(axis=1, keepdims=True))
    obs = pd.DataFrame({"array_row": rows.ravel()[inside], "array_col": (2 * columns + rows % 2).ravel()[inside]})
    obs.index = [f"spot{i}" for i in range(len(obs))]
    var = pd.DataFrame(index=[f"gene{i}" for i in range(n_genes)])
    found = AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    found.obsm["spatial"] = np.stack([x.ravel(), y.ravel()], axis=1)[inside] / UM_PER_PX
    return found


def model(adata, *, n_factors, n_genes, um_per_px=UM_PER_PX, spot=None):
    """A model of spots that was never fitted, of which ``n_genes`` are written: weights do not matter for memory and time."""
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
        spot or Spot(SPOT_UM), is_counts=True, genes=genes[:n_genes], params={"precision": "bfloat16"}, history={},
        skill=unknown_skill(len(genes)),
    )  # fmt: skip
