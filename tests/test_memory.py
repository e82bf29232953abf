from __future__ import annotations

from pathlib import Path

import pytest

from sphisto import _memory
from sphisto._memory import give_back

MB = 1024**2


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MB


@pytest.mark.skipif(_memory._glibc() is None, reason="another C library")
def test_free_memory_is_given_back():
    give_back()
    before = resident()
    blocks = [bytearray(32 * 1024) for _ in range(6400)]  # 200 MB of blocks too small to be mapped one by one
    last = bytearray(32 * 1024)  # above them, so that they are not given back by themselves
    del blocks
    kept = resident()
    give_back()
    assert kept > before + 150
    assert resident() < before + 50
    del last


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(_memory, "_glibc", lambda: None)
    give_back()
