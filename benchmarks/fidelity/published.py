"""Published methods, each run by the Python of its own environment; see ``benchmarks/fidelity/peers``."""

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


def run(case, *, name: str) -> Prediction:
    """Write what a peer may see into a folder, let it predict there, and read what it says."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(
            Path(folder) / "case.npz", image=np.moveaxis(case.image, 0, -1), counts=case.counts.astype(np.float32),
            genes=np.asarray(case.slide.spots.genes, dtype=np.str_), wanted=case.genes.astype(np.str_),
            centers=case.centers[:, ::-1], radius=case.radius, regions=case.regions.centroids()[:, ::-1],
            reach=np.sqrt(np.median(case.regions.area)) / 2, tissue=np.asarray(case.slide.tissue), log=case.held_out,
        )  # fmt: skip
        command = [str(python_of(name)), "-W", "ignore", str(RUNNERS / f"run_{name}.py"), folder]
        quiet = os.environ | {"TQDM_DISABLE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
        if done.returncode:
            msg = f"{name} ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
            raise RuntimeError(msg)
        with np.load(Path(folder) / "prediction.npz") as found:
            column = {gene: i for i, gene in enumerate(found["genes"])}
            places = np.array([column.get(gene, -1) for gene in case.genes])  # NaN for genes it does not model
            values, logs = (np.where(places >= 0, found[part][:, places], np.nan) for part in ("values", "logs"))
    return Prediction(case.in_counts(values), logs if np.isfinite(logs).any() else None)
