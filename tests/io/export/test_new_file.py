from __future__ import annotations

import errno

import pytest

from sphisto.io.export.new_file import new_file


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
