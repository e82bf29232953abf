from __future__ import annotations

import errno

import pytest

from sphisto.io.export.new_file import check_free, new_file


def test_a_file_that_is_there_is_left_alone_unless_it_may_go(tmp_path):
    path = tmp_path / "x.ome.tif"
    check_free(path, overwrite=False)
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"x\.ome\.tif exists and is left alone.*`overwrite=True`"):
        check_free(path, overwrite=False)
    check_free(path, overwrite=True)


def test_folders_are_no_files(tmp_path):
    with pytest.raises(FileExistsError, match="is a folder"):
        check_free(tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none for x\.ome\.tif"):
        check_free(tmp_path / "none" / "x.ome.tif", overwrite=False)


def test_a_full_disk_leaves_nothing(tmp_path):
    (tmp_path / "x").write_text("old")

    def fill():
        with new_file(tmp_path / "x") as beside:
            beside.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="The disk filled up while .*x was written"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"
