"""Name the file of a store that is damaged: zarr and its codecs report no more than that something cannot be decoded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

MEND = (
    "Copy that file back from a backup, or write the projection again: `sphisto.tl.fit_projection` or `sphisto.tl.predict` "
    "with the same `store` and `key_added`."
)
"""What to do about a damaged raster of a projection."""
RESTORE = "Copy that file back from a backup, or fit again into another `store`."
"""What to do about a damaged table: it belongs to all projections of a section."""


@contextlib.contextmanager
def naming_damage(folder: Path, groups: Sequence[str] = (".",), *, advice: str) -> Iterator[None]:
    """Turn an error while a folder of a store is read into one that names the damaged file, if there is one.

    ``groups`` are the folders of which chunks were read, by default all; metadata are always checked. ``advice`` says
    what to do.
    """
    try:
        yield
    except Exception as error:
        found = _damaged_in(folder, groups)
        if found is None:
            raise
        msg = f"{folder} is damaged: {found.relative_to(folder)} cannot be read ({error}). {advice}"
        raise ValueError(msg) from error


@contextlib.contextmanager
def naming_chunk(array: Any, place: tuple[Any, ...]) -> Iterator[None]:
    """Turn an error while a place of a raster's array is read into one that names the damaged chunk, if there is one.

    ``array`` is a zarr array, or a dask array of one; ``place`` the index of what is read.
    """
    try:
        yield
    except Exception as error:
        if not hasattr(array, "store_path"):  # behind a dask array
            msg = f"A raster cannot be read ({error}); give the store by its path to learn which chunk is damaged."
            raise ValueError(msg) from error
        found = _damaged_chunk(array, place)
        if found is None:
            raise
        msg = f"A chunk of {array.store_path} is damaged: {found} cannot be read ({error}). {MEND}"
        raise ValueError(msg) from error


def _damaged_in(folder: Path, groups: Sequence[str]) -> Path | None:
    """First file in a folder of a store that cannot be read."""
    import zarr

    arrays = []
    for about in sorted(folder.rglob("zarr.json")):
        try:
            if json.loads(about.read_bytes())["node_type"] == "array":
                arrays.append(about.parent)
        except (ValueError, KeyError, TypeError):
            return about
    for path in arrays:
        if any(path.is_relative_to(folder / group) for group in groups):
            array = zarr.open_array(path, mode="r")
            chunk = _damaged_chunk(array, (slice(None),) * array.ndim)
            if chunk is not None:
                return path / chunk
    return None


def _damaged_chunk(array: Any, window: tuple[Any, ...]) -> str | None:
    """Name the first chunk in a window of an array that cannot be read, as a path below the array."""
    sides = array.shards or array.chunks
    spans = []
    for index, length, side in zip(window, array.shape, sides, strict=True):
        inside = range(*index.indices(length)) if isinstance(index, slice) else np.ravel(index)
        spans.append(sorted({int(i) // side for i in inside if i < length}))
    for chunk in product(*spans):
        try:
            _ = array[tuple(slice(i * side, (i + 1) * side) for i, side in zip(chunk, sides, strict=True))]
        except Exception:  # noqa: BLE001 - codecs raise many kinds
            return str(array.metadata.encode_chunk_key(chunk))
    return None
