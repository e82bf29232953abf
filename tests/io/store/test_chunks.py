from __future__ import annotations

import shutil
import threading

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec

from sphisto.core.tiles import Window
from sphisto.io.store.chunks import chunks, cut, read_window, write_chunks

BLOSC = {"compressors": BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")}
LAYOUTS = {
    "all maps in a chunk": {"chunks": (5, 16, 32), **BLOSC},
    "one map in a chunk": {"chunks": (1, 16, 32), **BLOSC},
    "another codec": {"chunks": (5, 16, 32), "compressors": GzipCodec()},
    "no codec": {"chunks": (5, 16, 32), "compressors": None},
    "two codecs": {"chunks": (5, 16, 32), "compressors": (BLOSC["compressors"], GzipCodec())},
    "shards": {"chunks": (5, 8, 16), "shards": (5, 16, 32), **BLOSC},
    "big-endian": {"chunks": (5, 16, 32), "dtype": ">f4", **BLOSC},
    "big-endian on disk": {"chunks": (5, 16, 32), "serializer": BytesCodec(endian="big"), **BLOSC},
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
    return zarr.open_array(path, mode="r+")


@pytest.mark.parametrize("channels", [slice(None), slice(1, 4), np.array([0, 3])], ids=["all", "slice", "some"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whatever_the_layout_values_are_those_that_zarr_reads(tmp_path, values, layout, channels):
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS[layout])
    expected = values[channels][:, *WINDOW.slices]
    np.testing.assert_array_equal(array[:], values)
    np.testing.assert_array_equal(read_window(array, WINDOW, channels), expected)
    np.testing.assert_array_equal(read_window(da.from_zarr(array), WINDOW, channels), expected)


@pytest.mark.parametrize("layout", ["all maps in a chunk", "one map in a chunk"])
def test_chunks_are_read_and_written_as_files_without_zarr(tmp_path, values, monkeypatch, layout):
    """It takes less time and memory."""
    array = stored(tmp_path / "a.zarr", np.zeros_like(values), **LAYOUTS[layout])
    with monkeypatch.context() as without:
        without.setattr(zarr.Array, "__getitem__", None)
        without.setattr(zarr.Array, "__setitem__", None)
        write_chunks(array, Window(0, 0, 50, 71), taken_from(values, Window(0, 0, 50, 71)))
        np.testing.assert_array_equal(read_window(array, WINDOW), values[:, *WINDOW.slices])
    np.testing.assert_array_equal(array[:], values)


def test_a_mask_is_read(tmp_path, values):
    mask = (values[0] > 1).astype(np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", data=mask, chunks=(16, 32))
    np.testing.assert_array_equal(read_window(array, WINDOW), mask[WINDOW.slices])


def test_few_chunks_are_in_memory_at_a_time(tmp_path, values, monkeypatch):
    array = stored(tmp_path / "a.zarr", values, chunks=(5, 2, 71), **BLOSC)
    monkeypatch.setattr("sphisto.io.store.chunks.n_cores", lambda: 2)
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


def taken_from(values, window):
    """Make parts of a window out of all of its values."""
    return lambda channels, part: values[channels, *part.within(window)]


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(LAYOUTS)), st.data())
def test_whatever_the_layout_a_window_is_written_and_nothing_beside_it(tmp_path_factory, layout, data):
    before, after = np.random.default_rng(1).gamma(2.0, size=(2, 5, 50, 71)).astype(np.float32)
    # chunks begin at multiples of 16 and 32; both they and what lies between are to be met
    y0, y1 = sorted(
        data.draw(st.lists(st.sampled_from([0, 7, 16, 30, 32, 48, 50]), min_size=2, max_size=2, unique=True))
    )
    x0, x1 = sorted(data.draw(st.lists(st.sampled_from([0, 20, 32, 50, 64, 71]), min_size=2, max_size=2, unique=True)))
    window = Window(y0, x0, y1, x1)
    path = tmp_path_factory.mktemp("written") / "a.zarr"
    write_chunks(stored(path, before, **LAYOUTS[layout]), window, taken_from(after[:, *window.slices], window))
    before[:, *window.slices] = after[:, *window.slices]
    np.testing.assert_array_equal(zarr.open_array(path)[:], before)


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_a_chunk_of_nothing_but_the_fill_value_has_no_file(tmp_path, values, fill):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=values.shape, dtype="f4", chunks=(5, 16, 32), fill_value=fill, **BLOSC
    )
    array[:] = 1.0
    write_chunks(array, Window(0, 0, 16, 71), lambda channels, part: np.full((5, *part.shape), fill, dtype=np.float32))
    assert not list((tmp_path / "a.zarr" / "c" / "0" / "0").iterdir())
    assert np.array_equal(array[:, :16], np.full((5, 16, 71), fill), equal_nan=True)
    assert (array[:, 16:] == 1.0).all()


def test_a_chunk_that_cannot_be_written_is_as_before(tmp_path, values):
    """Here because files may not be as large; on a full disk it is the same."""
    resource = pytest.importorskip("resource", reason="Windows sets no such limits")
    array = stored(tmp_path / "a.zarr", values, **LAYOUTS["all maps in a chunk"])
    files = sorted((tmp_path / "a.zarr").rglob("*"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_chunks(array, Window(0, 0, 50, 71), taken_from(values + 1, Window(0, 0, 50, 71)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted((tmp_path / "a.zarr").rglob("*")) == files
    np.testing.assert_array_equal(array[:], values)


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
