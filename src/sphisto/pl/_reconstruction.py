"""The tissue image beside the redrawn one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphisto import _keys
from sphisto.io.store import read as stores
from sphisto.pl._frame import describe, dress, finish, fullres_um_per_px, panel_size, panels
from sphisto.pl._sources import projection_of, stored_image

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from sphisto.io.store.data import Data
    from sphisto.io.window import BBox
    from sphisto.pl._frame import AnyAxes


@describe
def reconstruction(
    data: Data,
    *,
    key: str = "projection",
    library_id: str | None = None,
    bbox: BBox | None = None,
    scale: int | None = None,
    ax: AnyAxes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw the tissue image beside the one that the factor maps redraw.

    What is not in the right image is not in the factor maps either, so that no gene can follow it.

    Parameters
    ----------
    %(data)s
    %(key)s
    %(library_id)s
    %(bbox)s
    %(scale)s
    %(frame)s

    Returns
    -------
    Two axes: the image, the redrawn image.

    Raises
    ------
    KeyError
        If the store has no such projection.

    Examples
    --------
    >>> import sphisto
    >>> axes = sphisto.pl.reconstruction("toy.zarr", bbox=(0, 0, 256, 256))  # doctest: +SKIP
    """
    store, key = projection_of(data, key, library_id)
    names = {_keys.image(stores.library_id(store, key)): "image", _keys.reconstruction(key): "redrawn"}
    images = [stored_image(store, name, bbox, scale) for name in names]
    axes = panels(ax, list(names.values()), ncols=2, size=panel_size(images[0][0].extent))
    for axis, title, (image, raster) in zip(axes, names.values(), images, strict=True):
        axis.imshow(image.pixels, extent=image.extent)
        dress(axis, title, image.extent, fullres_um_per_px(raster))
    finish(axes, ax=ax, show=show, save=save)
    return axes
