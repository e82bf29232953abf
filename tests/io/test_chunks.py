from __future__ import annotations

import shutil
import threading

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec

from sphisto.core.tiles import Window
from sphisto.io.chunks import chunks, cut, read_window

BLOSC = {"compressors": BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")}
LAYOUTS = {
    "all maps in a chunk": {"chunks": (5, 16, 32), **BLOSC},
    "one map in a chunk": {"chunks": (1, 16, 32), **BLOSC},
    "another codec": {"chunks": (5, 16, 32), "compressors": GzipCodec()},
    "no codec": {"chunks": (5, 16, 32), "compressors": None},
    "two codecs": {"chunks": (5, 16, 32), "compressors": (BLOSC["compressors"], GzipCodec())},
    "shards": {"chunks": (5, 8, 16), "shards": (5, 16, 32), **BLOSC},
    "big-endian": {"chunks": (5, 16, 32), "dtype": ">f4", **BLOSC},
    "zarr 2": {"chunks": (5, 16, 32), "zarr_format": 2},
}
WINDOW = Window(7, 20, 49, 71)


@pytest.fixture(scope="module")
def values():
    values = np.random.default_rng(0).gamma(2.0, size=(5, 50, 71)).astype(np.float32)
    values[:, 16:32, :32] = np.nan  # a chunk that is not stored
    return values


def stored(path, values, **layout):
    if layout.get("zarr_format") == 2:
        array = zarr.create_array(path, shape=values.shape, dtype="f4", fill_value=np.nan, **layout)
    else:
        layout = {"dtype": values.dtype, **layout}
        array = zarr.create_array(path, shape=values.shape, fill_value=np.nan, **layout)
    array[:] = values
    return zarr.open_array(path, mode="r")


@pytest.mark.parametrize("channels", [slice(None), slice(1, 4), np.array([0, 3])], ids=["all", "slice", "some"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_the_layout_values_are_those_that_zarr_reads(tmp_path, values, layout, channels):
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS[layout])
    expected = values[channels][:, *WINDOW.slices]
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(read_window(array, WINDOW, channels), expected)
    np.testing.assert_array_equal(read_window(da.from_zarr(array), WINDOW, channels), expected)


def test_chunks_of_all_maps_are_read_from_their_files_without_zarr(tmp_path, values, monkeypatch):
    """It takes a third of the time."""
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS["all maps in a chunk"])
    monkeypatch.setattr(zarr.Array, "__getitem__", None)
    np.testing.assert_array_equal(read_window(array, WINDOW), values[:, *WINDOW.slices])


def test_a_mask_is_read(tmp_path, values):
    mask = (values[0] > 1).astype(np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", data=mask, chunks=(16, 32))
    np.testing.assert_array_equal(read_window(array, WINDOW), mask[WINDOW.slices])


def test_few_chunks_are_in_memory_at_a_time(tmp_path, values, monkeypatch):
    array = stored(tmp_path / "a.zarr", values, chunks=(5, 2, 71), **BLOSC)
    monkeypatch.setattr("sphisto.io.chunks.n_cores", lambda: 2)
    read, lock = [], threading.Lock()
    original = type(array.metadata).encode_chunk_key

    def counted(metadata, index):
        with lock:
            read.append(index)
        return original(metadata, index)

    monkeypatch.setattr(type(array.metadata), "encode_chunk_key", counted)
    for taken, _ in enumerate(chunks(array, Window(0, 0, 50, 71)), start=1):
        assert len(read) <= taken + 4
    assert len(read) == taken == 25


SPOILED = {
    "cut off": lambda stored: stored[:40],
    "a bomb": lambda stored: stored[:4] + (2**31 - 1).to_bytes(4, "little") + stored[8:],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_damaged_chunk_is_named(tmp_path, values, how):
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS["all maps in a chunk"])
    path = tmp_path / "a.zarr" / "c" / "0" / "2" / "1"
    path.write_bytes(SPOILED[how](path.read_bytes()))
    np.testing.assert_array_equal(read_window(array, Window(0, 0, 32, 71)), values[:, :32])
    with pytest.raises(ValueError, match=r"a\.zarr is damaged: c/0/2/1 cannot be read \(.*\)\. Copy that file back"):
        read_window(array, Window(0, 0, 50, 71))


def test_a_store_that_vanished_is_no_background(tmp_path, values):
    """A chunk without a file holds the fill value, but not if the array itself is gone."""
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS["all maps in a chunk"])
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(FileNotFoundError, match=r"a\.zarr"):
        read_window(array, WINDOW)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 1600), min_size=2, max_size=2, unique=True),
    st.integers(0, 900),
    st.integers(1, 700),
    st.tuples(st.integers(50, 600), st.integers(50, 600)),
)
def test_a_window_is_cut_where_chunks_begin(rows, left, width, sides):
    window = Window(min(rows), left, max(rows), left + width)
    times = np.zeros((1600, 1600), dtype=np.int8)
    for part in cut(window, sides):
        times[part.slices] += 1
        assert part.y0 // sides[0] == (part.y1 - 1) // sides[0]
        assert part.x0 // sides[1] == (part.x1 - 1) // sides[1]
    expected = np.zeros_like(times)
    expected[window.slices] = 1
    np.testing.assert_array_equal(times, expected)
