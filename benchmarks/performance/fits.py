"""Seconds of a whole fit of the mouse brain, with all defaults, and of a tile, by two source trees in turn."""

import os
import re
import subprocess
import sys
import tempfile
from statistics import median

from benchmarks.performance.measuring import middle_ratio, row

SET, ROUNDS = "mouse_brain_coronal", 2
FIT = """
import sys, tempfile, time
from pathlib import Path
import sphisto as sp
with tempfile.TemporaryDirectory() as folder:
    adata, started = sp.io.read_visium(sys.argv[1]), time.perf_counter()
    sp.tl.fit_projection(adata, store=Path(folder) / "out.zarr", genes=list(adata.var_names[:2]), rng=0, device="cpu")
    print("seconds", time.perf_counter() - started)
"""


def compare(data, trees, rounds=ROUNDS):
    """Rows of the seconds of the second tree, and their ratio to the first's; in turn, each in a new process."""
    rounds = [[seconds_of(tree, data / SET) for tree in trees] for _ in range(rounds)]
    first, second = zip(*rounds, strict=True)
    behind = ", ".join(f"{a:.0f} and {b:.0f} s" for a, b in zip(first, second, strict=True))
    return [
        row(f"{SET}, all defaults: seconds", median(second), "s", behind, most=300),
        row("over those of the other version", middle_ratio(second, first), "", behind, most=1.1),
    ]


def compare_tiles(trees, rounds=ROUNDS):
    """Rows of the seconds in which each tree's own benchmark predicts and writes a tile, and their ratio; in turn."""
    rounds = [[tile_seconds_of(tree) for tree in trees] for _ in range(rounds)]
    first, second = zip(*rounds, strict=True)
    behind = ", ".join(f"{a:.3f} and {b:.3f} s" for a, b in zip(first, second, strict=True))
    return [row("predict and write a tile, over the other version", middle_ratio(second, first), "", behind, most=0.6)]


def tile_seconds_of(tree) -> float:
    """Seconds as the table of inference says them of the package in ``tree/src``."""
    tree = tree.resolve()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree)]), "TQDM_DISABLE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.performance", "--only", "inference", "--results", folder]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    return float(re.search(r"([0-9.]+)(?: s)? instead of", done.stdout)[1])


def seconds_of(tree, folder) -> float:
    """Seconds of a fit by the package in ``tree/src``."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", FIT, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split("seconds ")[-1])
