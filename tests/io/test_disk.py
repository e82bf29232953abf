from __future__ import annotations

import errno
import logging
import shutil
from types import SimpleNamespace

import pytest

from sphisto.io.disk import naming_full_disk, new_file, require_room


def test_too_little_room_is_refused_and_scarce_room_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3e9))
    words = {"needs": "x needs", "mend": "Write less by `genes`"}
    require_room(tmp_path, 1e9, 2e9, **words)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        require_room(tmp_path, 2e9, 4e9, **words)
    assert "x needs some 2.0 to 4.0 GB" in caplog.text
    with pytest.raises(OSError, match=r"x needs some 4.0 to 5.0 GB and .* has 3.0 GB free. Write less by `genes`."):
        require_room(tmp_path, 4e9, 5e9, **words)


def test_little_room_is_given_in_mb(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=31e6))
    with pytest.raises(OSError, match=r"some 40 MB to 1.2 GB and .* has 31 MB free"):
        require_room(tmp_path, 40e6, 1.2e9, needs="x needs", mend="Write less")


def test_a_disk_that_fills_up_is_named_with_what_is_left_and_other_errors_stay(tmp_path):
    def fails(number):
        with naming_full_disk(tmp_path / "m.pt", kept="All is as it was", mend="Free some"):
            raise OSError(number, "system's words")

    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(
            OSError, match=r"filled up while .*m\.pt was written \(.* left\)\. All is as it was\. Free some\."
        ):
            fails(number)
    with pytest.raises(PermissionError, match="system's words"):
        fails(errno.EACCES)


def test_a_full_disk_leaves_nothing_of_a_new_file(tmp_path):
    (tmp_path / "x").write_text("old")

    def fill():
        with new_file(tmp_path / "x") as beside:
            beside.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="The disk filled up while .*x was written"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"
