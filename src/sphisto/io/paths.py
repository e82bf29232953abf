"""Paths as users write them: with ``~``, links, or a slash at the end."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spatialdata import SpatialData


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as it was meant: ``~`` is the home folder."""
    text: Any = os.fspath(path)  # bytes are paths, too
    if not isinstance(text, str):
        msg = f"Found a path of type {type(text).__name__}; expected str or Path: {path!r}."
        raise TypeError(msg)
    if re.match(r"[A-Za-z][\w+.-]+://", text):
        msg = f"Found the address {text!r}; expected a path on this machine. Copy or mount what lies there."
        raise ValueError(msg)
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser refuses a file of which the name begins with ~
    if path.parts[:1] and path.parts[0].startswith("~") and len(path.parts) > 1 and not Path(path.parts[0]).exists():
        msg = (
            f"Found the path {text!r}, and neither a user {path.parts[0][1:]!r} nor a folder of that name; expected the home "
            "folder of a user. Write `~/` for your own, or the whole path."
        )
        raise ValueError(msg)
    return path


def require_target(path: Path) -> Path:
    """Return a path; raise FileNotFoundError if it is a link to something that is not there."""
    if path.is_symlink() and not path.exists():
        msg = (
            f"{str(path)!r} is a link to {str(path.readlink())!r}, where nothing is. Is its disk mounted? Else put the file or "
            "folder itself in its place."
        )
        raise FileNotFoundError(msg)
    return path


def store_path(store: str | os.PathLike[str]) -> Path:
    """Return where a store really lies: what is written beside it has to be on its file system.

    A store that is a link stays one, and what it points to is written. Links among the folders above are left in the
    path: they change neither folder nor file system of what is in them.
    """
    path = user_path(store)
    if not path.is_symlink():
        return path if path.name not in ("", "..") else path.resolve()  # "." and "a/..": folders too have a name
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        msg = f"{path} is a link that leads back to itself; correct it or choose another `store`."
        raise OSError(msg)
    if not real.parent.is_dir():
        msg = (
            f"{path} is a link to {real}, and there is no folder {real.parent}. Is its disk mounted? Else correct the "
            "link or choose another `store`."
        )
        raise FileNotFoundError(msg)
    return real


def located(store: str | os.PathLike[str] | SpatialData) -> Any:
    """Return the Path of a store to be read, or the SpatialData itself."""
    return user_path(store) if isinstance(store, str | os.PathLike) else store


def beside(store: Path, key: str, suffix: str) -> Path:
    """Name a file of a projection beside its store, see :func:`store_path`."""
    # bytes: those that nearly all file systems take, less what a name gets while its file is written
    # (sphisto.core.atomic)
    longest_name = 255 - 5
    path = store.with_name(f"{store.name.removesuffix('.zarr')}.{key}.{suffix}")
    if len(os.fsencode(path.name)) > longest_name:
        msg = (
            f"The name {path.name!r}, made of store and projection, is too long for a file; expected at most "
            f"{longest_name} bytes. Choose a shorter `store` or `key_added`."
        )
        raise ValueError(msg)
    return path
