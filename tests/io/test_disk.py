from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest

from sphisto.io.disk import require_room


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
