from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sphisto import _memory
from sphisto._memory import kept_memory

MB = 1024**2


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / MB


@pytest.mark.skipif(_memory._glibc() is None, reason="another C library")
def test_memory_is_kept_and_given_back():
    np.ones(MB).sum()
    before = resident()
    with kept_memory():
        for _ in range(3):
            np.ones(50 * MB).sum()  # 400 MB
        kept = resident()
    assert kept > before + 350
    assert resident() < before + 100


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(_memory, "_glibc", lambda: None)
    with kept_memory():
        np.ones(MB)
