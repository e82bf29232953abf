"""Libraries of an AnnData, the sections that it holds: which one is meant, and which rows of the table are its."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._settings import logger

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import Series

_LABEL = "library_id"  # the column of obs by which joined tables usually name their sections
_MISSING = {"nan", "None", "<NA>", "NaN"}


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


def refuse_left_behind(adata: AnnData, library_id: str | None) -> None:
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
