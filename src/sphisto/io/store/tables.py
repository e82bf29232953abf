"""Names and values in a table: which are ours, which the user's, and what of them a store can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._settings import logger
from sphisto.core.grid import SAME_PLACE_PX
from sphisto.io.store.groups import open_group
from sphisto.io.store.names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame


def with_other_projections(table: AnnData, earlier: Path, keys: Sequence[str]) -> None:
    """Add to a table what an earlier one on disk holds of some projections, by names of genes and spots.

    Raises
    ------
    ValueError
        If the earlier one is of another section, or values that it holds at spots or genes would be lost.
    """
    if not earlier.is_dir():
        return
    import pandas as pd
    from anndata.io import read_elem

    group = open_group(earlier)
    var, obs = read_elem(group["var"]), read_elem(group["obs"])
    if not keys:  # all that is there gives way to this table
        _refuse_another_section(table, obs.index, var.index, group)
        return
    _refuse_other_spots(table, obs.index, group, keys)
    _refuse_another_section(table, obs.index, var.index, group)
    genes, spots = (
        pd.Index(old.index).get_indexer(new) for old, new in ((var, table.var_names), (obs, table.obs_names))
    )
    for key in keys:
        if f"varm/{_keys.loadings(key)}" not in group:
            continue
        loadings = read_elem(group[f"varm/{_keys.loadings(key)}"])
        lost = np.setdiff1d(np.flatnonzero(~np.isnan(loadings).any(axis=1)), genes)
        if len(lost):
            msg = (
                f"The table lacks {len(lost)} genes ({', '.join(map(str, var.index[lost[:3]]))}, ...) of the projection "
                f"{key!r} in the same store, whose maps would lose them. Give a table with these genes, or choose "
                "another `store`."
            )
            raise ValueError(msg)
        table.varm[_keys.loadings(key)] = _reordered(loadings, genes)
        for name in set(_keys.in_var(key)) & set(var):
            table.var[name] = _reordered(var[name].to_numpy(), genes)
        for part, name, order in (("varm", _keys.by_method(key), genes), ("obsm", _keys.fitted(key), spots)):
            if f"{part}/{name}" in group:
                getattr(table, part)[name] = _reordered(read_elem(group[f"{part}/{name}"]), order)
        if f"uns/{key}" in group:
            table.uns[key] = read_elem(group[f"uns/{key}"])


def _refuse_another_section(table: AnnData, names: Any, genes: Any, group: Any) -> None:
    """Refuse a table of another section than the earlier one: of a section, names or places of spots may have been mended.

    Neither tells sections apart that lie on one lattice, so that spots must have counted about the same of the genes that
    both have, too.
    """
    import pandas as pd
    from anndata.io import read_elem
    from scipy.spatial import cKDTree

    # correlation of the logarithms of spots' counts of the same genes: 1 in a section; between six real ones,
    # spots called by row and column of a lattice, at most 0.75
    least_alike = 0.9
    most = 0.5  # of the spots, by which a section is known again
    if not len(table) or not len(names) or "obsm/spatial" not in group:  # a slide without spots
        return
    here, there = (np.asarray(places)[:, :2] for places in (table.obsm["spatial"], read_elem(group["obsm/spatial"])))
    distance, near = cKDTree(there).query(here)
    at_place = np.where(distance <= SAME_PLACE_PX, near, -1)
    by_name = pd.Index(names).get_indexer(table.obs_names) if pd.Index(names).is_unique else np.full(len(table), -1)
    common = pd.Index(genes).intersection(table.var_names)
    sums = None
    if table.X is not None and "X" in group and pd.Index(genes).is_unique and table.var_names.is_unique:
        matrices = ((table.X, table.var_names), (group["X"], pd.Index(genes)))
        sums = [_sums(matrix, columns.get_indexer(common)) for matrix, columns in matrices]
    for rows in (at_place, by_name):
        found = rows >= 0
        if found.mean() <= most:
            continue
        alike = None if sums is None else _likeness(sums[0][found], sums[1][rows[found]])
        if (rows is at_place) if alike is None else alike >= least_alike:
            return
    msg = (
        f"The store holds a projection of another section of that library's name: of {len(names)} spots, with "
        f"{int((at_place >= 0).sum())} of the {len(table)} here at the same place, and other counts. It is left alone. Choose another "
        "`library_id` or `store`, or remove the store if it is not needed any more."
    )
    raise ValueError(msg)


def _sums(matrix: Any, columns: NDArray[np.intp], *, at_once: int = 10_000) -> NDArray[np.float64]:
    """(n,) sums over some columns of a matrix, in memory or stored, so many rows of which are read together."""
    from anndata.io import sparse_dataset

    rows = matrix if hasattr(matrix, "shape") else sparse_dataset(matrix)
    starts = range(0, rows.shape[0], at_once)
    parts = (rows[i : i + at_once][:, columns].sum(axis=1) for i in starts)
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64], least: int = 10) -> float | None:
    """Correlation of logarithms of two (n,) sums of counts; ``None`` if they are no counts, the same everywhere, or of few spots."""
    flat = 0.001  # standard deviation of sums that were made the same
    whole = all(np.array_equal(each, np.rint(each)) and (each >= 0).all() for each in (one, other))
    logs = np.log1p(one), np.log1p(other)
    if len(one) < least or not whole or min(each.std() for each in logs) < flat:
        return None
    return float(np.corrcoef(*logs)[0, 1])


def _refuse_other_spots(table: AnnData, names: Any, group: Any, keys: Sequence[str]) -> None:
    """Refuse a table to which projections of an earlier one cannot be carried over: by spots' names, which are of the same places."""
    import pandas as pd
    from anndata.io import read_elem

    kept = ", ".join(map(repr, keys))
    for index in (table.obs_names, names):
        if not pd.Index(index).is_unique:
            twice = pd.Index(index)[pd.Index(index).duplicated()][0]
            msg = (
                f"Found several spots of the name {twice!r}; expected unique names, as the store holds {kept}, whose values at the "
                "spots are carried over by them. Call `adata.obs_names_make_unique()` before all fits, or choose another `store`."
            )
            raise ValueError(msg)
    if not len(table) or not len(names) or "obsm/spatial" not in group:  # a slide without spots
        return
    rows = pd.Index(names).get_indexer(table.obs_names)
    here, there = (
        np.asarray(table.obsm["spatial"])[rows >= 0],
        np.asarray(read_elem(group["obsm/spatial"]))[rows[rows >= 0]],
    )
    if not len(here) or np.nanmax(np.abs(here - there), initial=0) > SAME_PLACE_PX:
        what = "none of its spots" if not len(here) else "spots of these names at other places"
        msg = (
            f"The store holds {kept} of a library of that name, with {what}; expected the same section, as its image, spots and "
            "counts would take the place of theirs. Choose another `library_id` or `store`."
        )
        raise ValueError(msg)
    if lost := len(names) - int((rows >= 0).sum()):
        msg = (
            f"The table lacks {lost} of {len(names)} spots ({', '.join(map(str, pd.Index(names).difference(table.obs_names)[:3]))}, "
            f"...) of the projections {kept} in the same store, whose values there would be lost. Give a table with these spots, "
            "or choose another `store`."
        )
        raise ValueError(msg)


def become(adata: AnnData, content: AnnData) -> None:
    """Give an AnnData, perhaps a view, the content of another one in place.

    anndata has no public name for that, but its constructor takes another AnnData, and may be called again.
    """
    from anndata import AnnData

    AnnData.__init__(adata, content)


def require_own(held: Mapping[str, Any], name: Any, own: bool, *, where: str, remedy: str) -> None:
    """Refuse to write over what the user holds under a name, unless sphisto wrote it; or beside a name of other case."""
    if not isinstance(name, str):
        msg = f"Found {name!r} as a name to write in {where}; expected text. Give a `key_added` such as 'projection'."
        raise TypeError(msg)
    if name in held and not own:
        msg = f"Found {where}[{name!r}], which sphisto did not write and would overwrite. {remedy}"
        raise ValueError(msg)
    other = twin_of(held, name)
    if other is not None:
        msg = (
            f"Found {where}[{other!r}], whose name differs in case only from {where}[{name!r}], which sphisto would write: no "
            f"store holds both. {remedy}"
        )
        raise ValueError(msg)


def twin_of(held: Iterable[Any], name: str) -> str | None:
    """Return the first name that differs from another in case only: SpatialData takes no two such names."""
    return next((other for other in map(str, held) if other != name and other.lower() == name.lower()), None)


def require_free_key(table: AnnData, key: str) -> None:
    """Refuse a ``key_added`` whose entry in ``uns`` is the user's; columns of its name there are logged."""
    check_name(key, "key_added")
    record = table.uns.get(key)
    own = is_record(record) and ("store" in record or "version" in record["params"])
    require_own(table.uns, key, own, where="uns", remedy="Choose another `key_added`, or rename that entry.")
    if record is not None:
        return
    parts = {
        "var": _keys.in_var(key),
        "varm": (_keys.loadings(key), _keys.by_method(key)),
        "obsm": (_keys.fitted(key),),
        "obs": (_keys.held_out(key),),
    }
    known = [f"{part}[{name!r}]" for part, names in parts.items() for name in names if name in getattr(table, part)]
    if known:
        logger.warning(
            "%s will be replaced: the results of %r have these names. Choose another `key_added` to keep what is there.",
            ", ".join(known),
            key,
        )


def is_record(entry: Any) -> bool:
    """Whether an entry of ``uns`` has the form of what the verbs of sphisto leave there."""
    return isinstance(entry, Mapping) and isinstance(entry.get("params"), Mapping)


def flags(frame: DataFrame, name: str, what: str) -> NDArray[np.bool_] | None:
    """Return a column of true and false, unknown being false; ``None`` where there is no column of that name."""
    from pandas.api.types import infer_dtype

    if name not in frame:
        return None
    column = frame[name]
    if len(column) and infer_dtype(column) != "boolean":
        msg = f"Found {what}[{name!r}] of type {column.dtype}; expected true and false. Correct or rename the column."
        raise ValueError(msg)
    return np.where(column.isna(), False, column.to_numpy(dtype=object)).astype(bool)


def link_columns(table: AnnData, region: str) -> tuple[str, str]:
    """Choose the columns of ``obs`` that link rows to the spots of an element; those of an earlier link to it are removed.

    A column of such a name that is the user's stays, and ours then are called ``sphisto_...``.
    """
    attrs: Any = table.uns.pop("spatialdata_attrs", None) or {}
    if np.array_equal(np.atleast_1d(attrs.get("region")), [region]):
        table.obs = table.obs.drop(columns=[attrs["region_key"], attrs["instance_key"]], errors="ignore")
    taken = {str(name).casefold() for name in table.obs}  # SpatialData takes no names that differ in case only
    names = []
    for wanted in (_keys.REGION, _keys.SPOT_ID):
        name = wanted
        while name in taken:
            name = f"{_keys.MARK}_{name}"
        if name != wanted:
            logger.info("obs[%r] is kept as it is: the store's table is linked to its spots by obs[%r].", wanted, name)
        names.append(name)
    return names[0], names[1]


def plain(value: Any) -> Any:
    """Turn text and numbers of pandas' newer types into such as every version of anndata writes, also inside of dicts.

    Text becomes plain objects, or categories where some is missing; numbers and truth values that pyarrow holds become
    those of numpy, or pandas' nullable ones where some are missing.
    """
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return _plain_frame(value)
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, pd.Series | pd.Index):
        value = value.array
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return _plain_array(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "T":  # numpy's text of any length
        return value.astype(object)
    return value


def plain_copy(table: AnnData) -> AnnData:
    """Return a copy of a table of which all annotations are :func:`plain`; one that stays in its file is read."""
    from anndata import AnnData

    copied = table.to_memory() if table.isbacked else table.copy()
    copied.obs, copied.var, copied.uns = plain(copied.obs), plain(copied.var), plain(copied.uns)
    for aligned in (copied.obsm, copied.varm):
        for name in list(aligned):
            aligned[name] = plain(aligned[name])
    if copied.raw is not None:
        varm = {name: plain(value) for name, value in copied.raw.varm.items()}
        copied.raw = AnnData(copied.raw.X, var=plain(copied.raw.var), varm=varm)
    return copied


def _plain_frame(frame: DataFrame) -> DataFrame:
    import pandas as pd

    index = _as_index(_plain_array(frame.index.array), frame.index.name)
    columns = [frame.iloc[:, i].array for i in range(frame.shape[1])]
    # with its type stated, as pandas 3 would make its own kind of text of objects again
    arrays = [_plain_array(column) for column in columns]
    series = {i: pd.Series(array, index=index, dtype=array.dtype) for i, array in enumerate(arrays)}
    made = pd.DataFrame(series, index=index)
    made.columns = frame.columns
    return made


def _as_index(array: Any, name: Any = None) -> Any:
    import pandas as pd

    return pd.Index(array, dtype=array.dtype, name=name)


def _plain_array(array: Any) -> Any:
    """Turn an array of pandas into one that every version of anndata writes."""
    import pandas as pd

    if isinstance(array, pd.arrays.NumpyExtensionArray):
        array = array.to_numpy()
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = _as_index(_plain_array(array.categories.array))
        return pd.Categorical.from_codes(array.codes, categories, ordered=array.ordered)
    if isinstance(dtype, pd.ArrowDtype):
        return _plain_array(_from_arrow(array))
    if isinstance(dtype, pd.Float32Dtype | pd.Float64Dtype):
        return array.to_numpy(dtype=dtype.numpy_dtype, na_value=np.nan)
    if isinstance(dtype, pd.StringDtype) or (dtype == np.dtype(object) and pd.api.types.infer_dtype(array) == "string"):
        values, missing = np.asarray(array, dtype=object), np.asarray(pd.isna(array))
        return pd.Categorical(values, _as_index(np.unique(values[~missing]))) if missing.any() else values
    return array


def _from_arrow(array: Any) -> Any:
    """Turn what pyarrow holds for pandas into numpy's or pandas' own."""
    import pandas as pd

    dtype = array.dtype.numpy_dtype
    if dtype.kind == "f":
        return pd.array(array.to_numpy(dtype=dtype, na_value=np.nan), dtype=dtype)
    values = pd.array(array.to_numpy(dtype=object, na_value=None), dtype=object)
    if dtype.kind not in "iub":
        return values
    nullable = "boolean" if dtype.kind == "b" else pd.Series([], dtype=dtype).convert_dtypes().dtype
    return pd.array(values, dtype=nullable)


def _reordered(values: Any, order: NDArray[np.intp]) -> NDArray[Any]:
    """Rows in another order; NaN where there is none."""
    rows = np.asarray(values)[order]
    if (order < 0).any():
        rows = rows.astype(np.result_type(rows, np.float32))
        rows[order < 0] = np.nan
    return rows
