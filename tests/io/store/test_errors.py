"""A damaged file of a store is found and named."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from sphisto.io.store.errors import naming_chunk, naming_damage


def read(array, place):
    with naming_chunk(array, place):
        return array[place]


@pytest.fixture
def array(tmp_path):
    return zarr.create_array(
        tmp_path / "a.zarr" / "images" / "b", data=np.arange(80.0).reshape(2, 5, 8), chunks=(1, 2, 4)
    )


def test_the_damaged_chunk_is_named_only_where_it_is_wanted(array, tmp_path):
    (tmp_path / "a.zarr" / "images" / "b" / "c" / "1" / "2" / "0").write_bytes(b"not a chunk")
    np.testing.assert_array_equal(read(array, (1, slice(0, 4), slice(0, 8))), np.arange(40, 72).reshape(4, 8))
    np.testing.assert_array_equal(read(array, (1, slice(3, 5), slice(4, 8)))[1], np.arange(76, 80))
    with pytest.raises(
        ValueError, match=r"a\.zarr/images/b is damaged: c/1/2/0 cannot be read \(.*\)\. Copy that file"
    ):
        read(array, (1, slice(3, 5), slice(3, 8)))
    with pytest.raises(ValueError, match=r"c/1/2/0 cannot be read"):
        read(array, (np.array([0, 1]), slice(3, 5), slice(3, 8)))
    with pytest.raises(ValueError, match=r"a\.zarr is damaged: images/b/c/1/2/0 cannot be read \(.*\)\. Do this\."):  # noqa: SIM117
        with naming_damage(tmp_path / "a.zarr", advice="Do this."):
            _ = array[:]


def test_damaged_metadata_are_named(array, tmp_path):
    about = tmp_path / "a.zarr" / "images" / "b" / "zarr.json"
    about.write_bytes(about.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"a\.zarr is damaged: images/b/zarr\.json cannot be read"):  # noqa: SIM117
        with naming_damage(tmp_path / "a.zarr", (), advice=""):
            zarr.open_array(about.parent, mode="r")


def test_other_errors_stay_what_they_are(array, tmp_path):
    with pytest.raises(IndexError):
        read(array, (7, slice(0, 1), slice(0, 1)))
    with pytest.raises(KeyError, match="nothing"), naming_damage(tmp_path / "a.zarr", advice=""):
        raise KeyError("nothing")  # noqa: EM101
