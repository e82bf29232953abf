"""Spots of several sections, from one table or several: which section each is of, and what is known of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from sphisto import _keys
from sphisto._checks import check_counts
from sphisto.io.counts import in_memory, matrix_of
from sphisto.io.store.tables import is_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import Series

    Floats = NDArray[np.float64]
    Tables = Sequence[AnnData]


def column(tables: Tables, name: str) -> Series:
    """Values of a column of ``obs``, of all spots."""
    import pandas as pd

    for table in tables:
        if name not in table.obs:
            msg = f"Found no column {name!r} in obs; it has {', '.join(map(str, table.obs)) or 'none'}."
            raise KeyError(msg)
    return pd.concat([table.obs[name].astype(object) for table in tables], ignore_index=True)


def sections(tables: Tables, projection: str) -> Series:
    """Name the section of each spot: that of a projection of several, else the only library of its table."""
    import pandas as pd

    found = []
    for table in tables:
        own = np.full(table.n_obs, None, dtype=object)
        for library, key in _joint(table, projection).items():
            own[np.isfinite(_entry(table, _keys.fitted(key))).all(axis=1)] = library
        libraries = list(table.uns.get("spatial", {}))
        if not _joint(table, projection):
            if len(tables) == 1 or len(libraries) != 1:
                msg = (
                    f"Found no projection {projection!r} of several sections in a table of {len(libraries)} libraries; expected "
                    "the name of a column of obs that tells sections apart: `section_key`."
                )
                raise KeyError(msg)
            own[:] = str(libraries[0])
        found.append(pd.Series(own))
    return pd.concat(found, ignore_index=True)


def values(tables: Tables, name: str) -> Floats:
    """(n, K) values of an entry of ``obsm``; of a projection of several sections what its spots are made of.

    That is roots of the shares that factors have in each spot, contrasts left out: how many counts a spot has is left out, and
    factors mean the same in all sections. NaN where a spot is of none of them.
    """
    found = []
    plain = _plain(tables, name)
    for table in tables:
        parts = _joint(table, name)
        if name in table.obsm:
            found.append(_entry(table, name))
        elif parts:
            own = [_entry(table, _keys.fitted(key))[:, plain] for key in parts.values()]
            densities = np.where(np.isfinite(own), own, 0).sum(axis=0)
            densities[~np.isfinite(own).all(axis=2).any(axis=0)] = np.nan
            found.append(_roots_of_shares(densities))
        else:
            msg = (
                f"Found no {name!r} in obsm, and no projection of that name that was fitted to several sections; obsm has "
                f"{', '.join(map(str, table.obsm)) or 'none'}. Choose one, or fit: `sphisto.tl.fit_projection([a, b])`."
            )
            raise KeyError(msg)
    widths = sorted({each.shape[1] for each in found})
    if len(widths) > 1:
        msg = f"Found {name!r} of {' and '.join(map(str, widths))} columns; expected the same in all tables, which were made together."
        raise ValueError(msg)
    return np.concatenate(found)


def own(tables: Tables, projection: str, layer: str) -> Floats | None:
    """(n, K) as :func:`values` of a projection, by the counts of each spot alone: neither its neighbours nor the image.

    Counts are those of a layer if there is one, else ``X``. ``None`` if a table has none, or no such projection.
    """
    from sphisto.genes.config import GeneModelConfig
    from sphisto.genes.factorize import scores
    from sphisto.genes.model import GeneModel

    plain, found = _plain(tables, projection), []
    for table in tables:
        parts = _joint(table, projection)
        held, _ = _counts(table, layer)
        if not parts or check_counts(held):
            return None
        shares = np.full((table.n_obs, int(plain.sum())), np.nan)
        for key in parts.values():
            loadings = np.asarray(table.varm[_keys.loadings(key)])[:, plain]
            genes = np.flatnonzero(np.isfinite(loadings).all(axis=1))
            rows = np.flatnonzero(np.isfinite(_entry(table, _keys.fitted(key))).all(axis=1))
            model = GeneModel(tuple(table.var_names[genes]), loadings[genes].astype(np.float32))
            values = sparse.csr_array(held)[rows][:, genes]
            shares[rows] = _roots_of_shares(scores(model, values, GeneModelConfig(), is_counts=True))
        found.append(shares)
    return np.concatenate(found)


def counts(tables: Tables, layer: str) -> sparse.csr_matrix:
    """(n, G) raw counts of the genes that all tables have: of a layer if there is one, else ``X``."""
    genes = tables[0].var_names
    for table in tables[1:]:
        genes = genes.intersection(table.var_names, sort=False)
    if not len(genes):
        msg = "Found no gene that all tables have; expected names of one kind (symbols or ids) in `var_names`."
        raise ValueError(msg)
    parts = []
    for table in tables:
        held, where = _counts(table, layer)
        if problem := check_counts(held):
            msg = f"{where} {problem}, expected raw counts for before={layer!r}. Keep them in layers['counts'], or name an entry of obsm."
            raise ValueError(msg)
        parts.append(sparse.csr_matrix(held)[:, table.var_names.get_indexer(genes)])
    return sparse.vstack(parts, format="csr")


def _counts(table: AnnData, layer: str) -> tuple[Any, str]:
    """Return a layer if there is one, else ``X``, and what messages call it."""
    matrix, where = matrix_of(table, layer if layer in table.layers else None)
    return in_memory(matrix, where), where


def _plain(tables: Tables, projection: str) -> NDArray[np.bool_]:
    """Which factors of a projection of several sections are no contrasts; refuse sections of different fits."""
    _require_one_fit(tables, projection)
    loadings = [table.varm[_keys.loadings(key)] for table in tables for key in _joint(table, projection).values()]
    return np.logical_and.reduce([(np.nan_to_num(np.asarray(each)) >= 0).all(axis=0) for each in loadings])


def _roots_of_shares(densities: Floats) -> Floats:
    return np.sqrt(densities / np.maximum(densities.sum(axis=1, keepdims=True), 1e-12))


def _require_one_fit(tables: Tables, projection: str) -> None:
    """Refuse sections of different fits: the factors of one are not those of another."""
    fits = {}
    for table in tables:
        for library, key in _joint(table, projection).items():
            fits[library] = table.uns[key]["params"].get("fit")
    if len(set(fits.values())) > 1:
        first = next(iter(fits))
        others = [library for library, fit in fits.items() if fit != fits[first]]
        msg = (
            f"Found the projection {projection!r} of {first!r} of another fit than that of {', '.join(map(repr, others))}; expected "
            "one fit of all, as factors mean the same in no other. Bring it to its end by the same call with `resume=True`, or fit again."
        )
        raise ValueError(msg)


def _joint(table: AnnData, projection: str) -> dict[str, str]:
    """Names in a table of the projections of its sections that were fitted together, by library."""
    found = {}
    for key, record in table.uns.items():
        library = record["params"].get("library_id") if is_record(record) else None
        if library and key == _keys.of_section(projection, library) and _keys.fitted(key) in table.obsm:
            found[str(library)] = str(key)
    return found


def _entry(table: AnnData, name: str) -> Floats:
    entry: Any = np.asarray(table.obsm[name], dtype=np.float64)
    return entry.reshape(len(entry), -1)
