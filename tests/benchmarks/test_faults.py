"""A handful of the instants that ``python -m benchmarks.faults`` tries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="copies of a process are killed, which this system cannot make")
@pytest.mark.parametrize("options", [[], ["--windows"]], ids=["together", "in windows"])
def test_a_fit_killed_at_some_instants_loses_nothing(options):
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.faults", "--instants", "3", "--seed", "4", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 3 instants went well." in done.stdout
