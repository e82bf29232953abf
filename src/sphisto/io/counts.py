"""What the table of a section holds: counts in whatever kind of matrix, and genes that can be distinguished."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto._checks import check_counts, require_counts, unmasked
from sphisto._settings import logger

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

RAW = "raw"
"""Name of ``layer`` for ``adata.raw``."""
GENE = "Gene Expression"
"""What Space Ranger calls genes among kinds of features."""

_COUNTS = "counts"
_EXACT = 2 ** (np.finfo(np.float32).nmant + 1)  # the largest number up to which float32 holds every whole one
_FILL = "Fill them (`adata.X = adata.X.filled(0)`), or leave out these spots or genes."
_LOAD = "Call `adata = adata.to_memory()` first."


def values_of(table: AnnData, layer: str | None) -> tuple[sparse.csr_array, bool, str]:
    """Return the (n, G) values to fit, in the order of ``var_names``, whether they are counts, and where they are from.

    By default they are those of the layer ``"counts"`` if there is one, else those of ``X``; a layer of that name without
    counts does not count where ``X`` holds some. ``layer="raw"`` takes those of ``table.raw``, unless a layer is called so.
    """
    require_frames(table)
    if table.n_vars == 0 or table.n_obs == 0:
        msg = f"Found a table of {table.n_obs} spots x {table.n_vars} genes; nothing is left to fit. Filter less."
        raise ValueError(msg)
    values, where = _default_values(table) if layer is None else _values(table, layer)
    problem = check_counts(values)
    none = problem is not None or not values.data.any()
    hint = f" {hint_of_raw(table)}" if none and where != _name(RAW) and counts_in_raw(table) else ""
    _refuse(values, where, hint)
    if problem:
        logger.warning("%s holds no raw counts (%s): the fit uses a Gaussian likelihood.%s", where, problem,
                       hint or " If others do, name their `layer` to `sphisto.io.section`.")  # fmt: skip
    elif values.data.max() > _EXACT:
        logger.warning("%s holds counts above %d, which are rounded to the precision of float32. If they are not "
                       "those to fit, name the `layer`.", where, _EXACT)  # fmt: skip
    return values, problem is None, where


def warn_of_other_features(table: AnnData, values: sparse.csr_array) -> None:
    """Warn of antibodies and the like beside genes, whose counts would count for the depth of spots and as genes."""
    kinds = table.var.get("feature_types")
    if kinds is None or not (genes := (kinds == GENE).to_numpy(dtype=bool)).any() or genes.all():
        return
    share = float(values[:, np.flatnonzero(~genes)].sum() / max(values.sum(), 1e-12))
    logger.warning(
        "%d of %d features are no genes (%s) and carry %.0f %% of the values: they are fitted as genes are, and count for the depth of "
        "spots. Leave them out with `adata = adata[:, adata.var['feature_types'] == 'Gene Expression'].copy()`.",
        (~genes).sum(), len(genes), ", ".join(sorted(set(map(str, kinds[~genes])))), 100 * share,
    )  # fmt: skip


def raw_counts(adata: AnnData) -> Any:
    """Return ``X`` in memory for the verbs that change it; refuse what is no counts, or a table that cannot be changed."""
    require_loaded(adata)
    counts = in_memory(adata.X, "adata.X")
    problem = check_counts(counts)
    if problem and counts_in_raw(adata):
        msg = (
            f"adata.X {problem}, expected raw counts: they are in adata.raw. Start from them: "
            "`adata = adata.raw.to_adata()`."
        )
        raise ValueError(msg)
    require_counts(counts, "adata.X")
    return counts


def matrix_of(table: AnnData, layer: str | None) -> tuple[Any, str]:
    """Return a matrix of the table as it lies there, spots x genes of ``var``, and what messages call it."""
    if layer is None:
        return table.X, _name(layer)
    if layer in table.layers:
        return table.layers[layer], f"layers[{layer!r}]"
    if layer == RAW and table.raw is not None:
        return _of_raw(table), _name(RAW)
    known = [name for name in table.layers if name is not None]  # for anndata 0.13, X is the layer None
    known += [f"{RAW} (that is, .raw)"] if table.raw is not None else []
    msg = f"Found no layer {layer!r}; the table has {', '.join(known) or 'no layers'}."
    raise KeyError(msg)


def in_memory(matrix: Any, where: str) -> Any:
    """Return a matrix that is lazy, in its file or of another kind as a numpy array, or as scipy sparse rows or columns.

    Values that are stored twice for one place of a sparse matrix are added, as scipy does.
    """
    if hasattr(matrix, "to_memory"):  # sparse, in a file
        matrix = matrix.to_memory()
    elif hasattr(matrix, "compute"):  # dask
        matrix = matrix.compute()
    if sparse.issparse(matrix):
        matrix = _compressed(matrix)
    elif isinstance(matrix, np.ma.MaskedArray):
        matrix = unmasked(matrix, where, _FILL)
    elif matrix is not None:
        matrix = _dense(matrix, where)
    if matrix is None or matrix.dtype.kind not in "buif":
        found = "no values" if matrix is None else f"values of type {matrix.dtype}"
        msg = f"Found {found} in {where}; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg)
    if sparse.issparse(matrix) and not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def require_loaded(adata: AnnData) -> None:
    """Refuse a table that stays in its file or is lazy: what is written into it would be lost or would fail."""
    if adata.isbacked:
        msg = f"Found a table that stays in its file ({adata.filename}), which cannot be changed in place. {_LOAD}"
        raise ValueError(msg)
    require_frames(adata)


def refuse_backed_view(adata: AnnData) -> None:
    """Refuse some rows or columns of a table that stays in its file: nothing can be written into them."""
    if adata.isbacked and adata.is_view:
        msg = (
            f"Found a view of a table that stays in its file ({adata.filename}), into which nothing can be written; expected "
            "the whole table, or a view of one in memory. Call `adata = adata.to_memory()` first, or give a `bbox`."
        )
        raise ValueError(msg)


def require_frames(adata: AnnData) -> None:
    """Refuse a table of which ``obs`` or ``var`` is lazy, as ``anndata.experimental.read_lazy`` returns it."""
    import pandas as pd

    for name in ("obs", "var"):
        frame = getattr(adata, name)
        if not isinstance(frame, pd.DataFrame):
            msg = f"Found a lazy table (`{name}` is a {type(frame).__name__}); expected a pandas DataFrame. {_LOAD}"
            raise ValueError(msg)


def counts_in_raw(table: AnnData) -> bool:
    """Whether ``table.raw`` holds raw counts."""
    if table.raw is None or table.raw.X is None:
        return False
    try:
        counts = in_memory(table.raw.X, _name(RAW))
    except ValueError:
        return False
    return bool(counts.size) and check_counts(counts) is None and bool(counts.max() > 0)


def hint_of_raw(table: AnnData) -> str:
    """Say how the counts of ``table.raw`` are had."""
    return f"Raw counts are in .raw ({table.raw.n_vars} genes): use `layer={RAW!r}`."


def gene_names(table: AnnData) -> tuple[str, ...]:
    """Return the names of the genes; refuse those that cannot be distinguished or be written."""
    names = tuple(map(str, table.var_names))
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        msg = f"Found duplicated gene names ({', '.join(repeated[:5])}); run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    broken = [name for name in names if "\0" in name or any("\ud800" <= sign <= "\udfff" for sign in name)]
    if broken:
        msg = (
            f"Found gene names that are no text ({', '.join(map(ascii, broken[:5]))}): they hold surrogates or a null "
            "character. Read the table with the right encoding, or rename the genes."
        )
        raise ValueError(msg)
    return names


def _default_values(table: AnnData) -> tuple[sparse.csr_array, str]:
    if _COUNTS not in table.layers:
        return _values(table, None)
    values, where = _values(table, _COUNTS)
    problem = check_counts(values)
    if problem and table.X is not None:
        of_x, _ = _values(table, None)
        if check_counts(of_x) is None:
            logger.warning("%s %s, and X holds raw counts: X is used. Say `layer=%r` if that is wrong.",
                           where, problem, _COUNTS)  # fmt: skip
            return of_x, _name(None)
    return values, where


def _values(table: AnnData, layer: str | None) -> tuple[sparse.csr_array, str]:
    matrix, where = matrix_of(table, layer)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        return sparse.csr_array(in_memory(matrix, where).astype(np.float32)), where


def _name(layer: str | None) -> str:
    return "X" if layer is None else f".{layer}"


def _of_raw(table: AnnData) -> Any:
    """Values of ``table.raw`` for the genes of the table."""
    import pandas as pd

    names = pd.Index(list(map(str, table.raw.var_names)))
    if not names.is_unique:
        twice = ", ".join(names[names.duplicated()][:3])
        msg = f"Found gene names twice in .raw ({twice}, ...); expected each once. Put the counts into a layer of the table."
        raise ValueError(msg)
    place = names.get_indexer(list(map(str, table.var_names)))
    if (place < 0).any():
        lacking = table.var_names[place < 0]
        msg = (
            f"Found {len(lacking)} of {table.n_vars} genes ({', '.join(map(str, lacking[:3]))}, ...) that .raw lacks; expected "
            "all of var_names there. Leave them out: `adata = adata[:, adata.var_names.isin(adata.raw.var_names)].copy()`."
        )
        raise ValueError(msg)
    if len(names) > table.n_vars:
        logger.info("%d of the %d genes of .raw are not in var_names and are left out.",
                    len(names) - table.n_vars, len(names))  # fmt: skip
    return in_memory(table.raw.X, _name(RAW))[:, place]


def _compressed(matrix: Any) -> Any:
    """Return a sparse matrix or array, perhaps a view of anndata's, as scipy's own of rows or columns."""
    form = matrix.format if matrix.format in ("csr", "csc") else "csr"
    kind = getattr(sparse, f"{form}_{'matrix' if isinstance(matrix, sparse.spmatrix) else 'array'}")
    return matrix if type(matrix) is kind else kind(matrix)


def _dense(matrix: Any, where: str) -> NDArray[Any]:
    """Turn what is no sparse matrix (a dataset in a file, an array of another library) into a numpy array."""
    try:
        return np.asarray(matrix)
    except Exception as error:  # of as many kinds as there are libraries: on another device, for instance
        msg = (
            f"Found values in {where} as {type(matrix).__module__}.{type(matrix).__name__}, which cannot be read as a numpy "
            f"array ({error}); expected an array or a scipy sparse matrix in memory. Convert them first."
        )
        raise ValueError(msg) from error


def _refuse(values: sparse.csr_array, where: str, hint: str) -> None:
    if not np.isfinite(values.data).all():
        bad = int((~np.isfinite(values.data)).sum())
        msg = f"Found {bad} NaN or infinite values in {where} as float32; expected counts. Correct the table or choose a `layer`."
        raise ValueError(msg + hint)
    if (values.data < 0).any():
        msg = (
            f"Found negative values in {where} (lowest {values.data.min():.3g}): scaled or centred data cannot be "
            'summed over pixels. Choose the layer with raw counts, for instance `layer="counts"`.'
        )
        raise ValueError(msg + hint)
    if not values.data.any():
        msg = f"Found only zeros in {where}; expected counts. Choose the `layer` that holds them."
        raise ValueError(msg + hint)
