"""The low-rank gene model: K factor maps times non-negative loadings give any gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Factors:
    """Loadings of genes on factors.

    Parameters
    ----------
    genes
        Names of the G genes.
    loadings
        (G, K) float32, non-negative; each factor's loadings sum to one over the genes, so that a factor's value is
        the counts it contributes. A gene whose row is NaN is not modelled.
    """

    genes: tuple[str, ...]
    loadings: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.loadings.ndim != 2 or len(self.genes) != len(self.loadings):
            msg = f"Found loadings of shape {self.loadings.shape} for {len(self.genes)} genes; expected (genes, K)."
            raise ValueError(msg)

    @property
    def n_factors(self) -> int:
        """Number of factors K."""
        return self.loadings.shape[1]

    @property
    def names(self) -> list[str]:
        """Names of the factor channels."""
        return [f"factor{k}" for k in range(self.n_factors)]

    def rows(self, genes: list[str]) -> NDArray[np.float32]:
        """Return the (len(genes), K) loadings of some genes by name."""
        position = {gene: i for i, gene in enumerate(self.genes)}
        missing = [gene for gene in genes if gene not in position]
        if missing:
            import difflib

            close = difflib.get_close_matches(missing[0], self.genes, n=5)
            hint = f" Close to {missing[0]!r}: {', '.join(close)}." if close else ""
            msg = f"Found no gene {', '.join(map(repr, missing))} among the {len(self.genes)} of the table.{hint}"
            raise KeyError(msg)
        rows = self.loadings[[position[gene] for gene in genes]]
        unmodelled = [gene for gene, row in zip(genes, rows, strict=True) if np.isnan(row).any()]
        if unmodelled:
            msg = (
                f"{', '.join(unmodelled)} cannot be drawn: this projection models only "
                f"{int((~np.isnan(self.loadings[:, 0])).sum())} of {len(self.genes)} genes. "
                "Fit again and name them in `genes=`, or use a network that models all genes."
            )
            raise KeyError(msg)
        return rows

    def expression(self, maps: NDArray[Any], genes: list[str]) -> NDArray[np.float32]:
        """Turn (K, ...) factor maps into (len(genes), ...) expression in counts per spot area."""
        return np.tensordot(self.rows(genes), np.asarray(maps, dtype=np.float32), axes=1)
