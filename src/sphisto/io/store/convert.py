"""Convert a store of an earlier format to today's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto import __version__, _keys
from sphisto.core.tiles import Window, plan_tiles
from sphisto.io.quiet import quiet
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.io.store import write as building
from sphisto.io.store.chunks import read_window, write_chunks
from sphisto.io.store.raster import create_raster, write_mask
from sphisto.io.store.stored_raster import StoredRaster
from sphisto.io.store.transaction import replacing


@quiet()
def convert(store: Path) -> bool:
    """Write a store anew in today's format, all at once; whether there was anything to do."""
    about = stores.mark(store)
    if stores.format_of(about) == _keys.FORMAT:
        return False
    taken = {name.casefold() for name in claims.elements(store)} & {
        _keys.tissue(key).casefold() for key in about["keys"]
    }
    if taken:
        msg = (
            f"{store} holds the element {min(taken)!r}, a name that format {_keys.FORMAT} takes for the tissue of a projection; "
            "nothing is changed. Rename or remove that element."
        )
        raise FileExistsError(msg)
    with replacing(store, call={"convert": _keys.FORMAT}) as work:
        units = {key: stores.unit(store, key) for key in about["keys"]}
        for key in about["keys"]:
            _convert_rasters(store, work.staging, key)
        with building.marked(work.staging) as mark:
            mark |= {"format": _keys.FORMAT, "version": __version__}
            for key, unit in units.items():
                mark["keys"][key]["unit"] = unit
                mark["grids"][_keys.tissue(key)] = mark["grids"][_keys.factors(key)]
        for library in {claims.library_of(about, key) for key in about["keys"]}:
            own = {key: unit for key, unit in units.items() if claims.library_of(about, key) == library}
            building.renew_table(work.staging, library, stores.spot(store, min(own)), own)
        building.finish(work.staging)
    return True


def _convert_rasters(store: Path, staging: Path, key: str) -> None:
    """Write the tissue of a projection as a mask, and 0 instead of NaN outside of it."""
    factors = stores.raster(store, _keys.factors(key))
    write_mask(staging, _keys.tissue(key), _Known(factors), factors.grid)
    for name in _keys.within_tissue(key):
        old = stores.raster(store, name)
        new = create_raster(staging, name, old.channels, old.grid, together=name == _keys.factors(key))
        for source, target in zip(old.levels, new.levels, strict=True):
            for tile in plan_tiles(source.shape[-2:]):
                _copy(source, target, tile.core)


def _copy(source: Any, target: Any, window: Window) -> None:
    """Copy a window of a raster, with 0 for NaN; what holds nothing need not be written."""

    def make(channels: slice, part: Window) -> NDArray[Any]:
        return np.nan_to_num(read_window(source, part, channels), nan=0.0)

    if np.isfinite(read_window(source, window, slice(0, 1))).any():
        write_chunks(target, window, make)


class _Known:
    """Where a raster of the first format holds values, read by window."""

    def __init__(self, raster: StoredRaster) -> None:
        self.level = raster.levels[0]

    def __getitem__(self, place: tuple[slice, slice]) -> NDArray[np.bool_]:
        rows, columns = place
        window = Window(rows.start, columns.start, rows.stop, columns.stop)
        return np.isfinite(read_window(self.level, window, slice(0, 1))[0])
