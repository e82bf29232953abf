from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.core.tiles import Window, grouped, nested, on_tissue, plan_tiles, read_window

sides = st.integers(1, 90)


@settings(deadline=None)
@given(sides, sides, st.integers(1, 40), st.integers(0, 20), st.sampled_from([1, 4, 8]))
def test_tiles_cover_each_pixel_exactly_once(height, width, size, halo, multiple):
    seen = np.zeros((height, width), dtype=int)
    tiles = plan_tiles((height, width), size=size, halo=halo, multiple=multiple)
    for tile in tiles:
        seen[tile.core.slices] += 1
        assert tile.view.y0 <= tile.core.y0 - halo
        assert tile.view.x1 >= tile.core.x1 + halo
        assert all(side % multiple == 0 for side in tile.view.shape)
        assert tile.core.y0 % multiple == tile.core.x0 % multiple == 0
    assert (seen == 1).all()
    assert len({tile.view.shape for tile in tiles}) == 1


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(-30, 10), st.integers(1, 40))
def test_windows_beyond_the_border_are_mirror_images(height, width, start, length):
    raster = np.arange(height * width).reshape(height, width)
    window = Window(start, start, start + length, start + length)
    margin = 60
    mirrored = np.pad(raster, margin, mode="reflect")
    expected = mirrored[start + margin : start + length + margin, start + margin : start + length + margin]
    np.testing.assert_array_equal(read_window(raster, window), expected)


def test_only_the_needed_part_of_a_lazy_raster_is_computed():
    import dask.array as da

    computed = []

    def block(block_info=None):
        computed.append(block_info[None]["chunk-location"])
        return np.ones((1, 10, 10))

    raster = da.map_blocks(block, chunks=((1,), (10,) * 10, (10,) * 10), dtype=float, meta=np.ones((0, 0, 0)))
    part = read_window(raster, Window(-5, 12, 5, 18))
    assert part.shape == (1, 10, 6)
    assert set(computed) == {(0, 0, 1)}


def test_a_raster_of_one_pixel_fills_any_window():
    assert (read_window(np.array([[7]]), Window(-3, -3, 4, 4)) == 7).all()


def test_tiles_without_size_are_refused():
    with pytest.raises(ValueError, match="size >= 1"):
        plan_tiles((5, 5), size=0)


def test_nested_tiles_come_in_groups_of_four():
    tiles = plan_tiles((2048, 1500), size=512)
    order = [(tile.core.y0 // 512, tile.core.x0 // 512) for tile in nested(tiles)]
    assert order[:6] == [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]
    assert sorted(order) == [(y, x) for y in range(4) for x in range(3)]
    assert nested([]) == []


def test_tiles_without_tissue_are_left_out():
    tissue = np.zeros((100, 100), dtype=bool)
    tissue[49, 70] = True
    assert [tile.core for tile in on_tissue(plan_tiles((100, 100), size=50), tissue)] == [Window(0, 50, 50, 100)]


def test_groups_hold_each_tile_once_and_keep_to_their_square():
    tiles = nested(plan_tiles((300, 500), size=16, halo=8))[::2]
    groups = grouped(tiles, 64)
    assert sorted(tiles.index(tile) for group in groups for tile in group) == list(range(len(tiles)))
    squares = [{(tile.core.y0 // 64, tile.core.x0 // 64) for tile in group} for group in groups]
    assert all(len(square) == 1 for square in squares)
    assert len(set.union(*squares)) == len(groups)
    assert [tile for group in groups for tile in group] == tiles, "tiles in nested order have groups in nested order"
