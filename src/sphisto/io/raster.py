"""Write a raster tile by tile into a SpatialData zarr store, and read windows of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from sphisto.core.grid import Grid
    from sphisto.core.tiles import Window

CHUNK = 512  # px; one gene of one chunk is 1 MB, so that a small window of one gene reads little else
_COARSEST = 512  # px; the pyramid ends when the longer side is no longer than this
_MANTISSA_BITS = 12  # of 23: a relative error below 0.02 %, and the rest compresses away


@dataclass(frozen=True)
class RasterWriter:
    """Writes a (c, y, x) float32 raster and its pyramid window by window; what is never written reads as NaN.

    Made by :func:`create_raster`. Windows start at multiples of ``2 ** (levels - 1)`` and end there or at the border.
    """

    levels: tuple[zarr.Array[Any], ...]

    def write(self, window: Window, values: NDArray[Any]) -> None:
        """Write (c, height, width) values at a window, and their means into the coarser levels."""
        y, x, part = window.y0, window.x0, values.astype(np.float32)
        for level in self.levels:
            height, width = (min(n, m) for n, m in zip(part.shape[1:], _room(level, y, x), strict=True))
            if height and width:
                level[:, y : y + height, x : x + width] = round_mantissa(part[:, :height, :width])
            y, x, part = y // 2, x // 2, _halve(part)


def create_raster(store: Path, name: str, channels: Sequence[str], grid: Grid) -> RasterWriter:
    """Create an empty (all NaN) image element with named channels in a store that is being built.

    SpatialData itself writes the element's metadata, from a blank with one channel; the arrays are then replaced by
    ones with all channels, NaN as fill value and a codec for rounded floats.
    """
    import dask.array as da
    import zarr
    from spatialdata import read_zarr
    from zarr.codecs import BloscCodec

    sdata = read_zarr(store)
    blank = da.zeros((1, *grid.shape), dtype=np.float32, chunks=(1, CHUNK, CHUNK))
    sdata[name] = image_element(blank, grid, channels=["blank"])
    sdata.write_element(name)
    group: Any = zarr.open_group(store / "images" / name, mode="r+", use_consolidated=False)
    ome = dict(group.attrs["ome"])
    ome["omero"] = {"channels": [{"label": channel} for channel in channels]}
    group.attrs["ome"] = ome
    levels = []
    for dataset in ome["multiscales"][0]["datasets"]:
        shape = (len(channels), *group[dataset["path"]].shape[1:])
        levels.append(
            group.create_array(
                dataset["path"],
                shape=shape,
                chunks=(1, *(min(CHUNK, side) for side in shape[1:])),
                dtype="float32",
                fill_value=float("nan"),
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
                dimension_names=("c", "y", "x"),
                overwrite=True,
            )
        )
    return RasterWriter(tuple(levels))


def image_element(array: Any, grid: Grid, *, channels: Sequence[str] | None = None) -> Any:
    """Make a multiscale SpatialData image of a (c, y, x) array that lies on a grid in ``global``."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(channels) if channels is not None else None,
        scale_factors=pyramid_factors(grid.shape),
        chunks=(1, CHUNK, CHUNK),
        transformations={"global": Scale(list(grid.fullres_per_px), axes=("y", "x"))},
    )


def pyramid_factors(shape: tuple[int, int]) -> list[int]:
    """Return the factor 2 as often as the raster needs halving to be small."""
    side, factors = max(shape), []
    while side > _COARSEST:
        side //= 2
        factors.append(2)
    return factors


def round_mantissa(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round float32 to fewer mantissa bits, so that they compress; NaN stays NaN."""
    drop = np.uint32(23 - _MANTISSA_BITS)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = (np.uint32(1) << (drop - np.uint32(1))) - np.uint32(1)
    rounded = (bits + half + ((bits >> drop) & np.uint32(1))) & ~np.uint32((1 << drop) - 1)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def _halve(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 2 x 2 pixels, leaving out NaN; an odd last row or column is dropped."""
    height, width = (side // 2 * 2 for side in values.shape[1:])
    corners = [values[:, y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)]
    known = [np.isfinite(corner) for corner in corners]
    total = sum(np.where(k, corner, np.float32(0)) for k, corner in zip(known, corners, strict=True))
    count = sum(k.astype(np.float32) for k in known)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / count, dtype=np.float32)


def _room(level: zarr.Array[Any], y: int, x: int) -> tuple[int, int]:
    return max(level.shape[1] - y, 0), max(level.shape[2] - x, 0)
