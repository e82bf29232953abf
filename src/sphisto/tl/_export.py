"""Write what a store holds to files of other programs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from sphisto import __version__, _keys
from sphisto._settings import logger
from sphisto.core.atomic import require_free
from sphisto.core.tiles import Window
from sphisto.io.disk import new_file, require_room
from sphisto.io.export import geojson, planes, vitessce
from sphisto.io.export.ome_tiff import write_ome_tiff
from sphisto.io.paths import located, user_path
from sphisto.io.regions.understand import understood
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store.data import store_of
from sphisto.tl._aggregate import aggregate, unique_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from sphisto.io.export.geojson import Objects
    from sphisto.io.store.data import Data
    from sphisto.io.store.read import Store

# kind of file: how its name ends, and which keywords are for it beside those that are for all
_KINDS = {
    "OME-TIFF": ((".ome.tif", ".ome.tiff"), {"genes", "element"}),
    "GeoJSON": ((".geojson",), {"regions", "radius", "genes", "table", "classification", "objects", "over"}),
    "Vitessce": ((".json",), {"genes", "url"}),
}


def export(
    store: Data,
    path: str | Path,
    *,
    genes: str | Sequence[str] | None = None,
    element: str | None = None,
    regions: Any = None,
    radius: float | NDArray[Any] | None = None,
    table: AnnData | None = None,
    classification: str | None = None,
    objects: Objects = "annotation",
    over: str | None = None,
    url: str | None = None,
    key: str = "projection",
    library_id: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write genes, images or regions of a store to a file that QuPath, Fiji or Vitessce open.

    The name of the file decides what is written:

    - ``.ome.tif``, ``.ome.tiff``: an image with its pyramid, as OME-TIFF, for QuPath, Fiji and all that use Bio-Formats.
      A channel for each gene (float32, counts per spot area), or an ``element`` of the store. Outside tissue it holds 0,
      not NaN, which would spoil ranges and means in QuPath.
    - ``.geojson``: outlines of ``regions``, for QuPath and GIS programs.
    - ``.json``: a view config of Vitessce, which shows the store as it is.

    Parameters
    ----------
    store
        Path of a store, the SpatialData read from it, or the AnnData that was fitted.
    path
        File to write.
    genes
        OME-TIFF: genes of the table to write, or channels of the ``element``; default those that are stored as rasters of
        their own, or all channels. GeoJSON: genes whose counts in each region become its measurements. Vitessce: genes to
        draw, of those that are stored as rasters; default the first ones.
    element
        OME-TIFF: raster of the store to write instead of genes, such as ``"{library}_image"`` or ``"projection_sd"``.
    regions
        GeoJSON: whatever :func:`sphisto.tl.aggregate` takes. Circles become polygons of the same area, labels outlines
        along the edges of their pixels; regions without an area are left out.
    radius
        GeoJSON: radius of circles in full-resolution px, as in :func:`sphisto.tl.aggregate`.
    table
        GeoJSON: what :func:`sphisto.tl.aggregate` returned for these regions, with whatever was computed since. The numbers
        in ``obs``, and ``genes`` if given, become measurements; regions that are no rows of it are left out. By default
        ``genes``, if given, are summed here.
    classification
        GeoJSON: column of ``table.obs`` that becomes the class of each region, with the colours of
        ``uns["{classification}_colors"]``, where there are any.
    objects
        GeoJSON: what QuPath makes of the regions: ``"annotation"``, or ``"detection"``, which suits many thousands.
    over
        GeoJSON: raster of the store whose pixels the coordinates are in, such as ``"projection"`` for outlines that are to
        lie over genes that were exported as OME-TIFF. By default full-resolution px of the section's image.
    url
        Vitessce: where a browser finds the store; default ``http://localhost:8000/`` and the name of the store.
    key
        Which projection of the store.
    library_id
        Which section, where several were fitted together.
    overwrite
        Replace a file that is there.

    Returns
    -------
    ``None``.

    Writes
    ------
    `path`
        At once, when it is complete: whatever happens before, a file that is there stays as it is.

    Raises
    ------
    FileExistsError
        If the file is there.
    ValueError
        If the file's name ends otherwise, a keyword is for another kind of file, the regions are of no known kind, or one of
        several sections must be chosen.
    KeyError
        If a gene, projection, element or column is not there.
    OSError
        If the disk does not suffice.

    Examples
    --------
    >>> import sphisto as sp
    >>> sp.tl.export("toy.zarr", "genes.ome.tif", genes=["nuclei_a", "class1_a"])  # doctest: +SKIP
    >>> sp.tl.export("toy.zarr", "tissue.geojson", regions="projection_tissue")  # doctest: +SKIP
    """
    path = user_path(path)
    stated = {
        "genes": genes, "element": element, "regions": regions, "radius": radius, "table": table,
        "classification": classification, "objects": None if objects == "annotation" else objects, "over": over, "url": url,
    }  # fmt: skip
    kind = _kind(path, [name for name, value in stated.items() if value is not None])
    require_free(path, overwrite=overwrite)
    names = [genes] if isinstance(genes, str) else None if genes is None else list(genes)
    store = store_of(store, key)
    key = stores.projection(store, key, library_id)
    if kind == "OME-TIFF":
        _ome_tiff(path, store, key, names, element)
    elif kind == "GeoJSON":
        _geojson(path, store, key, names, regions, radius, table, classification, objects, over)
    else:
        _vitessce(path, store, key, names, url)


def _kind(path: Path, stated: Sequence[str]) -> str:
    """Kind of a file by its name; refuses keywords that are for others."""
    kind = next((kind for kind, (ends, _) in _KINDS.items() if path.name.lower().endswith(ends)), None)
    if kind is None:
        known = "; ".join(f"{', '.join(ends)}: {kind}" for kind, (ends, _) in _KINDS.items())
        msg = f"Found the file name {path.name!r}; expected one that ends as the kind of file to write does ({known})."
        raise ValueError(msg)
    wrong = [name for name in stated if name not in _KINDS[kind][1]]
    if wrong:
        kinds = " or ".join(kind for kind, (_, own) in _KINDS.items() if wrong[0] in own)
        msg = f"Found `{wrong[0]}` with {path.name!r}, which becomes {kind}; expected it with {kinds} only."
        raise ValueError(msg)
    return kind


# ---- OME-TIFF


def _ome_tiff(path: Path, store: Store, key: str, genes: list[str] | None, element: str | None) -> None:
    about = {"written by": f"sphisto {__version__}", "library_id": stores.library_id(store, key)}
    if element is None:
        chosen = genes if genes is not None else list(stores.raster(store, key).channels)
        _require_some(chosen)
        made, unit, spot = planes.gene_planes(store, key, chosen), stores.unit(store, key), stores.spot(store, key)
        about |= {"projection": key, "unit": unit, "outside tissue": "0"}
        about |= {"spot_um": f"{spot.um:g}", "spot_shape": spot.shape}
        description = f"Expected {unit} ({spot.um:g} um {spot.shape}), by gene; 0 outside tissue."
    else:
        made = planes.raster_planes(store, element, genes)
        about |= {"element": element}
        description = f"{element} of a store of sphisto."
    mend = "Free some space, or choose another `path` or fewer `genes`"
    require_room(path.parent, made.n_bytes_kept(), made.n_bytes, needs=f"{path.name} needs", mend=mend)
    with new_file(path) as beside:
        write_ome_tiff(beside, made, name=element or key, description=description, about=about)


def _require_some(genes: list[str]) -> None:
    if not genes:
        msg = "Found no gene to write: `genes` is empty, or the store holds no gene as a raster of its own. Name some."
        raise ValueError(msg)


# ---- GeoJSON


def _geojson(
    path: Path, store: Store, key: str, genes: list[str] | None, regions: Any, radius: Any, table: AnnData | None,
    classification: str | None, objects: Objects, over: str | None,
) -> None:  # fmt: skip
    if regions is None:
        msg = f"Found no `regions` for {path.name!r}; expected what `sphisto.tl.aggregate` takes."
        raise ValueError(msg)
    if objects not in get_args(geojson.Objects):
        msg = f"Found objects={objects!r}; expected one of {', '.join(map(repr, get_args(geojson.Objects)))}."
        raise ValueError(msg)
    per_px = (1.0, 1.0) if over is None else stores.raster(store, over).grid.fullres_per_px
    outlines, index = understood(
        store, regions, radius, stores.system(store, key), stores.raster(store, _keys.factors(key)).grid
    ).outlines()
    if table is None and genes is not None:
        table = aggregate(store, regions, radius=radius, genes=genes, key=key)
    about = _about_regions(table, genes, classification)
    features = [
        geojson.Feature(outline, name, **about(name))
        for outline, name in zip(outlines, _names(index, table), strict=True)
        if outline is not None and (table is None or name in table.obs_names)
    ]
    _tell_left_out(len(outlines), len(features), table)
    with new_file(path) as beside:
        geojson.write_geojson(beside, features, per_px=per_px, objects=objects)


def _names(index: NDArray[Any], table: AnnData | None) -> list[str]:
    """Names of regions as a table of them has them; refuses a table of other regions."""
    names = list(unique_names(index))
    strange = [] if table is None else sorted(set(map(str, table.obs_names)) - set(names))
    if strange:
        msg = (
            f"Found rows of `table` that are none of the regions: {', '.join(map(repr, strange[:5]))}; expected what "
            "`sphisto.tl.aggregate` returned for them."
        )
        raise KeyError(msg)
    return names


def _about_regions(
    table: AnnData | None, genes: list[str] | None, classification: str | None
) -> Callable[[str], dict[str, Any]]:
    """Return what gives the class and the measurements of a region by its name."""
    if table is None:
        if classification is not None:
            msg = f"Found classification={classification!r} without `table`, whose column of `obs` it names."
            raise ValueError(msg)
        return lambda name: {}
    if classification is not None and classification not in table.obs:
        msg = f"Found no column {classification!r} in table.obs; it has {', '.join(map(repr, table.obs.columns))}."
        raise KeyError(msg)
    missing = [gene for gene in genes or () if gene not in table.var_names]
    if missing:
        msg = f"Found no gene {', '.join(map(repr, missing))} in `table`."
        raise KeyError(msg)
    numbers = table.obs.select_dtypes("number").astype(float)
    chosen: Any = table[:, genes or []].X
    values = np.column_stack(
        [numbers.to_numpy(), chosen.toarray() if hasattr(chosen, "toarray") else np.asarray(chosen)]
    )
    measured = [*map(str, numbers.columns), *(genes or ())]
    classes = None if classification is None else table.obs[classification].astype("category")
    colors = {} if classes is None else _colors(table, str(classification), classes.cat.categories)
    row = {str(name): i for i, name in enumerate(table.obs_names)}

    def about(name: str) -> dict[str, Any]:
        i = row.get(name)
        if i is None:
            return {}
        found: dict[str, Any] = {"measurements": dict(zip(measured, values[i], strict=True))}
        if classes is not None and classes.cat.codes.iloc[i] >= 0:  # the class may be missing
            own = classes.iloc[i]
            found |= {"classification": str(own), "color": colors.get(own)}
        return found

    return about


def _colors(table: AnnData, classification: str, categories: Any) -> dict[Any, tuple[int, int, int]]:
    """Colours of classes as scanpy keeps them, 0 to 255; none where there are none."""
    from matplotlib.colors import to_rgb

    known = table.uns.get(f"{classification}_colors", ())
    if len(known) < len(categories):
        return {}
    rgb = [[round(255 * part) for part in to_rgb(str(color))] for color in known]
    return {category: (r, g, b) for category, (r, g, b) in zip(categories, rgb, strict=False)}


def _tell_left_out(n: int, n_written: int, table: AnnData | None) -> None:
    if n_written == 0:
        of = "" if table is None else " and a row in `table`"
        msg = f"Found {n} regions, none of them with an area{of}; nothing is written."
        raise ValueError(msg)
    if n_written < n:
        why = "without an area" if table is None else "without an area or a row in `table`"
        logger.info("%d of %d regions are left out: %s.", n - n_written, n, why)


# ---- Vitessce


def _vitessce(path: Path, store: Store, key: str, genes: list[str] | None, url: str | None) -> None:
    stored = stores.raster(store, key)
    strange = [gene for gene in genes or () if gene not in stored.channels]
    if strange:
        msg = (
            f"Found no gene {', '.join(map(repr, strange))} among those that are stored as rasters, which Vitessce shows: "
            f"{', '.join(map(repr, stored.channels)) or 'none'}."
        )
        raise KeyError(msg)
    chosen = list(stored.channels) if genes is None else genes
    _require_some(chosen)
    if len(chosen) > vitessce.MOST_CHANNELS:
        logger.info(
            "Vitessce draws %d channels at once: %s.",
            vitessce.MOST_CHANNELS,
            ", ".join(chosen[: vitessce.MOST_CHANNELS]),
        )
    level = len(stored.shapes) - 1
    values = stored.read(level, Window(0, 0, *stored.shapes[level]))
    channels = tuple(
        vitessce.Channel(gene, stored.channels.index(gene), _brightest(values[stored.channels.index(gene)]))
        for gene in chosen[: vitessce.MOST_CHANNELS]
    )
    library, mark = stores.library_id(store, key), stores.mark(store)
    where = located(store)
    # squares of bins are too many for a browser
    has_spots = stores.spot(store, key).shape == "disc" and stores.has_shapes(store, _keys.spots(library))
    view = vitessce.View(
        url=_url(url, where),
        name=library,
        description=f"{key}: {stores.unit(store, key)}, written by sphisto {__version__}",
        system=stores.system(store, key),
        image=_keys.image(library),
        genes=key,
        channels=channels,
        spots=_keys.spots(library) if has_spots else None,
        table=claims.table_of(mark, library) if has_spots else None,
    )
    with new_file(path) as beside:
        vitessce.write_view_config(beside, view)


def _brightest(values: NDArray[Any]) -> float:
    """Value that few pixels of a gene exceed; 1 for a gene that is nowhere."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, 0.99)) or 1.0 if known.size else 1.0


def _url(url: str | None, store: Any) -> str:
    """Address of a store for a browser."""
    if url is not None:
        if not url.startswith(("http://", "https://")):
            msg = f"Found url={url!r}; expected an address that begins with http:// or https://, at which a browser finds the store."
            raise ValueError(msg)
        return url.rstrip("/")
    path = store if isinstance(store, Path) else store.path
    if path is None:
        msg = "Found a SpatialData without a path; expected `url`, where a browser finds the store."
        raise ValueError(msg)
    from urllib.parse import quote

    return f"http://localhost:8000/{quote(Path(os.path.abspath(path)).name)}"  # noqa: PTH100 - a link keeps its name
