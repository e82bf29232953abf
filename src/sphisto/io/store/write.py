"""How a store is built: slide, rasters and table, one after the other, into a folder that becomes the store."""

from __future__ import annotations

import contextlib
import copy
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import __version__, _keys
from sphisto._settings import logger, settings
from sphisto.core.footprint import unit_square
from sphisto.core.grid import SAME_PLACE_PX, Grid
from sphisto.core.tiles import Window
from sphisto.io.quiet import quiet
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store.elements import add_element, make_blank
from sphisto.io.store.errors import RESTORE, naming_damage
from sphisto.io.store.groups import open_group, open_levels
from sphisto.io.store.lock import refuse_held
from sphisto.io.store.raster import (
    RasterWriter,
    create_raster,
    open_raster,
    open_tissue,
    write_all,
    write_image,
    write_mask,
)
from sphisto.io.store.read import read_mark
from sphisto.io.store.tables import link_columns, plain, plain_copy, with_other_projections
from sphisto.io.store.unwritable import reason_of, remedy_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.core.spot import Spot
    from sphisto.genes.model import GeneModel
    from sphisto.slide.slide import Slide


@quiet()
def check_target(
    store: Path, library_id: str, key: str, *, joint: str | None = None, together: Sequence[str] = ()
) -> None:
    """Refuse a path that holds something else than a store of sphisto, one that is being written, and names that are taken there.

    ``joint`` is the name that the projections of the libraries ``together`` share, which are fitted at once.
    """
    mark = read_mark(store) if store.is_dir() else None
    if mark is None and store.exists():
        msg = f"{store} exists and is not a store of sphisto; it is left alone. Choose another `store` or move it away."
        raise FileExistsError(msg)
    if mark is not None and stores.format_of(mark) != _keys.FORMAT:
        stores.mark(store)  # a newer one is refused here
        msg = (
            f"{store} is a store of format {stores.format_of(mark)}; projections are written in format {_keys.FORMAT}. Convert it "
            f"(`sphisto.tl.upgrade({str(store)!r})`), or choose another `store`."
        )
        raise ValueError(msg)
    claims.check_free(store, mark, library_id, key, joint, together)
    refuse_held(store)
    if mark is not None:
        import spatialdata as sd

        with naming_damage(store, ("tables", "shapes", "points"), advice=RESTORE):  # what is read while it is written
            sd.read_zarr(store)


@quiet()
def write_slide(staging: Path, slide: Slide, key: str, joint: str | None = None, fit: str | None = None) -> None:
    """Write a slide's image, tissue and spots into a store that is being built.

    An earlier projection of that key goes; other projections and libraries of the store stay. ``joint`` names what several
    sections share that were fitted together, and ``fit`` is the digest of that fit: then each lies in a coordinate system of its own.
    """
    names = _keys.of_library(slide.name)
    _drop(staging, [*names, *_keys.elements(key)])
    if not (staging / "zarr.json").exists():
        make_blank(staging, {_keys.MARK: {"format": _keys.FORMAT, "library_id": slide.name, "keys": {}, "grids": {}}})
    there = read_mark(staging) or {}
    own = [
        about
        for other, about in there["keys"].items()
        if other != key and claims.library_of(there, other) == slide.name
    ]
    # those of its other projections, too: image, tissue and spots are theirs as well
    systems = sorted({_keys.system(slide.name, each) for each in (joint, *(about.get("joint") for about in own))})
    write_image(staging, names[0], slide.image, slide.grid, systems)
    write_mask(staging, names[1], slide.tissue, slide.grid, systems)
    if slide.measured is not None:
        add_element(staging, "shapes", names[2], _spots_element(slide, systems))
    with marked(staging) as mark:
        mark["version"] = __version__
        table = claims.table_of(mark, slide.name)
        mark["libraries"] = {**claims.libraries_of(mark), slide.name: {"table": table}}
        about: dict[str, Any] = {"library_id": slide.name, "spot": asdict(slide.spot)}
        if joint is not None:
            about |= {"joint": joint, "fit": fit}
        mark["keys"] = {**mark["keys"], key: about}
        grids = {name: asdict(slide.grid) for name in (*names[:2], *_keys.rasters(key), _keys.tissue(key))}
        mark["grids"] = {**mark["grids"], **grids}


@quiet()
def create_rasters(
    staging: Path, slide: Slide, factors: GeneModel, genes: Sequence[str], key: str, *, unit: str, background: float
) -> None:
    """Create the empty rasters of a projection: factor maps, genes, their standard deviations, redrawn image; and its tissue.

    The store records the unit, and how many of the factors are contrasts: a table of few genes need not show it.
    ``background`` is what the redrawn image shows where nothing is drawn.
    """
    _drop(staging, _keys.elements(key))  # what a killed run had begun
    with marked(staging) as mark:
        mark["keys"][key] |= {"n_contrasts": factors.n_contrasts, "unit": unit}
        systems = (_keys.system(slide.name, mark["keys"][key].get("joint")),)
    write_mask(staging, _keys.tissue(key), slide.tissue, slide.grid, systems)
    create_raster(staging, _keys.factors(key), factors.names, slide.grid, together=True, systems=systems)
    for name in (key, _keys.sd(key)):
        create_raster(staging, name, list(genes), slide.grid, systems=systems)
    create_raster(
        staging, _keys.reconstruction(key), ("r", "g", "b"), slide.grid, fill=background, together=True, systems=systems
    )


@quiet()
def write_shift(staging: Path, slide: Slide, key: str, values: NDArray[np.float32], halvings: int) -> None:
    """Write the (y, x) shift of places, on the grid of the rasters halved so many times."""
    name = _keys.shift(key)
    _drop(staging, [name])  # what a killed run had begun
    stride = 1 << halvings
    scale = tuple(stride * each for each in slide.grid.fullres_per_px)
    grid = Grid(values.shape[0], values.shape[1], stride * slide.grid.um_per_px, (scale[0], scale[1]))
    with marked(staging) as mark:
        mark["grids"][name] = asdict(grid)
        systems = (_keys.system(slide.name, mark["keys"][key].get("joint")),)
    create_raster(staging, name, ("shift",), grid, systems=systems)
    raster = open_raster(staging, name, open_tissue(staging, _keys.tissue(key), halvings))
    write_all(raster, lambda window: values[None, *window.slices])


def open_rasters(staging: Path, key: str) -> tuple[RasterWriter, RasterWriter, RasterWriter, RasterWriter]:
    """Open what :func:`create_rasters` created, in the same order."""
    tissue = open_tissue(staging, _keys.tissue(key))
    maps, genes, sd = (open_raster(staging, name, tissue) for name in _keys.within_tissue(key))
    return maps, genes, sd, open_raster(staging, _keys.reconstruction(key))


def stored_slide(staging: Path, slide: Slide) -> Slide:
    """Return a slide that :func:`write_slide` wrote with image and tissue read from there, and without values.

    It is small and can be sent to other processes, which read what this one reads whatever the image came from.
    """
    measured = slide.measured
    if measured is not None:
        measured = replace(measured, values=measured.values[:, :0], genes=(), others=None)
    tissue = open_levels((staging / "labels" / _keys.of_library(slide.name)[1]).resolve())[0]
    return replace(slide, image=stored_image(staging, slide), tissue=tissue, measured=measured)


def stored_image(staging: Path, slide: Slide) -> Any:
    """Return the (3, y, x) image of a slide that :func:`write_slide` wrote, lazy; it can be sent to other processes."""
    return open_levels((staging / "images" / _keys.of_library(slide.name)[0]).resolve())[0]


@quiet()
def write_table(staging: Path, store: Path, slide: Slide, table: AnnData, key: str) -> None:
    """Write the table, linked to the spots if there are any, in place of an earlier one of the library.

    Of the images in ``uns["spatial"]`` one of at most 1,000 px is kept, the slide's: others are elements; sections there are called as elements are. Text and
    numbers of pandas' newer types become plain ones, which every version of anndata reads. What the table in ``store``, the
    version that is replaced, holds of other projections is kept; that in ``staging`` may be half of one, from a run that was
    killed.
    """
    linked, link = _linked(table, slide)
    if slide.measured is not None:
        linked.uns["spatial"] = _with_picture(linked.uns.get("spatial", {}), staging, slide.name, slide.spot)
    _add_table(staging, store, read_mark(staging) or {}, slide.name, linked, link, key)


@quiet()
def check_table(store: Path, slide: Slide, table: AnnData, key: str) -> None:
    """Refuse a table that :func:`write_table` could not write: it is written beside the store, and removed again."""
    mark = read_mark(store) if store.is_dir() else None
    with TemporaryDirectory(prefix=f".{store.name}.", dir=store.parent) as folder, settings.override(verbosity="error"):
        staging = Path(folder) / "tried"
        staging.mkdir()
        _add_table(staging, store, mark or {"keys": {}}, slide.name, *_linked(table, slide), key)


def _linked(table: AnnData, slide: Slide) -> tuple[AnnData, dict[str, str]]:
    """Return a plain copy of a table that names the slide's spots, and the columns by which it does."""
    import pandas as pd

    linked = plain_copy(table)
    if "spatial" in linked.uns:
        linked.uns["spatial"] = _without_images(linked.uns["spatial"], slide.name)
    if slide.measured is None:
        return linked, {}
    region = _keys.spots(slide.name)
    region_key, instance_key = link_columns(linked, region)
    linked.obsm["spatial"] = _places_in_global(linked, slide)
    categories = pd.Index([region], dtype=object)
    linked.obs[region_key] = pd.Categorical.from_codes([0] * linked.n_obs, categories)
    linked.obs[instance_key] = np.arange(linked.n_obs)
    return linked, {"region": region, "region_key": region_key, "instance_key": instance_key}


def _add_table(
    staging: Path, store: Path, mark: dict[str, Any], library_id: str, linked: AnnData, link: dict[str, str], key: str
) -> None:
    """Write a linked table, with what the one in ``store`` holds of other projections of the library."""
    import anndata
    from spatialdata.models import TableModel

    name = claims.table_of(mark if "library_id" in mark else None, library_id)
    others = [other for other in mark["keys"] if other != key and claims.library_of(mark, other) == library_id]
    with_other_projections(linked, store / "tables" / name, others)
    try:
        # strings that may be missing are written as such: pandas 3 and tables read from its stores hold no others
        with anndata.settings.override(allow_write_nullable_strings=True):
            add_element(staging, "tables", name, TableModel.parse(linked, **link))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of many kinds, for what no zarr store can hold
        msg = f"The table of {library_id!r} cannot be written to a store: {reason_of(error)}. {remedy_for(linked)}"
        raise ValueError(msg) from error


@quiet()
def add_results(staging: Path, slide: Slide, table: AnnData, key: str) -> None:
    """Add what a projection left in a table to the one that :func:`write_table` wrote, whose counts are not written again."""
    import anndata
    from anndata.io import read_elem, write_elem

    name = claims.table_of(read_mark(staging) or {}, slide.name)
    group = open_group(staging / "tables" / name, "r+")
    columns = {column: table.var[column].to_numpy() for column in _keys.skills(key)}
    with anndata.settings.override(allow_write_nullable_strings=True):
        write_elem(group, "var", plain(read_elem(group["var"]).assign(**columns)))
        for part, entry in (("varm", _keys.loadings(key)), ("obsm", _keys.fitted(key)), ("uns", key)):
            write_elem(group[part], entry, plain(getattr(table, part)[entry]))


def _without_images(spatial: Any, library_id: str) -> dict[str, Any]:
    """What ``uns["spatial"]`` holds of a library beside its images; of others too, where none is called so."""
    from sphisto.io.libraries import libraries_of

    libraries = {claims.element_name(name): about for name, about in libraries_of(spatial)[0].items()}
    own = {library_id: libraries[library_id]} if library_id in libraries else libraries
    return {name: {key: value for key, value in about.items() if key != "images"} for name, about in own.items()}


@quiet()
def renew_table(staging: Path, library_id: str, spot: Spot, units: Mapping[str, str]) -> None:
    """Give the table of a library its picture, and its projections their units."""
    from anndata.io import read_elem, write_elem

    name = claims.table_of(read_mark(staging), library_id)
    table = open_group(staging / "tables" / name, "r+")
    if (staging / "shapes" / _keys.spots(library_id)).exists():
        held = read_elem(table["uns/spatial"]) if "uns/spatial" in table else {}
        write_elem(table["uns"], "spatial", _with_picture(held, staging, library_id, spot))
    for key, unit in units.items():
        if key in table["uns"]:
            write_elem(table["uns"][key], "unit", unit)


def _with_picture(spatial: Mapping[str, Any], store: Path, library_id: str, spot: Spot) -> dict[str, Any]:
    """Return ``uns["spatial"]`` with a small picture of a library and its scale, by which scanpy and squidpy draw."""
    picture_px = 1_000  # longest side of the picture in the table
    image = stores.raster(store, _keys.image(library_id))
    scale = next(i for i, level in enumerate(image.levels) if max(level.shape[-2:]) <= picture_px)
    picture = image.read(scale, Window(0, 0, *image.levels[scale].shape[-2:]))
    about = dict(spatial.get(library_id, {}))
    factors = {
        **about.get("scalefactors", {}),
        "tissue_hires_scalef": 1 / (image.grid.fullres_per_px[0] * 2**scale),
        "spot_diameter_fullres": spot.um / image.grid.fullres_um_per_px,
    }
    return {**spatial, library_id: {**about, "images": {"hires": np.moveaxis(picture, 0, -1)}, "scalefactors": factors}}


def _places_in_global(table: AnnData, slide: Slide) -> NDArray[np.float64]:
    """(n, 2) x, y of the spots in full-resolution px: as the table states them, if these are the same places."""
    places = slide.grid.to_fullres(slide.spots.centers)[:, ::-1]
    stated = table.obsm.get("spatial")
    if stated is None:
        return places
    try:
        numbers = np.asarray(stated, dtype=np.float64)  # also of text
    except (TypeError, ValueError):  # of a form of its own
        return places
    if numbers.ndim == 2 and np.allclose(numbers[:, :2], places, atol=SAME_PLACE_PX):
        return numbers  # with a third column, if there is one
    logger.info(
        "obsm['spatial'] of the store's table is in full-resolution px; in the table in memory it stays as it is."
    )
    return places


@quiet()
def finish(staging: Path) -> None:
    """Make the store readable as a whole."""
    import zarr

    zarr.consolidate_metadata(staging)


def _spots_element(slide: Slide, systems: Sequence[str]) -> Any:
    """Circles (Visium) or squares (bins) in full-resolution px, in the order of the table."""
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity

    xy = slide.grid.to_fullres(slide.spots.centers)[:, ::-1]
    size = slide.spot.um / slide.grid.fullres_um_per_px
    if slide.spot.shape == "disc":
        return ShapesModel.parse(
            xy, geometry=0, radius=size / 2, transformations={system: Identity() for system in systems}
        )
    import geopandas as gpd
    import shapely

    corners = xy[:, None] + size * unit_square(slide.spot.turn)[:, ::-1]
    squares = gpd.GeoDataFrame(geometry=shapely.polygons(corners))
    return ShapesModel.parse(squares, transformations={system: Identity() for system in systems})


@contextlib.contextmanager
def marked(store: Path) -> Iterator[dict[str, Any]]:
    """What a store records of itself, to be changed: written once the block has ended."""
    root = open_group(store, "r+")
    mark = copy.deepcopy(dict(root.attrs[_keys.MARK]))
    yield mark
    root.attrs[_keys.MARK] = mark


def _drop(store: Path, names: Sequence[str]) -> None:
    for kind in claims.KINDS:
        for name in names:
            shutil.rmtree(store / kind / name, ignore_errors=True)
