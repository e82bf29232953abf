"""Sum rasters over regions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto.core.footprint import Footprint
from sphisto.core.pooling import TilePool
from sphisto.core.tiles import plan_tiles
from sphisto.genes.model import rates
from sphisto.io import regions as shapes
from sphisto.io.store import read as stores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.io.store.read import Store
    from sphisto.io.store.stored_raster import StoredRaster

logger = logging.getLogger("sphisto")


def aggregate(
    store: Store,
    regions: Any,
    *,
    radius: float | NDArray[Any] | None = None,
    genes: str | Sequence[str] | None = None,
    key: str = "projection",
    library_id: str | None = None,
) -> AnnData:
    """Sum the rasters over regions of tissue, by the same area-true pooling as in the fit.

    Parameters
    ----------
    store
        Path of a store, or the SpatialData read from it.
    regions
        Circles: (n, 2) array of x, y in ``global`` (full-resolution px) with ``radius``. Polygons: GeoDataFrame, with
        holes and several parts if need be; where they cross themselves or overlap, the area they cover counts once.
        Points with a column ``radius``, or ``radius``. Labels (0 is background). Shapes and labels elements of a
        SpatialData, or their names in the store, lie where their transformation to ``global`` says; a GeoDataFrame
        without one lies in ``global``, whatever its reference system.
    radius
        Radius of the circles in full-resolution px: one, or (n,).
    genes
        Genes to sum; default all that are modelled.
    key
        Which projection of the store.
    library_id
        Which section, where several were fitted together.

    Returns
    -------
    AnnData regions x genes. ``X``: expected counts in each region (float32). ``layers["density"]``: mean raster value
    over the region's tissue (counts per spot area; NaN without tissue). ``obs["coverage"]``: share of the region's area
    that lies in tissue and image; what lies outside counts nothing in ``X``. ``obs["area_um2"]``: whole area.
    ``obsm["spatial"]``: (x, y) of the region's centre (of the part in the image) in ``global``.

    Raises
    ------
    ValueError
        If the regions are of no known kind or without a place in ``global``, none of them touches the raster, or one of
        several sections must be chosen.
    KeyError
        If a gene, projection or element is not there.

    Examples
    --------
    >>> import numpy as np, sphisto as sp
    >>> cells = sp.tl.aggregate("toy.zarr", np.array([[120.0, 80.0]]), radius=5)  # doctest: +SKIP
    """
    key = stores.projection(store, key, library_id)
    stored = stores.raster(store, _keys.factors(key))
    model = stores.factors(store, key)
    modelled = [gene for gene, row in zip(model.genes, model.loadings, strict=True) if not np.isnan(row).any()]
    names = modelled if genes is None else [genes] if isinstance(genes, str) else list(genes)
    rows = model.rows(names).astype(np.float64)
    footprint, index = shapes.footprint(store, regions, stored.grid, radius)
    sums, tissue = _pool(stored, footprint)
    spot_area = stores.spot(store, key).area_px(stored.grid.um_per_px)
    integral = rates(sums, rows, model.n_contrasts)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = np.where(tissue[:, None] > 0, integral / tissue[:, None], np.nan)
    return _table(footprint, index, names, integral / spot_area, density, tissue, stored.grid)


def _pool(stored: StoredRaster, footprint: Footprint) -> tuple[Any, Any]:
    """Sum factor maps and tissue over the regions, tile by tile; tiles that no region touches are not read."""
    pool = TilePool(footprint, len(stored.channels))
    inside = TilePool(footprint, 1)
    for tile in plan_tiles(stored.grid.shape):
        if len(footprint.within(tile.core).weight) == 0:
            continue
        maps = stored.read(0, tile.core)
        pool.add(tile.core, maps)
        inside.add(tile.core, np.isfinite(maps[:1]).astype(np.float32))
    return pool.sums, inside.sums[:, 0]


def _table(
    footprint: Footprint, index: Any, names: list[str], counts: Any, density: Any, tissue: Any, grid: Any
) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    with np.errstate(invalid="ignore", divide="ignore"):
        coverage = tissue / footprint.area
    obs = pd.DataFrame(
        {"coverage": coverage, "area_um2": footprint.area * grid.um_per_px**2}, index=unique_names(index)
    )
    table = AnnData(counts.astype(np.float32), obs=obs, var=pd.DataFrame(index=names))
    table.layers["density"] = density.astype(np.float32)
    table.obsm["spatial"] = grid.to_fullres(footprint.centroids())[:, ::-1]
    return table


def unique_names(index: Any) -> Any:
    """Names of the regions; those that come twice get a number, as anndata gives them."""
    import pandas as pd
    from anndata.utils import make_index_unique

    names = pd.Index(index).astype(str)
    if names.is_unique:
        return names
    logger.warning(
        "Names of regions that come more than once get a number: %s.", ", ".join(names[names.duplicated()][:5])
    )
    return make_index_unique(names)
