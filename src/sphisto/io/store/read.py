"""How the SpatialData zarr store of a projection is read; :mod:`sphisto.io.store.write` writes it.

All elements lie in ``global``, the full-resolution pixels of the slide. The root attribute ``sphisto`` names the
libraries, their projections and the grid of every raster, so that a window of one element is read without opening the
others.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sphisto import _keys
from sphisto._settings import logger
from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.io.paths import located
from sphisto.io.store import names as claims
from sphisto.io.store.errors import MEND, RESTORE, naming_damage
from sphisto.io.store.groups import open_group, open_levels
from sphisto.io.store.stored_raster import StoredRaster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sphisto.genes.model import GeneModel

    Store: TypeAlias = str | Path | SpatialData

_RASTERS = ("images", "labels")


def mark(store: Store) -> dict[str, Any]:
    """Return what the store records of itself: library id, keys, grids, version."""
    store = located(store)
    if not isinstance(store, Path):
        found = store.attrs.get(_keys.MARK)
        where = "The SpatialData object"
    else:
        where = str(store)
        if not store.exists():
            msg = f"Found no store at {where}. Run `sphisto.tl.fit_projection` to make one."
            raise FileNotFoundError(msg)
        found = read_mark(store)
    if found is None:
        msg = f"{where} holds no projection of sphisto. Run `sphisto.tl.fit_projection` to make one."
        raise ValueError(msg)
    if format_of(found) > _keys.FORMAT:
        msg = (
            f"{where} is a store of format {format_of(found)}; this version of sphisto reads formats 1 to {_keys.FORMAT}. "
            "Update sphisto."
        )
        raise ValueError(msg)
    return found


def format_of(mark: dict[str, Any]) -> int:
    """Format of a store, by what it records of itself; the first one did not say."""
    return int(mark.get("format", 1))


def library_id(store: Store, key: str | None = None) -> str:
    """Library of a projection; the first of the store without a ``key`` or where there is no such projection."""
    found = mark(store)
    return str(found["library_id"]) if key is None else claims.library_of(found, key)


def system(store: Store, key: str) -> str:
    """Coordinate system of the section of a projection: its full-resolution pixels, x and y."""
    about = mark(store)
    return _keys.system(library_id(store, key), about["keys"][key].get("joint"))


def table_name(store: Store, key: str | None = None) -> str:
    """Name the table of a projection's library, or of the first one."""
    return claims.table_of(mark(store), library_id(store, key))


def projection(store: Store, key: str, library_id: str | None = None) -> str:
    """Name a projection as its elements are called: of sections that were fitted together each has a name of its own.

    A projection that is called so itself comes before those that share the name.
    """
    about = mark(store)
    if key in about["keys"] and library_id in (None, claims.library_of(about, key)):
        tell_of_two_fits(about, key)
        return key
    named = {
        name: claims.library_of(about, name)
        for name, entry in about["keys"].items()
        if key in (name, entry.get("joint"))
    }
    if not named:
        _about(store, key)  # says which there are
    own = [name for name, library in named.items() if library_id in (None, library)]
    if not own:
        msg = (
            f"Found no projection {key!r} of the library {library_id!r}; there is one of "
            f"{', '.join(map(repr, named.values()))}."
        )
        raise KeyError(msg)
    if len(own) > 1:
        msg = (
            f"The projection {key!r} is of {len(own)} sections ({', '.join(map(repr, named.values()))}); expected "
            "`library_id`, the name of one of them."
        )
        raise ValueError(msg)
    tell_of_two_fits(about, own[0])
    return own[0]


def tell_of_two_fits(mark: dict[str, Any], key: str) -> None:
    """Warn if a projection shares its name with sections that another fit wrote: a fit of several was broken off."""
    joint = mark["keys"][key].get("joint")
    if joint is None:
        return
    fits, own = claims.fits_of(mark, joint), claims.library_of(mark, key)
    others = [library for library, fit in fits.items() if fit != fits[own]]
    if others:
        logger.warning(
            "The projection %r of %r is of another fit than that of %s, so that factors of the one are not those of the other: "
            "a fit was broken off, or is still writing. The same call with `resume=True` brings it to its end; or fit again.",
            joint, own, ", ".join(map(repr, others)),
        )  # fmt: skip


def spot(store: Store, key: str) -> Spot:
    """Spot of a projection: its area is the unit of rasters."""
    return Spot(**_about(store, key)["spot"])


def unit(store: Store, key: str) -> str:
    """Unit of a projection's genes; the first format named it in the table, and did not tell bins from spots."""
    about = _about(store, key)
    if "unit" in about:
        return str(about["unit"])
    said = record(store, key).get("unit", _keys.UNIT)
    return _keys.unit(spot(store, key).shape, is_counts=said == _keys.UNIT)


def record(store: Store, key: str) -> dict[str, Any]:
    """Return ``uns[key]`` of a projection's table without its history; empty where there is no table."""
    store, name = located(store), table_name(store, key)
    if not isinstance(store, Path):
        found = store.tables[name].uns.get(key, {}) if name in store.tables else {}
        return {name: value for name, value in found.items() if name != "history"}
    from anndata.io import read_elem

    folder = store / "tables" / name / "uns" / key
    if not folder.is_dir():
        return {}
    group = open_group(folder)
    return {name: read_elem(group[name]) for name in sorted(group) if name != "history"}


def n_contrasts(store: Store, key: str) -> int:
    """Number of a projection's factors, the last ones, that are contrasts."""
    about = _about(store, key)
    if "n_contrasts" in about:
        return int(about["n_contrasts"])
    # as written before the attribute was: their maps are called so
    return sum(name.startswith("contrast") for name in raster(store, _keys.factors(key)).channels)


def _about(store: Store, key: str) -> dict[str, Any]:
    """Return what the store records of a projection."""
    keys = mark(store)["keys"]
    if key not in keys:
        msg = f"Found no projection {key!r} in the store; it holds {', '.join(map(repr, keys)) or 'none'}."
        raise KeyError(msg)
    return dict(keys[key])


def table(store: Store, key: str | None = None) -> AnnData:
    """Table (spots x genes) of a projection's library, or of the first one; no spots for an image alone.

    It holds loadings, fitted values and parameters.
    """
    held = _table(store, key)
    if not isinstance(held, Path):
        return held
    from anndata.io import read_zarr

    with naming_damage(held, advice=RESTORE):
        return read_zarr(held)


def _table(store: Store, key: str | None) -> Any:
    """Table of a projection's library: the folder in which it lies, or of a SpatialData itself."""
    store, name = located(store), table_name(store, key)
    return store / "tables" / name if isinstance(store, Path) else store.tables[name]


def factors(store: Store, key: str) -> GeneModel:
    """Gene model of a projection: the table's genes and loadings, and the names of the maps, without reading counts."""
    from sphisto.genes.model import GeneModel

    contrasts, channels = n_contrasts(store, key), raster(store, _keys.factors(key)).channels
    named = channels[: len(channels) - contrasts]
    held = _table(store, key)
    if not isinstance(held, Path):
        return GeneModel(tuple(held.var_names), np.asarray(held.varm[_keys.loadings(key)]), contrasts, named)
    from anndata.io import read_elem

    with naming_damage(held, ("var", "varm"), advice=RESTORE):
        group = open_group(held)
        names = read_elem(group[f"var/{group['var'].attrs['_index']}"])
        stored = group[f"varm/{_keys.loadings(key)}"]
        loadings = np.asarray(read_elem(stored))
    genes = tuple(map(str, names))
    if stored.nchunks_initialized < stored.nchunks:
        _require_loadings(store, key, genes, loadings[:, : loadings.shape[1] - contrasts])
    return GeneModel(genes, loadings, contrasts, named)


def fitted(store: Store, key: str) -> NDArray[np.float32]:
    """(spots, K) fitted factor values of a projection's spots; none for an image alone."""
    held = _table(store, key)
    if not isinstance(held, Path):
        return np.asarray(held.obsm[_keys.fitted(key)])
    from anndata.io import read_elem

    with naming_damage(held, ("obsm",), advice=RESTORE):
        return np.asarray(read_elem(open_group(held)[f"obsm/{_keys.fitted(key)}"]))


def _require_loadings(store: Store, key: str, names: Sequence[str], plain: NDArray[np.floating]) -> None:
    """Refuse (genes, K) loadings that were lost with a chunk: they are read as 0, where a gene that was counted has some of each factor.

    Chunks of 0 alone are not stored: those of genes without counts, and of programmes that a user gave.
    """
    skill = gene_column(store, _keys.skill(key), key)  # unknown of genes without counts
    zero = (plain == 0).any(axis=1)
    lost = [gene for gene, is_zero in zip(names, zero, strict=True) if is_zero and np.isfinite(skill.get(gene, np.nan))]
    if lost and "loadings" not in record(store, key).get("params", {}):
        msg = (
            f"{store} is damaged: loadings of {len(lost)} genes, such as {lost[0]!r}, are missing from its table, as after a copy that was "
            f"broken off. {RESTORE}"
        )
        raise ValueError(msg)


def gene_column(store: Store, name: str, key: str | None = None) -> dict[str, Any]:
    """Column of ``var`` of a projection's table by gene, without reading counts; empty where there is none."""
    held = _table(store, key)
    if not isinstance(held, Path):
        return dict(zip(map(str, held.var_names), held.var[name], strict=True)) if name in held.var else {}
    from anndata.io import read_elem

    with naming_damage(held / "var", advice=RESTORE):
        var = open_group(held / "var")
        if name not in var:
            return {}
        genes = read_elem(var[var.attrs["_index"]])
        return dict(zip(map(str, genes), read_elem(var[name]), strict=True))


def raster(store: Store, name: str) -> StoredRaster:
    """Open a raster element by name, without reading its pixels."""
    store, about = located(store), mark(store)
    grids, found = about["grids"], _open(store, name)
    if name not in grids or found is None:
        msg = f"Found no raster {name!r} in the store; it holds {', '.join(map(repr, sorted(grids)))}."
        raise KeyError(msg)
    pyramid, channels = found
    grid, tissue = _grid(grids[name]), None
    if format_of(about) > 1:
        keys = [key for key in about["keys"] if name in _keys.masked(key)]
        tissue = _open(store, _keys.tissue(keys[0])) if keys else None
        if keys and tissue is None:
            msg = f"The store lacks labels/{_keys.tissue(keys[0])}, without which it is not known where {name!r} holds values. {MEND}"
            raise ValueError(msg)
    if tissue is None:
        return StoredRaster(tuple(pyramid), tuple(channels), grid)
    whole = _grid(grids[_keys.tissue(keys[0])])  # standard deviations may lie on a coarser one
    finer = round(math.log2(whole.height / grid.height))
    return StoredRaster(tuple(pyramid), tuple(channels), whole, tuple(tissue[0]), finer, name == _keys.factors(keys[0]))


def _grid(record: dict[str, Any]) -> Grid:
    """Grid of a raster, as the root attribute records it."""
    return Grid(**{**record, "fullres_per_px": tuple(record["fullres_per_px"])})


def has_shapes(store: Store, name: str) -> bool:
    """Whether a store has a shapes element of that name."""
    store = located(store)
    return (store / "shapes" / name).is_dir() if isinstance(store, Path) else name in store.shapes


def _open(store: Path | SpatialData, name: str) -> tuple[list[Any], list[str]] | None:
    """Levels and channel names of a raster element; ``None`` if there is none of that name."""
    return _open_folder(store, name) if isinstance(store, Path) else _open_element(store, name)


def _open_folder(store: Path, name: str) -> tuple[list[Any], list[str]] | None:
    for kind in _RASTERS:
        folder = store / kind / name
        if not folder.exists():
            continue
        with naming_damage(folder, (), advice=MEND):
            named = open_group(folder).attrs["ome"].get("omero", {}).get("channels", [])
            return open_levels(folder), [str(channel["label"]) for channel in named]
    return None


def _open_element(sdata: SpatialData, name: str) -> tuple[list[Any], list[str]] | None:
    from spatialdata.models import get_channel_names
    from xarray import DataTree

    if name not in sdata.images and name not in sdata.labels:
        return None
    element = sdata[name]
    arrays = [element[s].image.data for s in element] if isinstance(element, DataTree) else [element.data]
    return arrays, [str(c) for c in get_channel_names(element)] if name in sdata.images else []


def read_mark(store: Path) -> dict[str, Any] | None:
    """Return what a folder records of itself, ``None`` if it is no store of sphisto."""
    import json

    try:
        attributes = json.loads((store / "zarr.json").read_text())["attributes"]
        found = attributes.get(_keys.MARK)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
