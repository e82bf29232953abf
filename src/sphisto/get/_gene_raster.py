"""Any gene of the table as a raster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphisto.get._raster import as_dataarray, window_of
from sphisto.io.store import read as stores
from sphisto.io.store.data import store_of
from sphisto.io.store.stored_genes import stored_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xarray import DataArray

    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox


def gene_raster(
    store: Data,
    genes: str | Sequence[str],
    *,
    bbox: BBox | None = None,
    scale: int = 0,
    key: str = "projection",
    library_id: str | None = None,
) -> DataArray:
    """Compute the raster of any gene of the table from the stored factor maps and loadings.

    Parameters
    ----------
    store
        Path of a store, the SpatialData read from it, or the AnnData that was fitted.
    genes
        One name or several, of ``table.var_names``.
    bbox
        ``(x_min, y_min, x_max, y_max)`` in ``global`` (full-resolution px); default: everything.
    scale
        Pyramid level; each halves the resolution, 0 is the finest.
    key
        Which projection of the store.
    library_id
        Which section, where several were fitted together.

    Returns
    -------
    DataArray ``(gene, y, x)`` float32: expected counts per spot area (of bins: per bin area), NaN outside tissue. The
    coordinates ``y`` and ``x`` are the pixels' centres in ``global``; ``attrs`` hold ``unit`` and ``um_per_px``.

    Raises
    ------
    KeyError
        If a gene is not in the table or not modelled, or there is no such projection.
    TypeError
        If it is nothing that leads to a store.
    ValueError
        If the level is not there, the box lies outside the raster, or one of several sections must be chosen.

    Examples
    --------
    >>> import sphisto as sp
    >>> nrgn = sp.get.gene_raster("mouse_brain.zarr", "Nrgn", bbox=(4000, 3000, 6000, 5000))  # doctest: +SKIP
    """
    names = [genes] if isinstance(genes, str) else list(genes)
    store = store_of(store, key)
    key = stores.projection(store, key, library_id)
    found = stored_genes(store, key, names)
    grid = found.maps.grid_at(scale)
    window = window_of(grid, bbox)
    labelled = as_dataarray(found.read(scale, window), names, grid, window, key).rename(c="gene")
    return labelled.assign_attrs(unit=stores.unit(store, key))
