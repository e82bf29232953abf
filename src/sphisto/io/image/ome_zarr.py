"""OME-Zarr images (NGFF 0.4 and 0.5) with all their resolutions, read by window."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.io.image.channels import CHANNELS, MULTI_CHANNEL, colour_order, named_alpha
from sphisto.io.image.colours import Recoloured
from sphisto.io.image.pyramid import Pyramid

_METADATA = ("zarr.json", ".zarray")
# what zarr and its codecs raise for chunks that cannot be read
_UNREADABLE = (ValueError, RuntimeError, OSError, KeyError, IndexError, TypeError, zlib.error)


def open_ngff(path: Path) -> Pyramid:
    """Open an OME-Zarr image: a folder whose metadata have ``multiscales``."""
    import zarr

    try:
        group: Any = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
    except _UNREADABLE as error:
        msg = (
            f"Found a folder at {str(path)!r} that is no zarr group ({error}). Expected an image: a tif, png or jpg, "
            "or the folder of an OME-Zarr image."
        )
        raise ValueError(msg) from error
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if not multiscales:
        inside = ", ".join(sorted(name for name, _ in group.groups())) or "nothing"
        msg = (
            f"The zarr at {str(path)!r} is no OME-Zarr image: it has no `multiscales` of NGFF 0.4 or 0.5. It holds the "
            f"groups: {inside}. Give the path of the image itself."
        )
        raise ValueError(msg)
    if "image-label" in attributes.get("ome", attributes):
        msg = f"The OME-Zarr at {str(path)!r} holds labels of objects; expected an image. Give the path of the image."
        raise ValueError(msg)
    found = multiscales[0]
    levels = tuple(_open_level(path, group, dataset["path"], found) for dataset in found["datasets"])
    names = _names(attributes.get("ome", attributes))
    order, note = colour_order(levels[0].shape[2], names, f"The OME-Zarr image {str(path)!r}")
    metadata = (levels[0].folder / name for name in _METADATA)
    changed = max(file.stat().st_mtime_ns for file in metadata if file.exists())
    ordered: tuple[Any, ...] = levels
    if order != sorted(order):
        ordered = tuple(Recoloured(level, itemgetter((..., order)), len(order), level.dtype) for level in levels)
    token = f"{path.resolve()} {changed}"
    return Pyramid(ordered, token, (note,) if note else (), named_alpha(len(order), names))


def _names(attributes: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the channels, if the image has them; windows of display are not applied."""
    channels = (attributes.get("omero") or {}).get("channels") or []
    names = [str(channel.get("label", "")) for channel in channels if isinstance(channel, dict)]
    return names if names and all(names) else None


@dataclass(frozen=True, eq=False)
class NgffLevel:
    """One resolution of an OME-Zarr image, (y, x, c), of which windows are read chunk by chunk."""

    folder: Path  # of the zarr array
    array: Any
    order: tuple[int, ...]  # its axes y, x and, if there is one, that of channels; the others have length 1

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, c)."""
        sides = [int(self.array.shape[axis]) for axis in self.order]
        return sides[0], sides[1], sides[2] if len(sides) == 3 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray[Any]:
        wanted = dict(zip(self.order, (*key, slice(None)), strict=False))
        if not any((self.folder / name).exists() for name in _METADATA):
            # zarr takes chunks that are not there for black
            msg = (
                f"The image {str(self.folder)!r} was there and has been removed. Bring it back and call again; a fit goes on "
                "with `resume=True`."
            )
            raise FileNotFoundError(msg)
        try:
            part = np.asarray(self.array[tuple(wanted.get(axis, 0) for axis in range(self.array.ndim))])
        except _UNREADABLE as error:
            msg = (
                f"{str(self.folder)!r} is damaged: the window {key} cannot be read ({error}). Copy the image again "
                "from where it came."
            )
            raise ValueError(msg) from error
        kept = sorted(self.order)
        part = part.transpose([kept.index(axis) for axis in self.order])
        return part if part.ndim == 3 else part[..., None]


def _open_level(path: Path, group: Any, name: str, multiscale: Mapping[str, Any]) -> NgffLevel:
    import zarr

    try:
        array = group[name]
    except _UNREADABLE as error:
        msg = f"The OME-Zarr image {str(path)!r} lacks its level {name!r}, which its metadata name. Copy it again."
        raise ValueError(msg) from error
    axes = [axis["name"] if isinstance(axis, dict) else str(axis) for axis in multiscale.get("axes", [])]
    if not isinstance(array, zarr.Array) or len(axes) != array.ndim:
        msg = f"The level {name!r} of {str(path)!r} is no array with the axes {axes} that its metadata name."
        raise ValueError(msg)
    rest = [i for i, axis in enumerate(axes) if axis not in "yx" and array.shape[i] > 1]
    channels = len(rest) == 1 and axes[rest[0]] == "c"
    plane = len(rest) == 0 or (channels and array.shape[rest[0]] in CHANNELS)
    if "y" not in axes or "x" not in axes or not plane:
        msg = (
            f"The OME-Zarr image {str(path)!r} has shape {array.shape} along axes {', '.join(axes)}; expected one plane "
            f"of grey, RGB or RGBA. Save the plane to use as an image of its own.{f' {MULTI_CHANNEL}.' if channels else ''}"
        )
        raise ValueError(msg)
    return NgffLevel(path / name, array, (axes.index("y"), axes.index("x"), *rest))
