"""The SpatialData zarr store of a projection: what is written where, and how it is read again.

All elements lie in ``global``, the full-resolution pixels of the slide. The root attribute ``sphisto`` names the
library, its projections and the grid of every raster, so that a window of one element is read without opening the
others.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sphisto import __version__, _keys
from sphisto.core.grid import Grid
from sphisto.core.slide import Slide, Spot
from sphisto.core.tiles import Window
from sphisto.io.quiet import quiet
from sphisto.io.raster import RasterWriter, create_raster, image_element, pyramid_factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.core.factors import Factors

    Store: TypeAlias = str | Path | SpatialData

_RASTERS = ("images", "labels")


@dataclass(frozen=True)
class StoredRaster:
    """A raster element as it lies in a store: pyramid levels (finest first), channel names and the finest grid."""

    levels: tuple[Any, ...]
    channels: tuple[str, ...]
    grid: Grid

    def grid_at(self, scale: int) -> Grid:
        """Grid of a pyramid level; refuses levels that are not there."""
        if not 0 <= scale < len(self.levels):
            msg = (
                f"Found {len(self.levels)} pyramid levels; expected `scale` from 0 to {len(self.levels) - 1}: {scale}."
            )
            raise ValueError(msg)
        return self.grid.resized(*self.levels[scale].shape[-2:])

    def read(self, scale: int, window: Window, channels: Any = slice(None)) -> NDArray[Any]:
        """Read a window (level px, inside the raster) of some channels."""
        level = self.levels[scale]
        if level.ndim == 2:
            return np.asarray(level[window.slices])
        chosen = range(*channels.indices(level.shape[0])) if isinstance(channels, slice) else channels
        return np.stack([np.asarray(level[(c, *window.slices)]) for c in chosen])


def check_target(store: Path, library_id: str) -> None:
    """Refuse a path that holds something else than a store of this library.

    Raises
    ------
    FileExistsError
        If the path is taken by something that sphisto did not write, or by another library.
    """
    if not store.exists():
        return
    mark = _read_mark(store) if store.is_dir() else None
    if mark is None:
        msg = f"{store} exists and is not a store of sphisto; it is left alone. Choose another `store` or move it away."
        raise FileExistsError(msg)
    if mark["library_id"] != library_id:
        msg = (
            f"{store} holds the library {mark['library_id']!r}, not {library_id!r}; it is left alone. "
            "Choose another `store`."
        )
        raise FileExistsError(msg)


def check_space(staging: Path, grid: Grid, n_channels: int) -> None:
    """Refuse to start when the disk cannot hold the rasters.

    Raises
    ------
    OSError
        If less than a cautious estimate is free.
    """
    # a cautious guess: rounding and compression about halve the maps, the pyramid adds a third
    need = grid.height * grid.width * n_channels * 4 * 0.7
    free = shutil.disk_usage(staging).free
    if free < need:
        msg = (
            f"The rasters need about {need / 1e9:.1f} GB and {staging.parent} has {free / 1e9:.1f} GB free. Free some space, "
            "choose another `store` or a larger `um_per_px`."
        )
        raise OSError(msg)


@quiet()
def write_slide(staging: Path, slide: Slide, key: str) -> None:
    """Write a slide's image, tissue and spots into a store that is being built.

    An earlier projection of that key goes; other projections of the store stay.
    """
    import spatialdata as sd
    import zarr

    names = [_keys.image(slide.name), _keys.tissue(slide.name), _keys.spots(slide.name)]
    _drop(staging, [*names, _keys.TABLE, *_keys.rasters(key)])
    if (staging / "zarr.json").exists():
        _consolidate(staging)
        sdata = sd.read_zarr(staging)
    else:
        staging.rmdir()
        sdata = sd.SpatialData(attrs={_keys.MARK: {"library_id": slide.name, "keys": {}, "grids": {}}})
        sdata.write(staging)
    sdata[names[0]] = image_element(slide.image, slide.grid, channels=("r", "g", "b"))
    sdata[names[1]] = _tissue_element(slide)
    written = names[:2]
    if slide.measured is not None:
        sdata[names[2]] = _spots_element(slide)
        written = names
    sdata.write_element(written)
    root: Any = zarr.open_group(staging, mode="r+", use_consolidated=False)
    mark: dict[str, Any] = dict(root.attrs[_keys.MARK])
    mark["version"] = __version__
    mark["keys"] = {**mark["keys"], key: {"spot": asdict(slide.spot)}}
    grids = {name: asdict(slide.grid) for name in (*names[:2], *_keys.rasters(key))}
    mark["grids"] = {**mark["grids"], **grids}
    root.attrs[_keys.MARK] = mark


@quiet()
def create_rasters(
    staging: Path, slide: Slide, factors: Factors, genes: Sequence[str], key: str
) -> tuple[RasterWriter, RasterWriter, RasterWriter, RasterWriter]:
    """Create the empty rasters of a projection: factor maps, genes, their standard deviations, redrawn image."""
    return (
        create_raster(staging, _keys.factors(key), factors.names, slide.grid),
        create_raster(staging, key, list(genes), slide.grid),
        create_raster(staging, _keys.sd(key), list(genes), slide.grid),
        create_raster(staging, _keys.reconstruction(key), ("r", "g", "b"), slide.grid),
    )


@quiet()
def write_table(staging: Path, slide: Slide, table: AnnData) -> None:
    """Write the table, linked to the spots if there are any, in place of an earlier one.

    Pictures in ``uns["spatial"]`` are left out: they are elements.
    """
    import pandas as pd
    import spatialdata as sd
    from spatialdata.models import TableModel

    _drop(staging, [_keys.TABLE])
    linked = table.copy()
    linked.uns.pop("spatialdata_attrs", None)
    for section in linked.uns.get("spatial", {}).values():
        if isinstance(section, dict):
            section.pop("images", None)
    link = {}
    if slide.measured is not None:
        region = _keys.spots(slide.name)
        linked.obsm.setdefault("spatial", slide.grid.to_fullres(slide.measured.centers)[:, ::-1])
        linked.obs[_keys.REGION] = pd.Categorical([region] * linked.n_obs)
        linked.obs[_keys.SPOT_ID] = np.arange(linked.n_obs)
        link = {"region": region, "region_key": _keys.REGION, "instance_key": _keys.SPOT_ID}
    linked = TableModel.parse(linked, **link)
    _consolidate(staging)
    sdata = sd.read_zarr(staging)
    sdata[_keys.TABLE] = linked
    sdata.write_element(_keys.TABLE)


@quiet()
def finish(staging: Path) -> None:
    """Make the store readable as a whole."""
    _consolidate(staging)


def mark(store: Store) -> dict[str, Any]:
    """Return what the store says of itself: library id, keys, grids, version.

    Raises
    ------
    FileNotFoundError
        If there is nothing at that path.
    ValueError
        If it is not a store of sphisto.
    """
    if not isinstance(store, str | Path):
        found = store.attrs.get(_keys.MARK)
        where = "The SpatialData object"
    else:
        where = str(store)
        if not Path(store).exists():
            msg = f"Found no store at {where}. Run `sphisto.tl.fit_projection` to make one."
            raise FileNotFoundError(msg)
        found = _read_mark(Path(store))
    if found is None:
        msg = f"{where} holds no projection of sphisto. Run `sphisto.tl.fit_projection` to make one."
        raise ValueError(msg)
    return found


def library_id(store: Store) -> str:
    """Library id of a store."""
    return str(mark(store)["library_id"])


def spot(store: Store, key: str) -> Spot:
    """Spot of a projection: the area its unit speaks of."""
    keys = mark(store)["keys"]
    if key not in keys:
        msg = f"Found no projection {key!r} in the store; it holds {', '.join(map(repr, keys)) or 'none'}."
        raise KeyError(msg)
    return Spot(**keys[key]["spot"])


def table(store: Store) -> AnnData:
    """Table (spots x genes) of a store, with loadings, fitted values and parameters; no spots for an image alone."""
    if not isinstance(store, str | Path):
        return store.tables[_keys.TABLE]
    from anndata.io import read_zarr

    mark(store)
    return read_zarr(Path(store) / "tables" / _keys.TABLE)


def factors(store: Store, key: str) -> Factors:
    """Gene model of a projection: the table's genes and loadings, without reading counts."""
    from sphisto.core.factors import Factors, count_signed

    spot(store, key)
    if not isinstance(store, str | Path):
        whole = store.tables[_keys.TABLE]
        loadings = np.asarray(whole.varm[_keys.loadings(key)])
        return Factors(tuple(whole.var_names), loadings, count_signed(loadings))
    import zarr
    from anndata.io import read_elem

    group = zarr.open_group(Path(store) / "tables" / _keys.TABLE, mode="r", use_consolidated=False)
    names = read_elem(group[f"var/{group['var'].attrs['_index']}"])
    loadings = np.asarray(read_elem(group[f"varm/{_keys.loadings(key)}"]))
    return Factors(tuple(map(str, names)), loadings, count_signed(loadings))


def gene_column(store: Store, name: str) -> dict[str, Any]:
    """Column of the table's ``var`` by gene, without reading counts; empty where there is none."""
    if not isinstance(store, str | Path):
        whole = store.tables[_keys.TABLE].var
        return dict(zip(map(str, whole.index), whole[name], strict=True)) if name in whole else {}
    import zarr
    from anndata.io import read_elem

    var: Any = zarr.open_group(Path(store) / "tables" / _keys.TABLE / "var", mode="r", use_consolidated=False)
    if name not in var:
        return {}
    genes = read_elem(var[var.attrs["_index"]])
    return dict(zip(map(str, genes), read_elem(var[name]), strict=True))


def raster(store: Store, name: str) -> StoredRaster:
    """Open a raster element by name, without reading its pixels.

    Raises
    ------
    KeyError
        If there is no such raster; the message lists those there are.
    """
    grids = mark(store)["grids"]
    found = _open_folder(store, name) if isinstance(store, str | Path) else _open_element(store, name)
    if name not in grids or found is None:
        msg = f"Found no raster {name!r} in the store; it holds {', '.join(map(repr, sorted(grids)))}."
        raise KeyError(msg)
    levels, channels = found
    grid = Grid(**{**grids[name], "fullres_per_px": tuple(grids[name]["fullres_per_px"])})
    return StoredRaster(tuple(levels), tuple(channels), grid)


def levels(store: Store, name: str) -> list[tuple[int, int]]:
    """(height, width) of each pyramid level of a raster, finest first."""
    return [level.shape[-2:] for level in raster(store, name).levels]


def _open_folder(store: str | Path, name: str) -> tuple[list[Any], list[str]] | None:
    import zarr

    for kind in _RASTERS:
        folder = Path(store) / kind / name
        if folder.exists():
            group = zarr.open_group(folder, mode="r", use_consolidated=False)
            ome: Any = group.attrs["ome"]
            channels = [str(channel["label"]) for channel in ome.get("omero", {}).get("channels", [])]
            return [group[dataset["path"]] for dataset in ome["multiscales"][0]["datasets"]], channels
    return None


def _open_element(sdata: SpatialData, name: str) -> tuple[list[Any], list[str]] | None:
    from spatialdata.models import get_channel_names
    from xarray import DataTree

    if name not in sdata.images and name not in sdata.labels:
        return None
    element = sdata[name]
    arrays = [element[s].image.data for s in element] if isinstance(element, DataTree) else [element.data]
    return arrays, [str(c) for c in get_channel_names(element)] if name in sdata.images else []


def _tissue_element(slide: Slide) -> Any:
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale

    return Labels2DModel.parse(
        slide.tissue.astype(np.uint8),
        dims=("y", "x"),
        scale_factors=pyramid_factors(slide.grid.shape),
        transformations={"global": Scale(list(slide.grid.fullres_per_px), axes=("y", "x"))},
    )


def _spots_element(slide: Slide) -> Any:
    """Circles (Visium) or squares (bins) in full-resolution px, in the order of the table."""
    from spatialdata.models import ShapesModel

    xy = slide.grid.to_fullres(slide.spots.centers)[:, ::-1]
    size = slide.spot.um / slide.grid.fullres_um_per_px
    if slide.spot.shape == "disc":
        return ShapesModel.parse(xy, geometry=0, radius=size / 2)
    import geopandas as gpd
    import shapely

    low, high = xy - size / 2, xy + size / 2
    return ShapesModel.parse(gpd.GeoDataFrame(geometry=shapely.box(*low.T, *high.T)))


def _drop(store: Path, names: Sequence[str]) -> None:
    for kind in ("images", "labels", "shapes", "tables"):
        for name in names:
            shutil.rmtree(store / kind / name, ignore_errors=True)


def _read_mark(store: Path) -> dict[str, Any] | None:
    import json

    try:
        attributes = json.loads((store / "zarr.json").read_text())["attributes"]
        found = attributes.get(_keys.MARK)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def _consolidate(store: Path) -> None:
    import zarr

    zarr.consolidate_metadata(store)
