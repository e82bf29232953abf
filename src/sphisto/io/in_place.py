"""The table that a function changes in place, of whatever holds one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sphisto.io.understood import Section

if TYPE_CHECKING:
    from anndata import AnnData


def table_to_change(data: Any) -> AnnData:
    """Return the very table of an AnnData, a Section or a SpatialData with a single one.

    Raises
    ------
    TypeError
        If data hold no table, or several; the message has what to give instead.
    """
    from anndata import AnnData

    if isinstance(data, AnnData):
        return data
    if isinstance(data, Section):
        data.require_spots()
        own: Any = data.adata
        return own
    if hasattr(data, "tables") and hasattr(data, "shapes"):
        names = list(data.tables)
        if len(names) == 1:
            only: AnnData = data.tables[names[0]]
            return only
        found = f"a SpatialData of {len(names)} tables ({', '.join(map(repr, names)) or 'none'})"
        remedy = f"Give one of them: `sdata.tables[{names[0]!r}]`." if names else "Give one with counts."
    elif isinstance(data, str | os.PathLike):
        found = f"the path {os.fspath(data)!r}"
        remedy = (
            "Read it first: a Space Ranger run by `sphisto.io.read_visium(path)`, others by `anndata.read_h5ad(path)`."
        )
    else:
        found = f"{'an object of type ' if data is not None else ''}{type(data).__name__}"
        remedy = "Of a SpatialData, give its table: `sdata.tables['table']`."
    msg = f"Found {found}; expected an AnnData, whose table is changed in place. {remedy}"
    raise TypeError(msg)
