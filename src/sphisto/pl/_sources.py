"""Where plots take their pixels, spots and values from: a store, or an AnnData in the Visium layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sphisto import _keys, get
from sphisto._facts import some
from sphisto.core.tiles import TILE
from sphisto.genes.model import require_genes
from sphisto.io.calibration import calibration_of
from sphisto.io.counts import in_memory, matrix_of
from sphisto.io.layout_anndata import spots_of_anndata
from sphisto.io.libraries import library_of
from sphisto.io.store import read as stores
from sphisto.io.store.data import is_anndata, store_of
from sphisto.pl._frame import extent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from xarray import DataArray

    from sphisto.io.store.data import Data
    from sphisto.io.store.read import Store
    from sphisto.io.window import BBox
    from sphisto.pl._frame import Extent

_MOST_PX = 2 * TILE  # on a panel's longer side: more than a screen or a printed column resolves


@dataclass(frozen=True, eq=False)
class PlacedImage:
    """An image, (y, x, 3) float in 0 to 1 or with a fourth channel for transparency, and where it lies."""

    pixels: NDArray[np.float32]
    extent: Extent


@dataclass(frozen=True, eq=False)
class Spots:
    """Spots: rows of the table, (n, 2) centres (x, y), diameter (or side) and um of full-resolution px, shape and turn."""

    rows: NDArray[np.intp]
    xy: NDArray[np.float64]
    size: float
    shape: str
    um_per_px: float
    turn: float = 0.0

    @property
    def extent(self) -> Extent:
        """(left, right, bottom, top) of all spots in full-resolution px."""
        low, high = self.xy.min(axis=0) - self.size / 2, self.xy.max(axis=0) + self.size / 2
        return float(low[0]), float(high[0]), float(high[1]), float(low[1])


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of spots, such as clusters: (n,) number of each spot's, -1 for none; names and colours of the groups."""

    codes: NDArray[np.intp]
    names: list[str]
    colours: list[Any]

    @property
    def of_spots(self) -> list[Any]:
        """(n,) colours of the spots, grey for those in no group."""
        return [self.colours[code] if code >= 0 else "lightgrey" for code in self.codes]


def groups_of(table: AnnData, column: str) -> Groups:
    """Read the groups of a column of ``obs``, in scanpy's colours if there are any."""
    import matplotlib as mpl

    labels = table.obs[column].astype("category")
    names = list(map(str, labels.cat.categories))
    colours = list(table.uns.get(f"{column}_colors", []))
    if len(colours) < len(names):
        cycle = mpl.colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
        colours = [cycle[i % len(cycle)] for i in range(len(names))]
    return Groups(labels.cat.codes.to_numpy().astype(np.intp), names, colours)


def is_numeric(table: AnnData, column: str) -> bool:
    """Whether a column of ``obs`` holds numbers, and not names of groups."""
    kind = table.obs[column].dtype
    return str(getattr(kind, "kind", "")) in ("i", "u", "f") and str(kind) != "category"


def projection_of(data: Data, key: str, library_id: str | None) -> tuple[Store, str]:
    """Return the store, and how a projection's elements are called there."""
    store = store_of(data, key)
    return store, stores.projection(store, key, library_id)


def choose_scale(store: Store, name: str, bbox: BBox | None, scale: int | None) -> int:
    """Return the pyramid level that was chosen, else the finest of which the box is small enough to be drawn."""
    if scale is not None:
        return scale
    raster = stores.raster(store, name)
    for level in range(len(raster.shapes)):
        grid = raster.grid_at(level)
        sides: Sequence[float] = grid.shape
        if bbox is not None:
            fullres = (bbox[3] - bbox[1], bbox[2] - bbox[0])
            sides = [min(n, f / px) for n, f, px in zip(grid.shape, fullres, grid.fullres_per_px, strict=True)]
        if max(sides) <= _MOST_PX:
            return level
    return len(raster.shapes) - 1


def stored_image(store: Store, name: str, bbox: BBox | None, scale: int | None) -> tuple[PlacedImage, DataArray]:
    """Read a colour image of a store; return it with the raster it was made from."""
    raster = get.raster(store, name, bbox=bbox, scale=choose_scale(store, name, bbox, scale))
    return PlacedImage(as_rgb(raster.transpose("y", "x", "c").values), extent_of(raster)), raster


def section_image(adata: AnnData, library_id: str | None) -> PlacedImage | None:
    """Return the hires or lowres image of an AnnData, if there is one."""
    _, section = library_of(adata, library_id)
    for name in ("hires", "lowres"):
        pixels = section.get("images", {}).get(name)
        factor = section.get("scalefactors", {}).get(f"tissue_{name}_scalef")
        if pixels is not None and factor is not None:
            step = -(-max(pixels.shape[:2]) // (2 * _MOST_PX))
            height, width = (n / float(factor) for n in pixels.shape[:2])
            return PlacedImage(as_rgb(np.asarray(pixels[::step, ::step])), (0.0, width, height, 0.0))
    return None


def as_rgb(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Turn (y, x, c) or (y, x) pixels, integer or in 0 to 1, into colours in 0 to 1; NaN becomes transparent."""
    top = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    values = (np.atleast_3d(pixels) / np.float32(top)).astype(np.float32)
    rgb = values[..., :3] if values.shape[-1] >= 3 else np.repeat(values[..., :1], 3, axis=-1)
    unknown = np.isnan(rgb).any(axis=-1, keepdims=True)
    rgb = np.clip(np.where(unknown, 1, rgb), 0, 1)
    return np.concatenate([rgb, 1 - unknown.astype(np.float32)], axis=-1) if unknown.any() else rgb


def spots_of(table: AnnData, *, key: str, library_id: str | None) -> Spots:
    """Find place and true size of the spots: from a fit's parameters, else from the array they were printed on."""
    if table.n_obs == 0:
        msg = "Found a slide without spots, of which nothing was measured; expected spots. Draw its maps by `sphisto.pl.projection`."
        raise ValueError(msg)
    record = table.uns.get(key)
    params = dict(record.get("params", {})) if hasattr(record, "get") else {}
    fitted = params.get("library_id")
    known = table.uns.get("spatial", {})
    found = spots_of_anndata(table, fitted if library_id is None and fitted in known else library_id)
    xy = found.centers[:, ::-1]
    if "fullres_um_per_px" not in params or library_id not in (None, params.get("library_id")):
        scale = calibration_of(found)
        return Spots(found.rows, xy, scale.spot_um / scale.um_per_px, scale.spot_shape, scale.um_per_px, scale.turn)
    um_per_px, shape = float(params["fullres_um_per_px"]), str(params.get("spot_shape", "disc"))
    return Spots(
        found.rows, xy, float(params["spot_um"]) / um_per_px, shape, um_per_px, float(params.get("spot_turn", 0.0))
    )


def counts_of(table: AnnData, genes: Sequence[str], layer: str | None) -> tuple[NDArray[np.float64], str]:
    """Return measured values (spots, genes) with the label of their unit.

    They are taken from ``layer``, by default ``"counts"`` if there is one, else ``X``.
    """
    layer = "counts" if layer is None and "counts" in table.layers else layer
    values = columns_of(table, genes, layer)
    return values, unit_of(values, layer)


def unit_of(values: NDArray[np.float64], layer: str | None) -> str:
    """Label of measured values: counts if they can be, else what they are called in the table."""
    whole = bool((values >= 0).all() and (values == np.round(values)).all())
    return "counts per spot" if whole else (layer or "X")


def columns_of(table: AnnData, genes: Sequence[str], layer: str | None) -> NDArray[np.float64]:
    """Return (spots, genes) values of some genes, from a layer, ``.raw`` or ``X``."""
    matrix, where = matrix_of(table, layer)
    known = list(map(str, table.var_names))
    require_genes(genes, known, table.var)
    chosen = in_memory(matrix, where)[:, [known.index(gene) for gene in genes]]
    return np.asarray(chosen.toarray() if hasattr(chosen, "toarray") else chosen, dtype=np.float64)


def names_of(genes: str | Iterable[str]) -> list[str]:
    """Return one name or several as a list."""
    names = [genes] if isinstance(genes, str) else list(genes)
    if not names:
        msg = "Found no gene to draw; expected at least one name in `genes`."
        raise ValueError(msg)
    return names


def gene_rasters(store: Store, genes: list[str], *, key: str, bbox: BBox | None, scale: int | None) -> DataArray:
    """Read (gene, y, x) rasters at a level that is fine enough to draw."""
    level = choose_scale(store, _keys.factors(key), bbox, scale)
    rasters: DataArray = get.gene_raster(store, genes, bbox=bbox, scale=level, key=key)
    return rasters


def sd_rasters(store: Store, genes: list[str], *, key: str, bbox: BBox | None, scale: int | None) -> DataArray:
    """Read (c, y, x) standard deviations of genes at such a level; refuse genes that were not written as rasters."""
    name = _keys.sd(key)
    written = list(stores.raster(store, name).channels)
    missing = [gene for gene in genes if gene not in written]
    if missing:
        msg = (
            f"Found no standard deviation of {', '.join(map(repr, missing))}; there are those of the genes that were written as "
            f"rasters: {some(written)}. Fit with others in `genes=`."
        )
        raise KeyError(msg)
    rasters = get.raster(store, name, bbox=bbox, scale=choose_scale(store, name, bbox, scale)).sel(c=genes)
    rasters.attrs["unit"] = f"sd, {stores.unit(store, key)}"
    return rasters


def skill_of(data: Data, genes: Iterable[str], key: str) -> list[float]:
    """Correlation of each gene at left-out spots, as the fit found it; NaN where that is not known."""
    name = _keys.skill(key)
    own: Any = cast("AnnData", data).var if is_anndata(data) else {}
    if name in own:
        column = dict(zip(map(str, own.index), own[name], strict=True))
    else:
        column = stores.gene_column(store_of(data, key), name, key)
    return [float(column.get(gene, np.nan)) for gene in genes]
