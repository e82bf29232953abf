"""The data sets by name and split."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case

HELD_OUT = ("mouse_brain_coronal", "her2st_C2", "her2st_C4", "mob_st_1", "breast_visium_xenium")
SPLITS = ("random", "blocks", "finer")
SETS: dict[tuple[str, str], str] = {
    **{(name, split): "spots" for name in HELD_OUT for split in ("random", "blocks")},
    ("xenium_breast_dapi", "finer"): "dapi",
    ("breast_visium_xenium", "finer"): "neighbour",
    ("toy", "finer"): "toy",
    ("toy_sparse", "finer"): "toy_sparse",
}
"""Which file of this folder makes the case."""


def missing(name: str, data: Path | None) -> str | None:
    """Why a set cannot be had; ``None`` if it can."""
    if name.startswith("toy"):
        return None
    if data is None:
        return "no folder of data sets was given (--data, or the environment variable SPHISTO_DATA)"
    return None if (data / name).is_dir() else f"there is no folder {name} in {data}"


def make_case(name: str, split: str, seed: int, data: Path | None) -> Case:
    """Make a case, by the file that is named for it."""
    module = import_module(f"benchmarks.fidelity.sets.{SETS[name, split]}")
    case: Case = module.make(None if data is None else data / name, split, seed)
    return case
