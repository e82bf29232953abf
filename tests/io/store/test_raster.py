from __future__ import annotations

import numpy as np
import pytest

from sphisto.core.grid import Grid
from sphisto.core.mask import Mask
from sphisto.core.rounding import round_mantissa
from sphisto.core.tiles import TILE, Window, nested, on_tissue, plan_tiles
from sphisto.io.store.raster import (
    WITHIN,
    Coarser,
    completed,
    create_raster,
    open_raster,
    open_tissue,
    pyramid_factors,
    write_image,
    write_mask,
)
from sphisto.io.store.stored_raster import StoredRaster

GENES = ("Nrgn", "Ttr/x", "µ gene")


@pytest.fixture
def empty(tmp_path):
    import spatialdata as sd

    sd.SpatialData().write(tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


@pytest.fixture
def values(rng):
    values = rng.gamma(2.0, size=(3, 1100, 700)).astype(np.float32)
    values[:, :130] = np.nan
    return values


def write(store, values, size=TILE, *, together=False):
    grid = Grid(*values.shape[1:], 4.0, (5.5, 5.5))
    writer = create_raster(store, "genes", GENES, grid, together=together)
    windows = [tile.core for tile in nested(plan_tiles(grid.shape, size=size))]
    for window, chunks in zip(windows, completed(windows, writer.shapes), strict=True):
        writer.write(window, values[:, *window.slices])
        for level, coarse in chunks:
            writer.coarsen(level, coarse)
    import zarr

    zarr.consolidate_metadata(store)


def test_spatialdata_reads_what_was_written(empty, values):
    import spatialdata as sd
    from spatialdata.transformations import Scale, get_transformation

    write(empty, values)
    element = sd.read_zarr(empty)["genes"]
    found = element["scale0"].image
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    np.testing.assert_allclose(found, values, rtol=2e-4)
    assert list(found.c.values) == list(GENES)
    assert found.dtype == np.float32
    transformation = get_transformation(element)
    assert isinstance(transformation, Scale)
    np.testing.assert_allclose(transformation.to_scale_vector(("y", "x")), [5.5, 5.5])


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("size", [256, 512])
def test_levels_are_means_of_what_is_known(empty, values, size, together):
    import spatialdata as sd

    write(empty, values, size, together=together)
    element = sd.read_zarr(empty)["genes"]
    assert [element[s].image.shape[1:] for s in element] == [(1100, 700), (550, 350), (275, 175)]
    half = halved(values)
    np.testing.assert_allclose(element["scale1"].image.values, half, rtol=1e-3)
    np.testing.assert_allclose(element["scale2"].image.values, halved(half), rtol=1e-3)


def test_every_chunk_of_every_coarser_level_is_made_once_and_when_it_is_complete():
    shapes = [(2300, 1500), (1150, 750), (575, 375)]
    windows = [tile.core for tile in nested(plan_tiles(shapes[0], size=512))]
    counts = [np.zeros(shape, dtype=int) for shape in shapes]
    for window, chunks in zip(windows, completed(windows, shapes), strict=True):
        counts[0][window.slices] += 1
        for level, coarse in chunks:
            finer = Window(2 * coarse.y0, 2 * coarse.x0, 2 * coarse.y1, 2 * coarse.x1)
            assert (counts[level - 1][finer.slices] == 1).all(), "made of what is not there yet"
            counts[level][coarse.slices] += 1
    assert all((count == 1).all() for count in counts)


@pytest.mark.parametrize("unknown", [0, 0.3])
@pytest.mark.parametrize("together", [False, True])
def test_outside_tissue_there_is_nothing_and_levels_are_means_of_tissue_only(empty, rng, together, unknown):
    """Stored as 0, so that every reader can draw it; read as NaN, at all levels, as if NaN had been stored there, too."""
    grid = Grid(1100, 701, 4.0, (5.5, 5.5))
    tissue = np.kron(rng.random((110, 71)) < 0.3, np.ones((10, 10), dtype=bool))[:1100, :701]
    tissue[600:, 512:] = False  # a tile without any
    values = rng.gamma(2.0, size=(3, 1100, 701)).astype(np.float32)
    values[rng.random(values.shape) < unknown] = np.nan  # on tissue, where nothing is known
    write_mask(empty, "genes_tissue", tissue, grid)
    create_raster(empty, "genes", GENES, grid, together=together)
    writer = open_raster(empty, "genes", open_tissue(empty, "genes_tissue"))
    windows = [t.core for t in on_tissue(nested(plan_tiles(grid.shape)), tissue)]
    assert len(windows) == len(plan_tiles(grid.shape)) - 1
    for window, chunks in zip(windows, completed(windows, writer.shapes), strict=True):
        parts = []
        writer.write(window, values[:, *window.slices], lambda *part, to=parts: to.append(part))
        for channels, part, written, _ in parts:
            np.testing.assert_array_equal(written, writer.read(part)[channels])
        for level, coarse in chunks:
            writer.coarsen(level, coarse)
    stored = StoredRaster(writer.levels, GENES, grid, writer.tissue.levels)
    expected, on = np.where(tissue, values, np.float32(np.nan)), tissue
    for scale, level in enumerate(writer.levels):
        whole = Window(0, 0, *level.shape[1:])
        assert (level[:][:, ~on] == 0).all()
        np.testing.assert_array_equal(np.isnan(level[:]), np.isnan(expected) & on)
        np.testing.assert_allclose(stored.read(scale, whole), expected, rtol=1e-3)
        part = Window(100 >> scale, 200 >> scale, 900 >> scale, 650 >> scale)
        read = np.full((3, *part.shape), -1, dtype=np.float32)
        for piece, found in stored.chunks(scale, part, slice(None), lambda maps: 2 * maps):
            read[:, *piece.within(part)] = found
        np.testing.assert_allclose(read, 2 * expected[:, *part.slices], rtol=1e-3)
        expected, on = halved(expected), ~np.isnan(halved(np.where(on, 1.0, np.nan)[None])[0])


@pytest.mark.parametrize("together", [True, False])
def test_levels_made_of_tiles_in_memory_are_those_made_of_what_is_stored(empty, rng, together):
    grid = Grid(2700, 2101, 4.0)  # two regions, the second of odd tiles
    tissue = np.kron(rng.random((270, 211)) < 0.3, np.ones((10, 10), dtype=bool))[:2700, :2101]
    tissue[600:1024, 512:1024] = False
    values = rng.gamma(2.0, size=(3, 2700, 2101)).astype(np.float32)
    values[rng.random(values.shape) < 0.01] = np.nan
    write_mask(empty, "mask", tissue, grid)
    windows = [t.core for t in on_tissue(nested(plan_tiles(grid.shape)), tissue)]
    found = []
    for name in ("stored", "memory"):
        create_raster(empty, name, GENES, grid, together=together)
        writer = open_raster(empty, name, open_tissue(empty, "mask"))
        coarser = Coarser(writer)
        for window, chunks in zip(windows, completed(windows, writer.shapes), strict=True):
            writer.write(window, values[:, *window.slices], coarser.take if name == "memory" else None)
            if name == "memory":
                coarser.written(window, [chunk for chunk in chunks if chunk[0] <= WITHIN])
                chunks = [chunk for chunk in chunks if chunk[0] > WITHIN]
            for level, coarse in chunks:
                writer.coarsen(level, coarse)
        assert not coarser.kept
        found.append([level[:] for level in writer.levels])
    for stored, memory in zip(*found, strict=True):
        np.testing.assert_array_equal(stored, memory)


def test_of_tiles_left_out_no_chunk_is_made_or_written(empty, values):
    grid = Grid(3000, 3000, 1.0)
    writer = create_raster(empty, "genes", GENES, grid, fill=np.nan)
    windows = [Window(0, 0, 512, 512), Window(512, 512, 1024, 1024)]
    for window, chunks in zip(windows, completed(windows, writer.shapes), strict=True):
        writer.write(window, values[:, 300:812, :512])
        for level, coarse in chunks:
            writer.coarsen(level, coarse)
    written = sorted(
        str(p.relative_to(empty / "images" / "genes")) for p in (empty / "images" / "genes").rglob("c/0/*/*")
    )
    assert written == ["s0/c/0/0/0", "s0/c/0/1/1", "s1/c/0/0/0", "s2/c/0/0/0", "s3/c/0/0/0"]
    level = writer.levels[1][0]
    assert np.isfinite(level[:256, :256]).all()
    assert np.isnan(level[:256, 256:512]).all()


def test_writing_goes_on_where_it_was_left(empty, values):
    grid = Grid(1100, 700, 1.0)
    create_raster(empty, "genes", GENES, grid)
    window = Window(512, 0, 1024, 512)
    open_raster(empty, "genes").write(window, values[:, *window.slices])
    found = open_raster(empty, "genes").read(window)
    np.testing.assert_array_equal(found, round_mantissa(values[:, *window.slices]))


def test_a_lazy_picture_is_written_as_it_is(empty, rng):
    import dask.array as da
    import spatialdata as sd
    import zarr

    picture = rng.integers(0, 256, (3, 1100, 1500), dtype=np.uint8)
    write_image(empty, "picture", da.from_array(picture, chunks=(3, 300, 400)), Grid(1100, 1500, 4.0))
    zarr.consolidate_metadata(empty)
    element = sd.read_zarr(empty)["picture"]
    assert list(element["scale0"].image.c.values) == ["r", "g", "b"]
    np.testing.assert_array_equal(element["scale0"].image.values, picture)
    assert element["scale1"].image.dtype == np.uint8
    means = picture.reshape(3, 550, 2, 750, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(element["scale1"].image.values, means, atol=0.5)


def test_a_mask_is_written_as_it_is(empty, rng):
    import spatialdata as sd
    import zarr
    from spatialdata.transformations import get_transformation

    mask = np.kron(rng.random((11, 23)) < 0.5, np.ones((101, 201), dtype=bool))
    write_mask(empty, "mask", mask, Grid(*mask.shape, 4.0, (2.0, 2.0)))
    zarr.consolidate_metadata(empty)
    element = sd.read_zarr(empty)["mask"]
    for i, scale in enumerate(element):
        found = element[scale].image.values
        assert found.dtype == np.uint8
        height, width = found.shape
        step = 1 << i
        blocks = mask[: height * step, : width * step].reshape(height, step, width, step)
        np.testing.assert_array_equal(found, blocks.any(axis=(1, 3)))
    assert i == len(pyramid_factors(mask.shape))
    np.testing.assert_allclose(get_transformation(element).to_scale_vector(("y", "x")), [2, 2])


def test_a_mask_in_blocks_is_written_as_its_pixels(empty, rng):
    import zarr

    mask = Mask(rng.random((11, 23)) < 0.5, (1111, 4623), (101, 201))
    for name, tissue in (("blocks", mask), ("pixels", np.asarray(mask))):
        write_mask(empty, name, tissue, Grid(*mask.shape, 4.0))
    blocks, pixels = (zarr.open_group(empty / "labels" / name, mode="r") for name in ("blocks", "pixels"))
    for level in pixels.array_keys():
        np.testing.assert_array_equal(blocks[level][:], pixels[level][:])


def halved(values):
    """Mean of the known among each 2 x 2 pixels, one block at a time."""
    out = np.full((len(values), values.shape[1] // 2, values.shape[2] // 2), np.nan, dtype=np.float32)
    for y in range(out.shape[1]):
        blocks = values[:, 2 * y : 2 * y + 2, : 2 * out.shape[2]].reshape(len(values), 2, -1, 2)
        known = np.isfinite(blocks)
        total, n = np.where(known, blocks, 0).sum(axis=(1, 3)), known.sum(axis=(1, 3))
        out[:, y] = np.divide(total, n, out=out[:, y], where=n > 0)
    return out


def test_what_is_not_written_is_the_fill_value(empty):
    import spatialdata as sd
    import zarr

    create_raster(empty, "genes", GENES, Grid(600, 50, 1.0))
    create_raster(empty, "unknown", GENES, Grid(600, 50, 1.0), fill=np.nan)
    create_raster(empty, "redrawn", GENES, Grid(600, 50, 1.0), fill=0.875)
    zarr.consolidate_metadata(empty)
    assert (sd.read_zarr(empty)["genes"]["scale0"].image.values == 0).all()
    assert np.isnan(sd.read_zarr(empty)["unknown"]["scale0"].image.values).all()
    assert (sd.read_zarr(empty)["redrawn"]["scale1"].image.values == 0.875).all()


@pytest.mark.parametrize(("n", "side"), [(1, 512), (4, 512), (5, 256), (48, 128), (64, 128), (65, 64), (300, 32)])
def test_channels_that_are_wanted_together_share_chunks_of_at_most_four_megabytes(empty, n, side):
    names = [f"factor{k}" for k in range(n)]
    finest, *_, coarsest = create_raster(empty, "maps", names, Grid(1100, 700, 1.0), together=True).levels
    assert finest.chunks == (n, side, side)
    assert TILE % side == 0  # a tile fills whole chunks: two tiles never write one
    assert coarsest.chunks == (n, min(side, 275), min(side, 175))


def test_pyramids_end_when_the_raster_is_small():
    assert pyramid_factors((400, 512)) == []
    assert pyramid_factors((2000, 100)) == [2, 2]
