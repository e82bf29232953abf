"""Sum rasters over regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._former import former_keywords, named
from sphisto._progress import stage
from sphisto._settings import logger
from sphisto.core.bins import square_bins
from sphisto.core.pieces import in_pieces
from sphisto.core.pooling import TilePool
from sphisto.core.tiles import plan_tiles
from sphisto.genes.lognorm import expected_lognorm
from sphisto.genes.model import rates
from sphisto.io.regions.understand import footprint as footprint_of
from sphisto.io.store import read as stores
from sphisto.io.store.data import store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame

    from sphisto.core.grid import Grid
    from sphisto.core.pooling import Regions
    from sphisto.genes.model import GeneModel
    from sphisto.io.store.data import Data
    from sphisto.io.store.read import Store
    from sphisto.io.store.stored_raster import StoredRaster


@former_keywords(bins_um=named("square_um"))
def aggregate(
    store: Data,
    regions: Any = None,
    *,
    square_um: float | None = None,
    radius: float | NDArray[Any] | None = None,
    genes: str | Sequence[str] | None = None,
    target_sum: float | None = None,
    key: str = "projection",
    library_id: str | None = None,
) -> AnnData:
    """Sum the rasters over regions of tissue, by the same area-true pooling as in the fit.

    ``X`` holds expected counts, not measured ones: in a cell most genes are expected to have a fraction of a count. For
    what follows on logarithms (scores of gene sets, clusters, comparisons with measured cells) take
    ``layers["lognorm"]`` rather than ``scanpy.pp.log1p`` of ``X``: the logarithm of an expected count is not what the
    logarithm of counts is on average.

    Parameters
    ----------
    store
        Path of a store, the SpatialData read from it, or the AnnData that was fitted.
    regions
        Circles: (n, 2) array of x, y in ``global`` (full-resolution px) with ``radius``. Polygons: GeoDataFrame, with
        holes and several parts if need be; where they cross themselves or overlap, the area they cover counts once.
        Points with a column ``radius``, or ``radius``. Labels (0 is background). Shapes and labels elements of a
        SpatialData, or their names in the store, lie where their transformation to ``global`` says (of sections that
        were fitted together: to ``{lib}``); a GeoDataFrame without one lies there, whatever its reference system. The path of
        a file of outlines (GeoJSON, GeoParquet) or circles (csv with x, y, radius), as on the command line. An array of whole
        numbers of the raster's shape: labels on its pixels.
    square_um
        Instead of ``regions``: side in um of square bins, at least a pixel, that tile the raster from its upper left corner;
        those that hold tissue are returned. Take 8 or 16 for tables like those of Visium HD. Bins of one section are
        computed from the same spots: their number is no number of observations.
    radius
        Radius of the circles in full-resolution px: one, or (n,).
    genes
        Genes to sum; default all that are modelled.
    target_sum
        Counts of all modelled genes to which those of each region are scaled before the logarithm is taken in
        ``layers["lognorm"]``, as in :func:`scanpy.pp.normalize_total`; default the median of the section's spots (in a
        projection without spots: of the regions). Set it to that of measured cells to compare with them.
    key
        Which projection of the store.
    library_id
        Which section, where several were fitted together.

    Returns
    -------
    AnnData regions x genes. ``X``: expected counts in each region (float32). ``layers["density"]``: mean raster value
    over the region's tissue (counts per spot area; NaN without tissue). ``obs["coverage"]``: share of the region's area
    that lies in tissue and image; what lies outside counts nothing in ``X``. ``obs["area_um2"]``: whole area.
    ``obsm["spatial"]``: (x, y) of the region's centre (of the part in the image) in ``global``. Of bins, which are called
    ``bin_{row}_{column}``, also ``obs["array_row"]`` and ``obs["array_col"]``, counted from 0.
    ``layers["sd"]``: standard deviation of ``X``, where the store holds standard deviations, which is for the genes that
    were written as rasters; NaN for others, without tissue, and where no spot is known. Those of a region's pixels are taken to err together, as they do within the
    distance of two spots: of larger regions it is the most that it can be. ``layers["lognorm"]``: expected value of
    ``log1p(target_sum * y / n)``, y the gene's count in the region (negative binomial by rate and dispersion) and n that
    of all modelled genes; NaN without tissue, and only where counts were fitted. ``uns["lognorm"]``: its ``target_sum``.

    Raises
    ------
    ValueError
        If the regions are of no known kind or without a place in ``global``, none of them touches the raster, one of
        several sections must be chosen, ``target_sum`` is not positive, bins are smaller than a pixel, or not either of
        ``regions`` and ``square_um`` is given.
    KeyError
        If a gene, projection or element is not there.
    TypeError
        If ``store`` is nothing that leads to a store, or ``regions`` is a whole AnnData or SpatialData.
    FileNotFoundError
        If ``regions`` is called as a file is, and there is none.

    Examples
    --------
    >>> import numpy as np, sphisto as sp
    >>> cells = sp.tl.aggregate("toy.zarr", np.array([[120.0, 80.0]]), radius=5)  # doctest: +SKIP
    >>> bins = sp.tl.aggregate("toy.zarr", square_um=16)  # doctest: +SKIP
    >>> bins = bins[bins.obs["coverage"] > 0.5].copy()  # doctest: +SKIP
    """
    if (regions is None) == (square_um is None):
        found = "neither" if regions is None else "both"
        msg = f"Found {found} of `regions` and `square_um`; expected one of them."
        raise ValueError(msg)
    if square_um is not None and radius is not None:
        msg = "Found `radius` together with `square_um`; expected it with points only. Leave it out."
        raise ValueError(msg)
    if target_sum is not None and not 0 < target_sum < np.inf:
        msg = f"Found target_sum={target_sum!r}; expected a positive number of counts."
        raise ValueError(msg)
    import pandas as pd

    store = store_of(store, key)
    key = stores.projection(store, key, library_id)
    stored = stores.raster(store, _keys.factors(key))
    model = stores.factors(store, key)
    modelled = model.of(
        [gene for gene, row in zip(model.genes, model.loadings, strict=True) if not np.isnan(row).any()]
    )
    names = list(modelled.genes) if genes is None else [genes] if isinstance(genes, str) else list(genes)
    chosen = model.of(names)  # names what is not there, before anything is read
    footprint: Regions
    if square_um is None:
        drawn, index = footprint_of(store, regions, stored.grid, radius, stores.system(store, key))
        sums, tissue = _pool(stored, drawn)
        footprint, obs, centers = drawn, pd.DataFrame(index=unique_names(index)), drawn.centroids()
    else:
        every, place = square_bins(stored.grid, square_um)
        sums, tissue = _pool(stored, every)
        held = np.flatnonzero(tissue > 0)
        footprint, sums, tissue = every.select(held), sums[held], tissue[held]
        obs, centers = _bins_obs(place[held]), every.centers[held]
        _say_large(len(held), len(names), square_um)
    spot_area = stores.spot(store, key).area_px(stored.grid.um_per_px)
    table = _table(footprint, obs, centers, names, tissue, stored.grid)
    _fill(table, sums / spot_area, tissue / spot_area, chosen)
    table.layers["sd"] = _sd(store, key, footprint, names) / spot_area
    if stores.unit(store, key) != _keys.VALUE:
        total = _totals(sums / spot_area, modelled)
        if target_sum is None:
            fitted = stores.fitted(store, key)
            usual = _totals(fitted, modelled) if len(fitted) else total[tissue > 0]
            target_sum = float(np.median(usual)) if len(usual) else np.nan
        dispersion = stores.gene_column(store, _keys.dispersion(key), key)
        scatter = np.array([dispersion.get(name, np.nan) for name in names])
        table.layers["lognorm"] = expected_lognorm(table.X, scatter, total, target_sum)
        table.layers["lognorm"][tissue == 0] = np.nan
        table.uns["lognorm"] = {"target_sum": target_sum}
    return table


def _pool(stored: StoredRaster, footprint: Regions, channels: Sequence[int] | None = None) -> tuple[Any, Any]:
    """Sum channels and tissue of a raster over the regions, tile by tile; tiles that no region touches are not read."""
    wanted = np.arange(len(stored.channels)) if channels is None else np.asarray(channels)
    pool = TilePool(footprint, len(wanted))
    inside = TilePool(footprint, 1)
    tiles = [tile for tile in plan_tiles(stored.grid.shape) if len(footprint.within(tile.core).weight)]
    what = "sum over regions" if channels is None else "deviations in regions"
    with stage(what, len(tiles), unit="tile") as bar:
        for tile in tiles:
            maps = stored.read(0, tile.core, wanted)
            pool.add(tile.core, maps)
            inside.add(tile.core, np.isfinite(maps[:1]).astype(np.float32))
            bar.update()
    return pool.sums, inside.sums[:, 0]


def _fill(table: AnnData, sums: Any, tissue: Any, model: GeneModel) -> None:
    """Turn factors summed over regions into counts and densities, some regions at a time: not all in double precision."""
    table.X = np.empty(table.shape, dtype=np.float32)
    table.layers["density"] = np.empty(table.shape, dtype=np.float32)
    for rows in in_pieces(len(sums), len(model.genes)):
        counts = rates(sums[rows], model.loadings.astype(np.float64), model.n_contrasts)
        table.X[rows] = counts
        with np.errstate(invalid="ignore", divide="ignore"):
            table.layers["density"][rows] = np.where(tissue[rows, None] > 0, counts / tissue[rows, None], np.nan)


def _totals(factors: Any, model: GeneModel) -> Any:
    """(m,) counts of all genes of a model at (m, K) factor values."""
    loadings = model.loadings.astype(np.float64)
    parts = [
        rates(factors[rows], loadings, model.n_contrasts).sum(axis=1)
        for rows in in_pieces(len(factors), len(model.genes))
    ]
    return np.concatenate(parts)


def _sd(store: Store, key: str, footprint: Regions, names: list[str]) -> NDArray[np.float32]:
    """(m, G) standard deviations of genes integrated over regions; NaN where the store holds none or none is known."""
    stored = stores.raster(store, _keys.sd(key))
    found = np.full((len(footprint), len(names)), np.nan, dtype=np.float32)
    channel = {name: c for c, name in enumerate(stored.channels)}
    written = [i for i, name in enumerate(names) if name in channel]
    if written:
        sums, known = _pool(stored, footprint, [channel[names[i]] for i in written])
        found[:, written] = np.where(known[:, None] > 0, sums, np.nan)
    return found


def _table(footprint: Regions, obs: DataFrame, centers: Any, names: list[str], tissue: Any, grid: Grid) -> AnnData:
    import pandas as pd
    from anndata import AnnData

    with np.errstate(invalid="ignore", divide="ignore"):
        obs["coverage"] = tissue / footprint.area
    obs["area_um2"] = footprint.area * grid.um_per_px**2
    table = AnnData(obs=obs, var=pd.DataFrame(index=names))
    table.obsm["spatial"] = grid.to_fullres(centers)[:, ::-1]
    return table


def _bins_obs(place: NDArray[np.int64]) -> DataFrame:
    import pandas as pd

    names = [f"bin_{row}_{column}" for row, column in place.tolist()]
    return pd.DataFrame({"array_row": place[:, 0], "array_col": place[:, 1]}, index=names)


def _say_large(n_bins: int, n_genes: int, square_um: float, *, many_gb: float = 8) -> None:
    """Warn of a table that may not fit into memory: of its values there are four kinds."""
    size = 4 * 4 * n_bins * n_genes / 1e9
    if size > many_gb:
        logger.warning(
            "%d bins of %g um with %d genes take some %.0f GB of memory. Name fewer `genes`, or take a larger `square_um`.",
            n_bins, square_um, n_genes, size,
        )  # fmt: skip


def unique_names(index: Any) -> Any:
    """Names of the regions; those that come twice get a number, as anndata gives them."""
    import pandas as pd
    from anndata.utils import make_index_unique

    names = pd.Index(index).astype(str)
    if names.is_unique:
        return names
    logger.warning(
        "Names of regions that come more than once get a number: %s. Give `regions` an index without repetitions.",
        ", ".join(names[names.duplicated()][:5]),
    )
    return make_index_unique(names)
