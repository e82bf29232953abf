"""What an evaluation writes into the table of a section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto import __version__, _keys
from sphisto.io.understood import Section
from sphisto.scoring.scores import OWN, Scores
from sphisto.slide.slide import Slide

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Scores of a section and what is recorded beside them."""

    section: Section
    # scores, genes: scores of genes, and their names
    scores: Scores
    genes: list[str]
    held_out: NDArray[np.bool_]  # (n,) bool spots that were held out
    # record, key: entry of uns, and its name
    record: dict[str, Any]
    key: str

    def write(self) -> None:
        """Write scores, spots held out and the record into the section's table."""
        import pandas as pd

        adata: Any = self.section.adata
        scores, key, columns = self.scores, self.key, adata.var_names.get_indexer(self.genes)

        def spread(values: Floats) -> NDArray[np.float32]:
            whole = np.full(adata.n_vars, np.nan, dtype=np.float32)
            whole[columns] = values
            return whole

        adata.uns[key] = self.record
        adata.var[_keys.skill(key)] = spread(scores.pearson[OWN])
        adata.var[_keys.deviance_explained(key)] = spread(scores.explained[OWN])
        adata.var[_keys.ceiling(key)] = spread(scores.ceiling)
        adata.var[_keys.coverage(key)] = spread(scores.coverage.get(OWN, np.full(len(columns), np.nan)))
        by_method = {name: spread(values) for name, values in scores.pearson.items()}
        adata.varm[_keys.by_method(key)] = pd.DataFrame(by_method, index=adata.var_names)
        adata.obs[_keys.held_out(key)] = self.section.spread(self.held_out, fill=False)


def params_of(slide: Slide) -> dict[str, Any]:
    """Units and footprint in which a slide was evaluated, and by which version."""
    return {
        "library_id": slide.name,
        "um_per_px": slide.grid.um_per_px,
        "spot_um": slide.spot.um,
        "spot_shape": slide.spot.shape,
        "is_counts": slide.spots.is_counts,
        "version": __version__,
    }


def counted(held_out: NDArray[np.bool_], rows: NDArray[np.int64]) -> dict[str, int]:
    """Numbers of spots held out, of these scored, and left to learn from."""
    return {"held_out": int(held_out.sum()), "scored": len(rows), "left": int((~held_out).sum())}
