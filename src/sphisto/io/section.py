"""A section as its container tells it: AnnData in the Visium layout, or SpatialData, brought to one form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import number_of, require_positive
from sphisto.core.slide import SpotShape
from sphisto.io.claims import element_name
from sphisto.io.elements import levels_of, scale_to
from sphisto.io.images import open_image
from sphisto.io.pyramid import Pyramid, as_pyramid

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from spatialdata import SpatialData


@dataclass(frozen=True, eq=False)
class Section:
    """A section as its container told it, before pixels are computed on.

    Parameters
    ----------
    library_id
        Name of the section.
    table
        AnnData, spots x genes.
    centers
        (n, 2) spot centres (y, x) in full-resolution px.
    image
        Picture in any form that :func:`sphisto.io.pyramid.as_pyramid` takes, perhaps lazy.
    image_scale
        Image px per full-resolution px.
    spot_px
        ``spot_diameter_fullres``, or the side of a bin, in full-resolution px.
    shape
        Shape of the spots.
    microns_per_px
        Stated um per full-resolution px.
    spot_um
        Stated diameter of a spot or side of a bin in um.
    """

    library_id: str
    table: AnnData
    centers: NDArray[np.float64]
    image: Any
    image_scale: float
    spot_px: float | None = None
    shape: SpotShape = "disc"
    microns_per_px: float | None = None
    spot_um: float | None = None


def read_section(
    data: AnnData | SpatialData,
    *,
    image: Any = None,
    image_scale: float | None = None,
    library_id: str | None = None,
) -> Section:
    """Find image, coordinates and scale in an AnnData (Visium layout) or a SpatialData.

    Parameters
    ----------
    data
        AnnData with ``obsm["spatial"]`` and ``uns["spatial"]``, or SpatialData with an image, circles or squares, and
        a table that annotates them.
    image
        Picture to use instead of the one in ``data``: path, array (y, x, 3), or the name of an image element.
    image_scale
        Pixels of ``image`` per full-resolution pixel; by default 1, or the scale factor of a picture in ``data`` that
        has the same size.
    library_id
        Which section to take where ``data`` holds several.
    """
    if hasattr(data, "obsm"):
        return _from_anndata(data, image, image_scale, library_id)
    if hasattr(data, "shapes"):
        return _from_spatialdata(data, image, image_scale, library_id)
    msg = f"Found {type(data).__name__}; expected an AnnData in the Visium layout or a SpatialData."
    raise TypeError(msg)


def _from_anndata(adata: AnnData, image: Any, image_scale: float | None, library_id: str | None) -> Section:
    if "spatial" not in adata.obsm:
        msg = (
            'Found no obsm["spatial"]; expected the spots\' (x, y) in full-resolution pixels. Read the section with '
            "`sphisto.io.read_visium`."
        )
        raise ValueError(msg)
    name, library = _choose_library(adata.uns.get("spatial", {}), library_id)
    factors = dict(library.get("scalefactors") or {})
    picture, scale = _find_image(library, factors, image, image_scale)
    um_per_px = factors.get("microns_per_pixel")
    return Section(
        element_name(name),
        adata,
        _centers(adata.obsm["spatial"]),
        picture,
        scale,
        spot_px=number_of(factors.get("spot_diameter_fullres")),
        microns_per_px=None if um_per_px is None else require_positive(um_per_px, "microns_per_pixel"),
    )


def _choose_library(libraries: Any, library_id: str | None) -> tuple[str, Mapping[str, Any]]:
    known = isinstance(libraries, Mapping) and all(isinstance(library, Mapping) for library in libraries.values())
    if not known:
        msg = (
            f"Found uns['spatial'] of another form ({type(libraries).__name__}); expected a dict of libraries, each a dict "
            "with images and scalefactors. Read the section with `sphisto.io.read_visium`."
        )
        raise ValueError(msg)
    if library_id is None and len(libraries) > 1:
        msg = f"Found several libraries in uns['spatial']: {', '.join(libraries)}. Choose one with `library_id`."
        raise ValueError(msg)
    if not libraries:
        return library_id or "library", {}
    name = library_id or next(iter(libraries))
    if name not in libraries:
        msg = f"Found no library {name!r} in uns['spatial']; it holds {', '.join(libraries)}."
        raise KeyError(msg)
    return name, libraries[name]


def _centers(xy: Any) -> NDArray[np.float64]:
    """Turn (n, 2) x, y into y, x: the only place where the order changes."""
    try:
        points = np.asarray(xy, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = f"Found spot coordinates that are no numbers ({error}); expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg) from error
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"Found spot coordinates of shape {points.shape}; expected (spots, 2): x, y in full-resolution pixels."
        raise ValueError(msg)
    bad = int((~np.isfinite(points[:, :2])).any(axis=1).sum())
    if bad:
        msg = f"Found {bad} of {len(points)} spots without finite coordinates; remove them or correct the positions."
        raise ValueError(msg)
    if len(points) < 2:
        msg = f"Found {len(points)} spot(s); a projection needs at least two, and some tens to be worth anything."
        raise ValueError(msg)
    return points[:, 1::-1].copy()


def _find_image(
    library: Mapping[str, Any], factors: dict[str, Any], image: Any, image_scale: float | None
) -> tuple[Any, float]:
    """Return the picture and its pixels per full-resolution pixel."""
    stored = {
        key: picture
        for key, picture in dict(library.get("images") or {}).items()
        if f"tissue_{key}_scalef" in factors and picture is not None
    }
    if image is not None:
        picture = as_pyramid(open_image(image) if isinstance(image, str | Path) else image)
        same_size = (
            factors[f"tissue_{key}_scalef"] for key, known in stored.items() if np.shape(known)[:2] == picture.shape
        )
        return picture, _valid_scale(image_scale or next(same_size, 1.0), "image_scale")
    for key in ("hires", "lowres"):
        if key in stored:
            name = f"tissue_{key}_scalef"
            return stored[key], _valid_scale(image_scale or factors[name], name)
    source = (library.get("metadata") or {}).get("source_image_path")
    if isinstance(source, str) and Path(source).exists():
        return open_image(source), 1.0
    msg = (
        "Found no tissue image with its scale factor in uns['spatial']; expected images['hires'] or images['lowres'] "
        "and scalefactors['tissue_hires_scalef']. Pass the picture as `image=` (with `image_scale=` if it is not the "
        "full-resolution one) or read the section with `sphisto.io.read_visium`."
    )
    raise ValueError(msg)


def _valid_scale(scale: Any, name: str) -> float:
    value = number_of(scale)
    if not 0 < value <= 1 + 1e-6:
        msg = (
            f"{name} is {scale!r}; expected a number above 0 and at most 1: pixels of this image per full-resolution "
            "pixel. Correct the scale factor."
        )
        raise ValueError(msg)
    return value


def _from_spatialdata(sdata: SpatialData, image: Any, image_scale: float | None, library_id: str | None) -> Section:
    table, region = _choose_table(sdata, library_id)
    shapes = sdata.shapes[region]
    keys = table.uns["spatialdata_attrs"]
    rows = table.obs[keys["region_key"]].astype(str) == region
    adata = table[rows.to_numpy()].copy() if not rows.all() else table
    shapes = shapes.loc[adata.obs[keys["instance_key"]].to_numpy()]
    system, picture, scale = _choose_image(sdata, region, image, image_scale)
    to_system = scale_to(sdata.shapes[region], system, region)
    center = shapes.geometry.centroid
    xy = np.column_stack([center.x, center.y]) * to_system
    discs = "radius" in shapes
    size = 2 * shapes["radius"] if discs else np.sqrt(shapes.geometry.area)
    side = float(np.median(size)) * to_system
    named = re.search(r"(\d+)um", region)
    spot_um = None if discs or named is None else float(named.group(1))
    return Section(
        element_name(library_id or re.sub(r"_spots$", "", region)),
        adata,
        _centers(xy),
        picture,
        scale,
        spot_px=side,
        shape="disc" if discs else "square",
        microns_per_px=None if spot_um is None else spot_um / side,
        spot_um=spot_um,
    )


def _choose_table(sdata: SpatialData, library_id: str | None) -> tuple[AnnData, str]:
    """Return the table and the shapes element it annotates."""
    found = [
        (table, region)
        for table in sdata.tables.values()
        for region in np.atleast_1d(table.uns.get("spatialdata_attrs", {}).get("region", []))
        if region in sdata.shapes and (library_id is None or library_id in str(region))
    ]
    if len(found) == 1:
        return found[0][0], str(found[0][1])
    choice = f" for library_id={library_id!r}" if library_id else ""
    if not found:
        msg = f"Found no table{choice} that annotates circles or squares in the SpatialData; expected one."
        raise ValueError(msg)
    msg = (
        f"Found several annotated regions{choice}: {', '.join(str(region) for _, region in found)}. Choose one with "
        "`library_id=` (a part of its name that no other has)."
    )
    raise ValueError(msg)


def _choose_image(sdata: SpatialData, region: str, image: Any, image_scale: float | None) -> tuple[str, Any, float]:
    """Return the coordinate system shared with the spots, the picture as (y, x, c), and its px per system unit."""
    from spatialdata.transformations import get_transformation

    systems = list(get_transformation(sdata.shapes[region], get_all=True))
    if image is not None and not (isinstance(image, str) and image in sdata.images):
        system = "global" if "global" in systems else systems[0]
        picture = open_image(image) if isinstance(image, str | Path) else image
        return system, picture, _valid_scale(image_scale or 1.0, "image_scale")
    options = []
    for name in [image] if image is not None else list(sdata.images):
        shared = [s for s in get_transformation(sdata.images[name], get_all=True) if s in systems]
        for system in sorted(shared, key=lambda s: s != "global")[:1]:
            options.append((1 / scale_to(sdata.images[name], system, name), system, name))
    if not options:
        msg = (
            f"Found no image in a coordinate system of {region!r} ({', '.join(systems)}); the SpatialData holds "
            f"{', '.join(sdata.images) or 'no images'}. Add one or pass `image=`."
        )
        raise ValueError(msg)
    # like the Visium layout's default: the hires picture if there is one, else the finest
    scale, system, name = max(options, key=lambda option: ("hires" in option[2], option[0]))
    return system, Pyramid(levels_of(sdata.images[name], ("y", "x", "c"))), scale
