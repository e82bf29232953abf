"""Published methods, each run by the Python of its own environment; see ``benchmarks/fidelity/peers``."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fidelity.cases import Prediction, picture
from benchmarks.fidelity.peers.environment import python_of
from benchmarks.fidelity.peers.exchange import read_prediction, write_case

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case

RUNNERS = Path(__file__).resolve().parents[1] / "peers"


def tesla(case: Case) -> Prediction:
    """TESLA with its defaults."""
    return run(case, "tesla")


def spahdmap(case: Case) -> Prediction:
    """SpaHDmap on the reduced schedule; given counts where counts are scored, else left to normalise by itself."""
    return run(case, "spahdmap", "--input", "counts" if case.finer else "normalised")


def run(case: Case, name: str, *words: str) -> Prediction:
    """Write the case into a folder, let the peer predict there, and read what it says."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        hand_over(case, folder)
        command = [str(python_of(name)), "-W", "ignore", str(RUNNERS / f"run_{name}.py"), temporary, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"TQDM_DISABLE": "1"}
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            msg = f"{name} ended with {done.returncode}: {said}"
            raise RuntimeError(msg)
        return taken_over(case, read_prediction(folder))


def hand_over(case: Case, folder: Path) -> None:
    """Write what a peer may see of a case."""
    grid, spots = case.slide.grid, case.slide.spots
    side = case.regions.spot.um / grid.um_per_px
    square = case.regions.spot.shape == "square"
    genes = np.array(spots.genes)
    write_case(
        folder,
        np.moveaxis(picture(case), 0, -1),
        case.counts,
        genes,
        case.centers[:, ::-1],
        case.regions.centers[:, ::-1],
        radius=case.radius,
        pitch=case.pitch,
        um_per_px=grid.um_per_px,
        region_side=side if square else None,
        region_radius=None if square else side / 2,
        wanted=genes[case.scored],
        tissue=np.asarray(case.slide.tissue),
    )


def taken_over(case: Case, found: dict[str, Any]) -> Prediction:
    """Order a peer's prediction as the case is scored; NaN for genes that it does not model."""
    column = {gene: i for i, gene in enumerate(found["genes"])}
    wanted = [column.get(case.slide.spots.genes[i], -1) for i in case.scored]

    def ordered(values: Any) -> Any:
        return np.where(np.array(wanted) >= 0, np.asarray(values, dtype=np.float64)[:, wanted], np.nan)

    logs = ordered(found["log_values"]) if "log_values" in found else None
    return Prediction(case.in_counts(ordered(found["values"])), logs, f"{found['peak_mb']} MB; {found['notes']}")
