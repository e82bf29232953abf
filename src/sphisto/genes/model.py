"""The low-rank gene model: K factor maps times loadings give any gene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pandas import DataFrame
    from torch import Tensor

    Values = TypeVar("Values", NDArray[np.floating], Tensor)


@dataclass(frozen=True, eq=False)
class GeneModel:
    """Loadings of genes on factors.

    Parameters
    ----------
    genes
        Names of the G genes.
    loadings
        (G, K) float32. Those of the first factors are not negative and sum to one over the genes, so that a factor's
        value is the counts it contributes. A gene whose row is NaN is not modelled.
    n_contrasts
        Number of factors, the last ones, that are contrasts between genes: they and their loadings have signs, and
        correct the other factors.
    factor_names
        Names of the factors that are no contrasts, where they have any: those of programmes that a user gave.
    """

    genes: tuple[str, ...]
    loadings: NDArray[np.float32]
    n_contrasts: int = 0
    factor_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.loadings.ndim != 2 or len(self.genes) != len(self.loadings):
            msg = f"Found loadings of shape {self.loadings.shape} for {len(self.genes)} genes; expected (genes, K)."
            raise ValueError(msg)
        if not 0 <= self.n_contrasts <= self.n_factors:
            msg = f"Found {self.n_contrasts} contrasts among {self.n_factors} factors; expected none to all of them."
            raise ValueError(msg)
        if self.factor_names and len(self.factor_names) != self.n_factors - self.n_contrasts:
            msg = f"Found {len(self.factor_names)} names of {self.n_factors - self.n_contrasts} factors; expected one for each."
            raise ValueError(msg)

    @property
    def n_factors(self) -> int:
        """Number of factors K."""
        return self.loadings.shape[1]

    @property
    def names(self) -> list[str]:
        """Names of the factor channels."""
        n_plain = self.n_factors - self.n_contrasts
        plain = self.factor_names or [f"factor{k}" for k in range(n_plain)]
        return [*plain, *(f"contrast{k}" for k in range(self.n_contrasts))]

    def of(self, genes: list[str]) -> GeneModel:
        """Return the model of some genes."""
        return replace(self, genes=tuple(genes), loadings=self.rows(genes))

    def measured_by(self, genes: tuple[str, ...]) -> GeneModel:
        """Return the model of the genes that a section measured, some of this model's or all, modelled or not."""
        if genes == self.genes:
            return self
        return self.at(self.places(genes))

    def at(self, rows: NDArray[np.intp]) -> GeneModel:
        """Return the model of the genes in some (n,) rows, modelled or not."""
        return replace(self, genes=tuple(self.genes[i] for i in rows), loadings=self.loadings[rows])

    def places(self, genes: Iterable[str]) -> NDArray[np.intp]:
        """Return the (n,) rows of n of the model's genes."""
        position = {gene: i for i, gene in enumerate(self.genes)}
        return np.array([position[gene] for gene in genes], dtype=np.intp)

    def by(self, factors: NDArray[np.bool_]) -> GeneModel:
        """Return the model by some of the factors."""
        plain, contrasts = np.split(factors, [self.n_factors - self.n_contrasts])
        names = tuple(name for name, kept in zip(self.factor_names, plain, strict=False) if kept)
        return GeneModel(self.genes, self.loadings[:, factors], int(contrasts.sum()), names)

    def rows(self, genes: list[str]) -> NDArray[np.float32]:
        """Return the (len(genes), K) loadings of some genes by name."""
        require_genes(genes, self.genes)
        rows = self.loadings[self.places(genes)]
        unmodelled = [gene for gene, row in zip(genes, rows, strict=True) if np.isnan(row).any()]
        if unmodelled:
            msg = (
                f"{', '.join(unmodelled)} cannot be drawn: this projection models only "
                f"{int((~np.isnan(self.loadings[:, 0])).sum())} of {len(self.genes)} genes. "
                "Fit again and name them in `genes=`, or use a network that models all genes."
            )
            raise KeyError(msg)
        return rows

    def in_order_of(self, other: GeneModel) -> GeneModel:
        """Return the model with each factor in the place of that of another model which it is most like; named ones stay.

        A network reads them by their place, also where it only redraws the image.
        """
        from scipy.optimize import linear_sum_assignment

        if self.factor_names:
            return self
        plain, contrasts = np.split(self.loadings, [self.n_factors - self.n_contrasts], axis=1)
        theirs = other.loadings[:, : other.n_factors - other.n_contrasts]
        ours, theirs = (each / np.maximum(np.linalg.norm(each, axis=0), 1e-12) for each in (plain, theirs))
        order = linear_sum_assignment(-theirs.T @ ours)[1]  # of their factors, one after the other
        order = np.concatenate([order, np.setdiff1d(np.arange(plain.shape[1]), order)])
        return replace(self, loadings=np.hstack([plain[:, order], contrasts]))

    def expression(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """Turn (K, ...) factor maps into (genes, ...) expression in counts per spot area."""
        flat = np.asarray(maps, dtype=np.float32).reshape(len(maps), -1)
        # loadings and maps may change places: so each gene's pixels lie side by side in memory, as those of maps do
        return rates(self.loadings, flat.T, self.n_contrasts).reshape(len(self.genes), *maps.shape[1:])


def require_genes(genes: Iterable[str], known: Sequence[str], var: DataFrame | None = None) -> None:
    """Raise for names of genes that are not there, with the column of ``var`` that holds them, or names like the first."""
    there, genes = set(known), list(genes)
    if strange := [gene for gene in genes if not isinstance(gene, str)]:
        msg = f"Found {strange[0]!r} of type {type(strange[0]).__name__} among the genes; expected their names."
        raise TypeError(msg)
    missing = [gene for gene in genes if gene not in there]
    if not missing:
        return
    msg = f"Found no gene {', '.join(map(repr, missing))} among the {len(known)} of the table."
    column = None if var is None else _column_with(missing, var)
    if column is not None:
        msg += (
            f" The column var[{column!r}] holds {missing[0]!r}, while genes are called such as {known[0]!r}: take its names, "
            f"`adata.var_names = adata.var[{column!r}].astype(str)`, then `adata.var_names_make_unique()`."
        )
        raise KeyError(msg)
    import difflib

    by_lower = {name.lower(): name for name in known}
    close = [by_lower[name] for name in difflib.get_close_matches(missing[0].lower(), by_lower, n=5)]
    hint = f" Close to {missing[0]!r}: {', '.join(close)}." if close else " `var_names` lists those there are."
    raise KeyError(msg + hint)


def _column_with(names: Iterable[str], var: DataFrame) -> Any:
    """Name of the first column of ``var`` that holds all the names; ``None`` if there is none."""
    wanted = set(names)
    return next((column for column in var if wanted <= set(var[column].astype(str))), None)


def rates(values: Values, loadings: Values, n_contrasts: int) -> Values:
    """Turn (m, K) factor values into (m, G) expression under (G, K) loadings, arrays or tensors: never below zero."""
    least = 0.1  # of the expression by non-negative factors is left at least, whatever contrasts take away
    if n_contrasts == 0:
        return values @ loadings.T
    plain = values[:, :-n_contrasts] @ loadings[:, :-n_contrasts].T
    contrast = values[:, -n_contrasts:] @ loadings[:, -n_contrasts:].T
    return plain + contrast.clip(min=(least - 1) * plain)
