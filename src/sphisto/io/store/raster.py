"""Write a raster tile by tile into a SpatialData zarr store, and read windows of one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._keys import GLOBAL
from sphisto.core.halving import any_of_four, half, halve, twice
from sphisto.core.rounding import round_in_place
from sphisto.core.tiles import TILE, Window, nested, plan_tiles
from sphisto.io.store.chunk_codec import ChunkFiles, chunk_files
from sphisto.io.store.chunks import cut, read_window, write_chunks
from sphisto.io.store.elements import add_element
from sphisto.io.store.groups import open_group, open_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import zarr
    from numpy.typing import NDArray

    from sphisto.core.grid import Grid

    # channels, a part of one chunk, its values, and where it holds tissue, if not everywhere
    Then = Callable[[slice, Window, NDArray[Any], NDArray[np.bool_] | None], None]

WITHIN = 2  # coarser levels of which no chunk reaches beyond a region
REGION = TILE << WITHIN  # px; regions share no chunk at these levels, so that each can be written by itself
_BLOCK = 2 * TILE  # px of an image written together; files of images come in blocks themselves
_BLANK_BLOCK = 4 * TILE  # px of what is the same everywhere or nearly so


@dataclass(frozen=True)
class RasterWriter:
    """Writes a (c, y, x) raster window by window; what is never written has the fill value.

    Made by :func:`create_raster` or :func:`open_raster`. Coarser levels are made chunk by chunk of the next finer one
    (:meth:`coarsen`), once that is complete there (:func:`completed`): nothing of them is held in memory, whatever the
    size of the raster.
    """

    levels: tuple[zarr.Array[Any], ...]  # finest first
    # the mask outside of which the raster holds 0; without any, it holds what is written everywhere. Coarser levels are
    # means over tissue only
    tissue: Tissue | None = None

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(height, width) of each level, finest first."""
        return [(level.shape[-2], level.shape[-1]) for level in self.levels]

    def write(self, window: Window, values: NDArray[Any], then: Then | None = None) -> None:
        """Write (c, height, width) values at a window of the finest level.

        What follows from them is made ``then``, of each part as it will be read, while it is in the processor's memory.
        """
        tissue = self.tissue_at(0, window)

        def make(channels: slice, part: Window) -> NDArray[Any]:
            here = part.within(window)
            inside = None if tissue is None else tissue[here]
            stored = np.array(values[channels, *here], order="C")
            if inside is not None:  # in all channels at once: faster than an index
                np.copyto(stored, 0, where=~inside)
            stored = self.stored(stored)
            if then is not None:
                then(channels, part, stored, inside)
            return stored

        self.write_chunks(0, window, make)

    def read(self, window: Window) -> NDArray[Any]:
        """Read a window of the finest level."""
        return read_window(self.levels[0], window)

    def coarsen(self, level: int, window: Window) -> None:
        """Write means of the next finer level into a window of a coarser one."""
        finer, whole = self.levels[level - 1], twice(window)
        tissue = self.tissue_at(level - 1, whole)

        def make(channels: slice, part: Window) -> NDArray[Any]:
            four = twice(part)
            values = read_window(finer, four, channels)
            return self.stored(halve(values, None if tissue is None else tissue[four.within(whole)]))

        self.write_chunks(level, window, make)

    def write_chunks(self, level: int, window: Window, make: Callable[[slice, Window], NDArray[Any]]) -> None:
        """Write a window of a level chunk by chunk, see :func:`sphisto.io.store.chunks.write_chunks`."""
        write_chunks(self.levels[level], window, make, self._files[level])

    @cached_property
    def _files(self) -> tuple[ChunkFiles | None, ...]:
        return tuple(map(chunk_files, self.levels))

    def tissue_at(self, level: int, window: Window) -> NDArray[np.bool_] | None:
        """Where a window of a level holds tissue; ``None`` if that makes no difference."""
        return None if self.tissue is None else self.tissue.at(level, window)

    def stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Round values to what the raster holds of them: those of single precision that are contiguous where they are."""
        dtype = self.levels[0].dtype
        if dtype.kind == "f":
            return round_in_place(np.ascontiguousarray(values, dtype=np.float32))
        return np.asarray(np.rint(values), dtype=dtype)


class Coarser:
    """Makes coarser levels of a region of what is written of it; chunks are kept until all their parts have come."""

    def __init__(self, raster: RasterWriter) -> None:
        self.raster, self.levels = raster, range(1, min(WITHIN + 1, len(raster.levels)))
        self.kept: dict[tuple[int, Window], NDArray[Any]] = {}

    def take(self, channels: slice, window: Window, values: NDArray[Any], tissue: NDArray[np.bool_] | None) -> None:
        """Take in a part of the finest level as it was stored, and where it holds tissue, if not everywhere."""
        for level in self.levels:
            values = self.raster.stored(halve(values, tissue))
            tissue = None if tissue is None else any_of_four(tissue)
            window = half(window)
            array = self.raster.levels[level]
            height, width = array.chunks[-2:]
            for part in cut(window, (height, width)):
                y, x = part.y0 // height * height, part.x0 // width * width
                chunk = Window(y, x, min(y + height, array.shape[-2]), min(x + width, array.shape[-1]))
                if (level, chunk) not in self.kept:
                    room = np.full((array.shape[0], *chunk.shape), array.fill_value, dtype=array.dtype)
                    self.kept[level, chunk] = room
                self.kept[level, chunk][channels, *part.within(chunk)] = values[:, *part.within(window)]

    def written(self, window: Window, complete: Sequence[tuple[int, Window]]) -> None:
        """Write the chunks that are ready once a tile is: those within it, and those that :func:`completed` names."""
        ready = list(complete)
        for level in self.levels:
            window = half(window)
            ready.append((level, window))
        for level, chunk in list(self.kept):
            if any(level == other and chunk.inside(whole) for other, whole in ready):
                self._write(level, chunk, self.kept.pop((level, chunk)))

    def _write(self, level: int, chunk: Window, values: NDArray[Any]) -> None:
        self.raster.write_chunks(level, chunk, lambda channels, part: values[channels, *part.within(chunk)])


class Tissue:
    """Where a slide holds tissue, read once of each window for all its rasters.

    The ``levels`` of the mask are finest first.
    """

    def __init__(self, levels: tuple[zarr.Array[Any], ...]) -> None:
        self.levels = levels
        self.at = lru_cache(maxsize=4)(self._at)  # one window is asked for by one raster after the other

    def _at(self, level: int, window: Window) -> NDArray[np.bool_] | None:
        found = read_window(self.levels[level], window) != 0
        return None if found.all() else found


def completed(windows: Sequence[Window], shapes: Sequence[tuple[int, int]]) -> list[list[tuple[int, Window]]]:
    """Tell which chunks of coarser levels are complete after each window, as (level, window of the level), finer first.

    ``windows`` are all that are ever written, in that order; ``shapes`` (height, width) of the levels, finest first.
    """
    done: list[list[tuple[int, Window]]] = [[] for _ in windows]
    for level, (height, width) in enumerate(shapes[1:], start=1):
        side, last = TILE << level, {}
        for i, window in enumerate(windows):
            rows, columns = (
                range(window.y0 // side, -(-window.y1 // side)),
                range(window.x0 // side, -(-window.x1 // side)),
            )
            last.update({(row, column): i for row in rows for column in columns})
        for (row, column), i in last.items():
            y, x = row * TILE, column * TILE
            if y < height and x < width:  # an odd last row or column has no place in coarser levels
                done[i].append((level, Window(y, x, min(y + TILE, height), min(x + TILE, width))))
    return done


def create_raster(
    store: Path,
    name: str,
    channels: Sequence[str],
    grid: Grid,
    *,
    fill: float = 0,
    dtype: str = "float32",
    together: bool = False,
    systems: Sequence[str] = (GLOBAL,),
) -> RasterWriter:
    """Create an empty image element with named channels in a store that is being built.

    Channels that are wanted ``together``, such as the factor maps of which every gene is made, share their chunks; else
    each has chunks of its own. The raster lies in coordinate ``systems`` of full-resolution pixels.

    SpatialData itself writes the element's metadata, from a blank with one channel; the arrays are then replaced by
    ones with all channels, a fill value and a codec for rounded floats (bytes compress no worse by it).
    """
    from zarr.codecs import BloscCodec

    add_element(store, "images", name, _blank(grid, systems))
    group = open_group(store / "images" / name, "r+")
    ome = dict(group.attrs["ome"])
    ome["omero"] = {"channels": [{"label": channel} for channel in channels]}
    group.attrs["ome"] = ome
    for dataset in ome["multiscales"][0]["datasets"]:
        shape = (len(channels), *group[dataset["path"]].shape[1:])
        group.create_array(
            dataset["path"],
            shape=shape,
            chunks=_chunk_shape(shape, np.dtype(dtype), together=together),
            dtype=dtype,
            fill_value=fill,
            # of maps with 12 bits: 31 % of the raw size; zstd reaches 27 % in 2.6 times the time, 2.1 times to read
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            dimension_names=("c", "y", "x"),
            overwrite=True,
        )
    return open_raster(store, name)


def _chunk_shape(
    shape: tuple[int, ...], dtype: np.dtype[Any], *, together: bool, most_bytes: int = 2**22
) -> tuple[int, ...]:
    """(c, y, x) of the chunks: a square of one channel or of all, halved until it has no more than ``most_bytes``."""
    n_channels, side = shape[0] if together else 1, TILE
    while n_channels * side**2 * dtype.itemsize > most_bytes and side > 1:
        side //= 2
    return n_channels, *(min(side, length) for length in shape[1:])


def open_raster(store: Path, name: str, tissue: Tissue | None = None) -> RasterWriter:
    """Open a raster that :func:`create_raster` made, to go on writing; of some only what lies on ``tissue`` counts."""
    return RasterWriter(tuple(open_levels(store / "images" / name, "r+")), tissue)


def open_tissue(store: Path, name: str, halvings: int = 0) -> Tissue | None:
    """Open a mask that :func:`write_mask` wrote, from a coarser level on; ``None`` if it has no such level."""
    levels = tuple(open_levels(store / "labels" / name)[halvings:])
    return Tissue(levels) if levels else None


def write_all(raster: RasterWriter, read: Callable[[Window], Any], *, size: int = TILE) -> None:
    """Write a raster block by block of what ``read`` gives of each, coarser levels with it."""
    windows = [tile.core for tile in nested(plan_tiles(raster.shapes[0], size=size))]
    for window, chunks in zip(windows, completed(windows, raster.shapes), strict=True):
        raster.write(window, read(window))
        for level, coarse in chunks:
            raster.coarsen(level, coarse)


def write_image(store: Path, name: str, image: Any, grid: Grid, systems: Sequence[str] = (GLOBAL,)) -> None:
    """Write a (3, y, x) uint8 image, numpy or lazy, block by block: SpatialData's own writer holds much of it at once."""
    writer = create_raster(store, name, ("r", "g", "b"), grid, fill=0, dtype="uint8", together=True, systems=systems)
    write_all(writer, lambda window: np.asarray(image[:, *window.slices]), size=_BLOCK)


def write_mask(store: Path, name: str, mask: Any, grid: Grid, systems: Sequence[str] = (GLOBAL,)) -> None:
    """Write a (y, x) mask, indexed by window, as labels 0 and 1, block by block.

    A pixel of a coarser level is 1 where any of the finer ones is.
    """
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import Scale

    tree = Labels2DModel.parse(
        _nothing(grid.shape, np.uint8),
        dims=("y", "x"),
        scale_factors=pyramid_factors(grid.shape),
        transformations={system: Scale(list(grid.fullres_per_px), axes=("y", "x")) for system in systems},
    )
    add_element(store, "labels", name, _emptied(tree, np.uint8))
    levels = open_levels(store / "labels" / name, "r+")
    for i, level in enumerate(levels):
        for window in (tile.core for tile in plan_tiles((level.shape[0], level.shape[1]), size=_BLANK_BLOCK)):
            if i == 0:
                level[window.slices] = mask[window.slices].astype(np.uint8)
            else:
                level[window.slices] = any_of_four(np.asarray(levels[i - 1][twice(window).slices]))


def _blank(grid: Grid, systems: Sequence[str]) -> Any:
    """Make an image of nothing."""
    nothing = _nothing((1, *grid.shape), np.float32)
    return _emptied(image_element(nothing, grid, channels=["blank"], systems=systems), np.float32)


def _nothing(shape: tuple[int, ...], dtype: Any) -> Any:
    import dask.array as da

    return da.zeros(shape, dtype=dtype, chunks=(1,) * (len(shape) - 2) + (_BLANK_BLOCK, _BLANK_BLOCK))


def _emptied(tree: Any, dtype: Any) -> Any:
    """Let none of the levels of a blank be computed from another, so that they cost neither time nor memory."""
    for level in tree.values():
        level["image"] = level["image"].copy(data=_nothing(level["image"].shape, dtype))
    return tree


def image_element(
    array: Any, grid: Grid, *, channels: Sequence[str] | None = None, systems: Sequence[str] = (GLOBAL,)
) -> Any:
    """Make a multiscale SpatialData image of a (c, y, x) array that lies on a grid in coordinate systems."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Scale

    return Image2DModel.parse(
        array,
        dims=("c", "y", "x"),
        c_coords=list(channels) if channels is not None else None,
        scale_factors=pyramid_factors(grid.shape),
        chunks=(1, TILE, TILE),
        transformations={system: Scale(list(grid.fullres_per_px), axes=("y", "x")) for system in systems},
    )


def pyramid_factors(shape: tuple[int, int]) -> list[int]:
    """Return the factor 2 as often as the raster needs halving to fit into one chunk."""
    side, factors = max(shape), []
    while side > TILE:
        side //= 2
        factors.append(2)
    return factors
