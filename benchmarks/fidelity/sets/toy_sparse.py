"""The drawn section with a twentieth of its counts, so that spots alone do not tell it and the picture matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.fidelity.sets import toy

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.fidelity.cases import Case

MEAN_COUNTS = 0.5  # of a gene in a spot: a middling gene of a real section


def make(data: Path | None, split: str, seed: int, **options: Any) -> Case:
    """As the other one, but of few counts."""
    return toy.make(data, split, seed, name="toy_sparse", mean_counts=MEAN_COUNTS, **options)
