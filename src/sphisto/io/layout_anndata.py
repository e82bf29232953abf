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

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import Series

STORED = {"fullres": "", "hires": "tissue_hires_scalef", "lowres": "tissue_lowres_scalef"}
"""Images of ``uns["spatial"]``, finest first, and the scale factors that they come with; a full-resolution one needs none."""
_LABEL = "library_id"  # the column of obs by which joined tables usually name their sections
_MISSING = {"nan", "None", "<NA>", "NaN"}
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
        _refuse_left_behind(adata, library_id)
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


def libraries_of(spatial: Any) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the libraries of ``uns["spatial"]``, and the names of flags beside them, such as CELLxGENE's ``is_single``."""
    if not isinstance(spatial, Mapping):
        raise ValueError(_other_form(type(spatial).__name__))
    parts = [name for name in ("images", "scalefactors") if name in spatial]
    if parts:
        raise ValueError(_other_form(f"{', '.join(parts)} without the name of their library above them"))
    flags = [
        str(name) for name, entry in spatial.items() if np.ndim(entry) == 0 and np.asarray(entry).dtype.kind in "bui"
    ]
    libraries = {str(name): entry for name, entry in spatial.items() if str(name) not in flags}
    for name, entry in libraries.items():
        if not isinstance(entry, Mapping):
            raise ValueError(_other_form(f"{type(spatial).__name__} with {name!r}: {type(entry).__name__}"))
    return libraries, flags


def _other_form(found: str) -> str:
    return (
        f"Found uns['spatial'] of another form ({found}); expected a dict of libraries, each a dict "
        "with images and scalefactors. Correct or remove what is not, or read the section with `sphisto.io.read_visium`."
    )


def part_of(library: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the images, scalefactors or metadata of a library; empty where there are none."""
    part = library.get(name)
    if part is None:
        return {}
    if not isinstance(part, Mapping):
        raise ValueError(_other_form(f"{name} as {type(part).__name__}"))
    return dict(part)


def library_of(adata: AnnData, library_id: str | None) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the entry of one library of ``uns["spatial"]``; an empty entry where there are none."""
    libraries, _ = libraries_of(adata.uns.get("spatial", {}))
    if library_id is None and len(libraries) > 1:
        library_id = _named_by_all(adata, libraries)
    if library_id is None and len(libraries) > 1:
        msg = f"Found several libraries in uns['spatial']: {', '.join(libraries)}. Choose one with `library_id`."
        raise ValueError(msg)
    if not libraries:
        return library_id or "library", {}
    name = library_id or next(iter(libraries))
    if name not in libraries:
        msg = f"Found no library {name!r} in uns['spatial']; it holds {', '.join(libraries)}. Choose one of these as `library_id`."
        raise KeyError(msg)
    return name, libraries[name]


def _refuse_left_behind(adata: AnnData, library_id: str | None) -> None:
    """Refuse a table joined of several sections without ``uns["spatial"]``, which ``anndata.concat`` leaves out by default."""
    if libraries_of(adata.uns.get("spatial", {}))[0]:
        return
    for column, values in adata.obs.items():
        names = _names(values, also_numbers=column == _LABEL)
        found = set() if names is None else set(names) - _MISSING
        if len(found) > 1 and (column == _LABEL if library_id is None else library_id in found):
            msg = (
                f"Found a table joined of several sections (obs[{str(column)!r}] holds {', '.join(sorted(found)[:5])}) without "
                "uns['spatial']; expected an entry for each, with its image and scale factors. Join them again by "
                f'`anndata.concat(..., label={_LABEL!r}, uns_merge="unique")`, or give both `library_id` and `image`.'
            )
            raise ValueError(msg)


def _named_by_all(adata: AnnData, libraries: Mapping[str, Any]) -> str | None:
    """Return the library that a column of ``obs`` gives to all rows, as of a table that was cut out of a joined one."""
    found: dict[str, str] = {}
    for column, values in adata.obs.items():
        names = _names(values, also_numbers=column == _LABEL)
        alone = set() if names is None else set(names)
        if len(alone) == 1 and alone <= set(libraries):
            found.setdefault(alone.pop(), str(column))
    if len(found) != 1:
        return None
    name, column = next(iter(found.items()))
    others = ", ".join(other for other in libraries if other != name)
    logger.info("All rows are of %r, by obs[%r]: it is taken of the libraries of uns['spatial'] (there are also %s).",
                name, column, others)  # fmt: skip
    return name


def libraries_by(adata: AnnData, library_key: str) -> list[str]:
    """Names of the libraries that a column of ``obs`` gives to rows, in the order in which they come; say which rows have none."""
    names = _column(adata, library_key)
    missing = np.isin(names, list(_MISSING))
    if missing.any():
        logger.warning(
            "%d of %d rows have no value in obs[%r]: they belong to no section, and are not used. `adata[adata.obs[%r].notna()].copy()` "
            "leaves them out.", missing.sum(), len(names), library_key, library_key,
        )  # fmt: skip
    return [str(name) for name in dict.fromkeys(names[~missing])]


def rows_by(adata: AnnData, library_key: str, name: str) -> tuple[NDArray[np.intp], str]:
    """Return the rows to which a column of ``obs`` gives the name of a library, whatever other columns hold; and a note on that."""
    rows = np.flatnonzero(_column(adata, library_key) == name)
    logger.info("%s: %d of %d rows belong to it, by obs[%r].", name, len(rows), adata.n_obs, library_key)
    return rows, f"; the section's own by obs[{library_key!r}]"


def _column(adata: AnnData, library_key: str) -> NDArray[Any]:
    """Values of a column of ``obs``, as words."""
    if library_key not in adata.obs:
        msg = f"Found no column obs[{library_key!r}]; expected one that names the library of each spot."
        raise KeyError(msg)
    names = _names(adata.obs[library_key], also_numbers=True)
    assert names is not None  # numbers are taken, too
    return names


def rows_of_library(adata: AnnData, name: str, libraries: Mapping[str, Any]) -> tuple[NDArray[np.intp], str]:
    """Return the rows of a table, perhaps joined of several, that belong to one library; and a note on how they were found.

    A column of ``obs`` whose values name libraries decides: usually ``library_id``, as
    ``anndata.concat(label="library_id")`` and squidpy write it.
    """
    every = np.arange(adata.n_obs)
    by_column: dict[str, NDArray[np.bool_]] = {}
    unclear: dict[str, NDArray[np.bool_]] = {}
    of_others: dict[str, set[str]] = {}
    for column, values in adata.obs.items():
        names = _names(values, also_numbers=column == _LABEL)
        found = set() if names is None else set(names) - _MISSING
        if name in found and (column == _LABEL or found <= set(libraries)):
            by_column[str(column)] = np.asarray(names == name)
        elif name in found:
            unclear[str(column)] = np.asarray(names == name)
        elif found and found <= set(libraries):
            of_others[str(column)] = found
    if _LABEL in by_column:
        by_column = {_LABEL: by_column[_LABEL]}
    elif not by_column and unclear:
        if not {"array_row", "array_col"} <= set(adata.obs):
            raise ValueError(_unclear(adata, name, *next(iter(unclear.items()))))
        if _on_one_array(adata):
            logger.info("%s: obs[%r] is not taken for the names of sections: each spot has its own place on one array.",
                        name, next(iter(unclear)))  # fmt: skip
        else:
            by_column = unclear
    answers = {np.packbits(rows).tobytes(): column for column, rows in by_column.items()}
    if len(answers) == 1:
        column = next(iter(by_column))
        rows = np.flatnonzero(by_column[column])
        if len(rows) == adata.n_obs:
            return every, ""
        logger.info("%s: %d of %d rows belong to it, by obs[%r].", name, len(rows), adata.n_obs, column)
        return rows, f"; the section's own by obs[{column!r}]"
    if len(answers) > 1:
        msg = (
            f"Found several columns of obs that name the library {name!r} and do not agree on its spots: "
            f"{', '.join(by_column)}. Give the section's own spots: `adata[adata.obs[{next(iter(by_column))!r}] == {name!r}].copy()`."
        )
        raise ValueError(msg)
    if of_others:
        column, found = next(iter(of_others.items()))
        msg = (
            f"Found no row of {name!r}: obs[{column!r}] is {', '.join(sorted(found))} in all. Choose that with "
            f"`library_id`, or give the spots of {name!r}."
        )
        raise ValueError(msg)
    labels = set(adata.obs[_LABEL].astype(object).map(_as_word)) if _LABEL in adata.obs else set()
    if len(labels) > 1:
        named = f"obs[{_LABEL!r}] holds {', '.join(sorted(labels)[:5])}"
    elif len(libraries) > 1 and not _is_one(adata, name):
        named = f"uns['spatial'] holds {', '.join(libraries)}"
    else:
        return every, ""
    msg = (
        f"Found a table joined of several sections ({named}), and no column of obs states which rows belong to {name!r}; "
        f"expected one, usually {_LABEL!r}, with that value. Add it, or give the section's own spots, "
        "`adata[rows].copy()`, with its own entry of uns['spatial'] only."
    )
    raise ValueError(msg)


def _names(column: Series, *, also_numbers: bool = False) -> NDArray[Any] | None:
    """Values of a column of words as an array of str; ``None`` for numbers, which may mean something else."""
    import pandas as pd

    of = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    is_number = pd.api.types.is_numeric_dtype(of.dtype) or pd.api.types.is_bool_dtype(of.dtype)
    if is_number and not also_numbers:
        return None
    if isinstance(column.dtype, pd.CategoricalDtype):  # of each value once
        words = np.array([*map(_as_word, column.cat.categories), _as_word(np.nan)], dtype=object)
        return np.asarray(words[column.cat.codes.to_numpy()], dtype=object)
    return np.asarray(column.astype(object).map(_as_word), dtype=object)


def _as_word(value: Any) -> str:
    """Text of a value; that of a whole number is the same whether joining made it a float or not."""
    return str(int(value)) if isinstance(value, float | np.floating) and value == np.rint(value) else str(value)


def _unclear(adata: AnnData, name: str, column: str, rows: NDArray[np.bool_]) -> str:
    return (
        f"Found the library's name {name!r} in {int(rows.sum())} of {adata.n_obs} rows of obs[{column!r}], and words there that "
        "are no libraries; expected a column that names the sections of a joined table, or none with that name in it. If it "
        f"names them, give the section's own spots, `adata[adata.obs[{column!r}] == {name!r}].copy()`; else add "
        f"`adata.obs[{_LABEL!r}] = {name!r}`."
    )


def _is_one(adata: AnnData, name: str) -> bool:
    """Whether all rows are of one section, whatever ``uns["spatial"]`` still holds of others.

    A column states it, or no two spots lie at one place of the array, as those of two sections would.
    """
    columns = (_names(values) for _, values in adata.obs.items())
    return any(set(names) == {name} for names in columns if names is not None) or _on_one_array(adata)


def _on_one_array(adata: AnnData) -> bool:
    """Whether each spot has its own place on the array."""
    array = ["array_row", "array_col"]
    return set(array) <= set(adata.obs) and not adata.obs[array].duplicated().any()


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
