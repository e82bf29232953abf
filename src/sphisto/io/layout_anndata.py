"""A section in an AnnData: the Visium layout of scanpy, squidpy, Space Ranger readers and CELLxGENE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._checks import require_positive
from sphisto._settings import logger
from sphisto.io.counts import require_frames
from sphisto.io.image.open import open_image
from sphisto.io.image.pyramid import Pyramid, as_pyramid
from sphisto.io.layouts import (
    Layout,
    bin_um_of,
    centers_of,
    opened,
    positive_or_none,
    stated_scale,
    under_tissue,
    valid_scale,
)
from sphisto.io.libraries import libraries_of, library_of, part_of, refuse_left_behind, rows_by, rows_of_library

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

STORED = {"fullres": "", "hires": "tissue_hires_scalef", "lowres": "tissue_lowres_scalef"}
"""Images of ``uns["spatial"]``, finest first, and the scale factors that they come with; a full-resolution one needs none."""
_COLUMNS = (
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("pxl_col", "pxl_row"),
    ("imagecol", "imagerow"),
)  # x, y in obs
_AXES = (("x", "imagecol", "pxl_col", "pxl_col_in_fullres"), ("y", "imagerow", "pxl_row", "pxl_row_in_fullres"))


def layout_of_anndata(
    adata: AnnData,
    *,
    image: Any = None,
    image_scale: float | None = None,
    library_id: str | None = None,
    library_key: str | None = None,
) -> Layout:
    """Find rows, places, image and scales of one section in an AnnData."""
    require_frames(adata)
    if library_id is None or image is None:
        refuse_left_behind(adata, library_id)
    spots = spots_of_anndata(adata, library_id, library_key)
    library = libraries_of(adata.uns.get("spatial", {}))[0].get(spots.library_id, {})
    pyramid, scale, which = _find_image(library, part_of(library, "scalefactors"), image, image_scale)
    return replace(spots, image=pyramid, image_scale=scale, concluded={**spots.concluded, "image": which})


def spots_of_anndata(adata: AnnData, library_id: str | None = None, library_key: str | None = None) -> Layout:
    """Find rows, places and scales of one section in an AnnData, without its image.

    ``library_key`` is the column of ``obs`` that decides which rows are the section's; without it, one that names it is
    looked for.
    """
    require_frames(adata)
    if "spatial" not in adata.obsm:
        msg = (
            f'Found no obsm["spatial"]; expected the spots\' (x, y) in full-resolution pixels. {_places_elsewhere(adata)}'
            " the section with `sphisto.io.read_visium`."
        )
        raise ValueError(msg)
    libraries, flags = libraries_of(adata.uns.get("spatial", {}))
    name, library = library_of(adata, library_id)
    rows, joined = rows_of_library(adata, name, libraries) if library_key is None else rows_by(adata, library_key, name)
    rows, kept = under_tissue(adata, rows)
    centers = centers_of(_numbers(adata.obsm["spatial"], rows))
    factors = part_of(library, "scalefactors")
    um_per_px, bin_um = factors.get("microns_per_pixel"), factors.get("bin_size_um")
    named = bin_um_of(adata.obs_names[rows])
    layout = f'AnnData, uns["spatial"][{name!r}]' if libraries else 'AnnData without uns["spatial"]'
    return Layout(
        library_id=name,
        adata=adata,
        rows=rows,
        centers=centers,
        spot_px=positive_or_none(factors.get("spot_diameter_fullres")),
        bin_um=named if bin_um is None else require_positive(bin_um, "bin_size_um"),
        microns_per_px=None if um_per_px is None else require_positive(um_per_px, "microns_per_pixel"),
        concluded={
            "layout": layout + (f" (the flag {', '.join(flags)} is no library)" if flags else ""),
            "rows": kept + joined,
            "frame": 'obsm["spatial"]: x, y in full-resolution px',
        },
    )


def _places_elsewhere(adata: AnnData) -> str:
    """Say where else a table seems to hold the places of its spots, and how to use them; then, to read them."""
    entries = [f"obsm[{name!r}]" for name in adata.obsm if "spatial" in str(name).lower()]
    columns = [f"obs[{list(pair)!r}]" for pair in _COLUMNS if set(pair) <= set(adata.obs)]
    if not (entries or columns):
        return "Read"
    found = (entries or columns)[0]
    value = f"adata.{found}" if entries else f"adata.{found}.to_numpy()"
    return f'If {found} holds these, take it: `adata.obsm["spatial"] = {value}`. Else read'


def _numbers(spatial: Any, rows: NDArray[np.intp]) -> Any:
    """Coordinates of some rows, from an array, a data frame or something lazy."""
    import pandas as pd
    from scipy import sparse

    if isinstance(spatial, pd.DataFrame):
        own = [[name for name in spatial if str(name).lower() in names] for names in _AXES]
        spatial = spatial[[own[0][0], own[1][0]]] if all(len(names) == 1 for names in own) else spatial
    if sparse.issparse(spatial):
        return spatial.toarray()[rows]
    values = spatial.to_numpy() if hasattr(spatial, "to_numpy") else np.asarray(spatial)
    return values[rows]


def _find_image(
    library: Mapping[str, Any], factors: dict[str, Any], image: Any, image_scale: float | None
) -> tuple[Pyramid, float | None, str]:
    """Return the image, its pixels per full-resolution pixel, and where both were found."""
    images = {key: pixels for key, pixels in part_of(library, "images").items() if pixels is not None}
    stored = {key: images[key] for key, factor in STORED.items() if key in images and (not factor or factor in factors)}
    if isinstance(image, str) and image in stored:
        return _stored_image(stored, image, factors, image_scale, "as asked for")
    if image is not None:
        pyramid, named = opened(image, stored)
        if image_scale is not None:
            scale = stated_scale(image_scale)
            return pyramid, scale, f"{named}, image_scale={scale:g} as stated"
        if key := _of_the_size(pyramid, stored):
            scale = valid_scale(factors[STORED[key]], STORED[key])
            return pyramid, scale, f"{named}, of the size of images[{key!r}] and taken to have its scale factor"
        return pyramid, None, named
    source = part_of(library, "metadata").get("source_image_path")
    missing = ""
    if isinstance(source, str | Path) and str(source).strip():
        path = Path(source).expanduser()
        if path.exists():
            pyramid, reduced = _opened_source(path, stored), None
            if image_scale is None:
                reduced = _of_the_size(pyramid, stored)
            if reduced is None:
                scale = 1.0 if image_scale is None else stated_scale(image_scale)
                return pyramid, scale, f"{path}, named at reading (source_image_path), image_scale {scale:.4g}"
            missing = f"; source_image_path = {str(source)!r} is of the size of images[{reduced!r}], so not the full-resolution image"
        else:
            missing = f"; the full-resolution image source_image_path = {str(source)!r} is not there"
    for key in STORED:
        if key in stored:
            if missing:
                logger.warning("images[%r] is used%s. Give the other one as `image`.", key, missing)
            strange = ", ".join(repr(other) for other in images if other not in stored)
            unused = f" ({strange} without a known scale factor)" if strange else ""
            return _stored_image(stored, key, factors, image_scale, f"from uns{missing}{unused}")
    joined = "" if library else ' Of tables that were joined, `anndata.concat(..., uns_merge="unique")` keeps them.'
    msg = (
        f"Found no tissue image with its scale factor in uns['spatial']{missing}; expected images['hires'] or "
        "images['lowres'] and scalefactors['tissue_hires_scalef']. Pass the image as `image=` (with `image_scale=` if it "
        f"is not the full-resolution one) or read the section with `sphisto.io.read_visium`.{joined}"
    )
    raise ValueError(msg)


def _of_the_size(pyramid: Pyramid, stored: Mapping[str, Any]) -> str | None:
    """Return which of the reduced images that are stored has the size of an image; ``None`` if none has."""
    sizes = {key: as_pyramid(known).shape for key, known in stored.items() if key != "fullres"}
    return next((key for key, size in sizes.items() if size == pyramid.shape), None)


def _opened_source(path: Path, stored: Mapping[str, Any]) -> Pyramid:
    """Open the image that was named at reading; where that fails, say which entry named it."""
    try:
        return open_image(path)
    except (ValueError, OSError) as error:
        instead = next(iter(stored), None)
        other = "" if instead is None else f", or the one that is stored, `image={instead!r}`"
        msg = (
            f"The metadata of the table name an image that cannot be read (source_image_path = {str(path)!r}): {error} Correct or "
            f"remove that entry, or give the image as `image=`{other}."
        )
        raise ValueError(msg) from error


def _stored_image(
    stored: Mapping[str, Any], key: str, factors: Mapping[str, Any], image_scale: float | None, why: str
) -> tuple[Pyramid, float, str]:
    factor = STORED[key] if image_scale is None else ""
    if image_scale is not None:
        scale = stated_scale(image_scale)
    else:
        scale = valid_scale(factors[factor], factor) if factor else 1.0
    pyramid = as_pyramid(open_image(stored[key]) if isinstance(stored[key], str | Path) else stored[key])
    others = [other for other in stored if other != key]
    also = f"; there are also {', '.join(map(repr, others))}" if others else ""
    return pyramid, scale, f"images[{key!r}] {why}, {factor or 'image_scale'} {scale:.4g}{also}"
