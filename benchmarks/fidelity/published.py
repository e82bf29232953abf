"""Published methods, each run by the Python of its own environment; see ``benchmarks/fidelity/peers``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.fidelity.cases import Prediction

RUNNERS = Path(__file__).resolve().parent / "peers"


def python_of(name: str) -> Path:
    """Python of a peer's environment, below the folder that the environment variable SPHISTO_PEERS names."""
    return Path(os.environ.get("SPHISTO_PEERS", "nowhere")) / name / "bin" / "python"


def missing(name: str) -> str:
    """Why a peer cannot be run; empty if it can."""
    python = python_of(name)
    return "" if python.exists() else f"there is no {python} (SPHISTO_PEERS names the folder; see peers/README.md)"


def tesla(case) -> Prediction:
    """TESLA with its defaults."""
    return run(case, "tesla")


def spahdmap(case) -> Prediction:
    """SpaHDmap, given counts where counts are scored, else left to normalise by itself."""
    return run(case, "spahdmap", "normalised" if case.held_out else "counts")


def run(case, name, *words) -> Prediction:
    """Write what a peer may see into a folder, let it predict there, and read what it says."""
    with tempfile.TemporaryDirectory() as folder:
        side = np.sqrt(np.median(case.regions.area))
        np.savez_compressed(
            Path(folder) / "case.npz", image=np.moveaxis(case.image, 0, -1), counts=case.counts.astype(np.float32),
            genes=np.asarray(case.slide.spots.genes, dtype=np.str_), wanted=case.genes.astype(np.str_),
            centers=case.centers[:, ::-1], radius=case.radius, regions=case.regions.centroids()[:, ::-1],
            reach=side / 2, tissue=np.asarray(case.slide.tissue),
        )  # fmt: skip
        command = [str(python_of(name)), "-W", "ignore", str(RUNNERS / f"run_{name}.py"), folder, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"TQDM_DISABLE": "1"}
        )
        if done.returncode:
            msg = f"{name} ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
            raise RuntimeError(msg)
        with np.load(Path(folder) / "prediction.npz") as found:
            column = {gene: i for i, gene in enumerate(found["genes"])}
            places = np.array([column.get(gene, -1) for gene in case.genes])
            values, logs = (_ordered(found[part], places) for part in ("values", "logs"))
    return Prediction(case.in_counts(values), logs if np.isfinite(logs).any() else None)


def _ordered(values, places):
    """(m, S) columns of a table in another order; NaN for genes that the peer does not model."""
    return np.where(places >= 0, np.asarray(values, dtype=np.float64)[:, places], np.nan)
