"""What fitting and predicting share: rasters of a slide streamed into a store, and the table that describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from sphisto import __version__, _keys
from sphisto._memory import kept_memory
from sphisto.core.footprint import Footprint, TilePool
from sphisto.io import store as stores
from sphisto.model.inference import predict_tiles, tiles_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.slide import Slide
    from sphisto.model.fitted import Fitted
    from sphisto.model.neighbours import Prior


@kept_memory()
def stream(
    fitted: Fitted, slide: Slide, prior: Prior, staging: Path, key: str, device: torch.device
) -> NDArray[np.float32]:
    """Write the rasters of a slide under its prior, tile by tile; return the (n, K) fitted factor values of its spots."""
    factor_maps, gene_maps, gene_sd, redrawn = stores.create_rasters(staging, slide, fitted.factors, fitted.genes, key)
    genes = list(fitted.genes)
    shown, scatter = fitted.factors.of(genes), fitted.dispersion(genes)[:, None, None]
    pool = TilePool(_footprint(slide), fitted.factors.n_factors)
    tiles = predict_tiles(fitted, slide, prior, device=device)
    for tile, maps in tqdm(tiles, total=len(tiles_of(fitted, slide)), desc="write", unit="tile"):
        factor_maps.write(tile.core, maps.factors)
        expression = fitted.factors.expression(maps.factors, genes)
        gene_maps.write(tile.core, expression)
        variance = np.square(prior.sd(tile.core, shown, expression)) + scatter * np.square(expression)
        gene_sd.write(tile.core, np.sqrt(variance))
        redrawn.write(tile.core, maps.picture)
        pool.add(tile.core, maps.factors)
    return pool.means().astype(np.float32)


def annotate(adata: AnnData, fitted: Fitted, spots: NDArray[np.float32], key: str, record: dict[str, Any]) -> None:
    """Write loadings, fitted values and the record of a projection into an AnnData."""
    position = {gene: i for i, gene in enumerate(fitted.factors.genes)}
    loadings = np.full((adata.n_vars, fitted.factors.n_factors), np.nan, dtype=np.float32)
    known = [i for i, gene in enumerate(adata.var_names) if gene in position]
    loadings[known] = fitted.factors.loadings[[position[adata.var_names[i]] for i in known]]
    adata.varm[_keys.loadings(key)] = loadings
    for name, values in (
        (_keys.skill(key), fitted.skill.pearson),
        (_keys.deviance_explained(key), fitted.skill.deviance_explained),
        (_keys.dispersion(key), fitted.skill.dispersion),
    ):
        column = np.full(adata.n_vars, np.nan, dtype=np.float32)
        column[known] = values[[position[adata.var_names[i]] for i in known]]
        adata.var[name] = column
    adata.obsm[_keys.fitted(key)] = spots
    adata.uns[key] = record


def record_of(
    fitted: Fitted, slide: Slide, store: Path, model: Path | None, seconds: dict[str, float]
) -> dict[str, Any]:
    """Make the entry of ``uns``: parameters, places, unit, history; only values that any AnnData file can hold."""
    params = {
        **fitted.params,
        "library_id": slide.name,
        "um_per_px": slide.grid.um_per_px,
        "fullres_um_per_px": slide.grid.fullres_um_per_px,
        "spot_um": slide.spot.um,
        "spot_shape": slide.spot.shape,
        "is_counts": fitted.is_counts,
        "genes": list(fitted.genes),
        "version": __version__,
    }
    return {
        "params": params,
        "store": str(store),
        "model": str(model) if model else "",
        "unit": _keys.UNIT if fitted.is_counts else "value per spot",
        "history": dict(fitted.history),
        "seconds": seconds,
    }


def _footprint(slide: Slide) -> Footprint:
    if slide.measured is None:
        return Footprint.from_discs(slide.grid.shape, np.zeros((0, 2)), 1.0)
    return slide.footprint()
