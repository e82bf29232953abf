"""Loadings that a user gives: gene programmes, such as those of single cells, in place of factors found in the spots."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sphisto._facts import some
from sphisto.slide.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from sphisto.genes.config import GeneModelConfig

_SHOWN = 5  # names in a message
_OF_CONTRAST = re.compile(r"contrast\d+")  # as channels of contrasts are called


@dataclass(frozen=True, eq=False)
class Loadings:
    """Programmes of genes."""

    genes: tuple[str, ...]  # names of the G' genes, each once
    programmes: tuple[str, ...]  # names of the K programmes, each once
    values: NDArray[np.float64]  # (G', K) float64, not negative; each column sums to one

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Loadings:
        """Read a table of genes x programmes of any scale."""
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            msg = f"Found loadings={type(frame).__name__}; expected a pandas DataFrame, genes (index) x programmes (columns)."
            raise TypeError(msg)
        if frame.empty:
            msg = f"Found an empty table of {frame.shape[0]} genes x {frame.shape[1]} programmes as `loadings`; expected some of both."
            raise ValueError(msg)
        genes, programmes = (tuple(map(str, names)) for names in (frame.index, frame.columns))
        _refuse_twice(genes, "genes", "`loadings.groupby(level=0).sum()` adds rows of one gene up")
        _refuse_twice(programmes, "programmes", "Rename columns of `loadings`")
        _refuse_names(programmes)
        values = _numbers(frame)
        _refuse_values(values, genes, programmes)
        shares = values / values.sum(axis=0)
        _refuse_alike(shares, programmes)
        return cls(genes, programmes, shares)

    @cached_property
    def hash(self) -> str:
        """Short digest of names and values."""
        return fingerprint([self.genes, self.programmes, np.ascontiguousarray(self.values)])

    def require(self, sections: Mapping[str, Sequence[str]]) -> None:
        """Refuse genes that one of the sections, given with its genes, does not have."""
        for section, genes in sections.items():
            there = set(genes)
            missing = [gene for gene in self.genes if gene not in there]
            if missing:
                raise KeyError(self._missing(missing, section, genes))

    def without_counts(self, genes: Sequence[str], counts: NDArray[Any]) -> list[str]:
        """Return programmes none of whose genes has any of (G,) counts of a section, so that nothing is known of them."""
        counted = {gene for gene, count in zip(genes, counts, strict=True) if count > 0}
        rows = np.array([gene in counted for gene in self.genes])
        found = (self.values[rows] > 0).any(axis=0)
        return [name for name, known in zip(self.programmes, found, strict=True) if not known]

    def _missing(self, missing: Sequence[str], section: str, genes: Sequence[str]) -> str:
        head = f"Found {len(missing)} of the {len(self.genes)} genes of `loadings` not in {section!r}: {some(missing, _SHOWN)}"
        if len(set(self.programmes) & set(genes)) > len(self.genes) - len(missing):
            return f"{head}; its columns are genes, however. Expected genes in rows: give `loadings.T`."
        if len(missing) == len(self.genes):
            return (
                f"{head}. Names of the section's genes look like {', '.join(genes[:3])}: bring both to symbols or to ids "
                "(`adata.var_names = adata.var['gene_ids']`), of one species."
            )
        return (
            f"{head}; expected genes that it has. Leave the others out, if these are enough: "
            "`loadings.loc[loadings.index.intersection(adata.var_names)]`."
        )

    def of(self, genes: Sequence[str]) -> NDArray[np.float64]:
        """(G, K) loadings of genes in another order; NaN of those without."""
        position = {gene: i for i, gene in enumerate(self.genes)}
        rows = np.array([position.get(gene, -1) for gene in genes])
        return np.where(rows[:, None] >= 0, self.values[rows], np.nan)

    def record(self, config: GeneModelConfig) -> dict[str, Any]:
        """Plain values by which a fit tells that these were given; without ``strength`` they were kept as they are."""
        strength = {} if config.loadings_strength is None else {"strength": float(config.loadings_strength)}
        return {"programmes": list(self.programmes), "n_genes": len(self.genes), "hash": self.hash, **strength}


def _refuse_twice(names: Sequence[str], what: str, mend: str) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    msg = f"Found {what} twice in `loadings`: {some(list(dict.fromkeys(twice)), _SHOWN)}; expected each once. {mend}."
    raise ValueError(msg)


def _refuse_names(programmes: Sequence[str]) -> None:
    for name in programmes:
        if not name.strip() or not name.isprintable() or _OF_CONTRAST.fullmatch(name):
            msg = (
                f"Found a programme of the name {name!r} in `loadings`; expected printable names other than `contrast0`, "
                "`contrast1`, ..., which are those of contrasts. Rename the column."
            )
            raise ValueError(msg)


def _numbers(frame: pd.DataFrame) -> NDArray[np.float64]:
    try:
        return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        kinds = {str(name): str(kind) for name, kind in frame.dtypes.items() if kind.kind not in "buif"}
        found = some([f"{name!r} ({kind})" for name, kind in kinds.items()], _SHOWN) or "values"
        msg = (
            f"Found columns of `loadings` that are no numbers: {found}; expected genes as the index, and numbers only."
        )
        raise TypeError(msg) from error


def _refuse_values(values: NDArray[np.float64], genes: Sequence[str], programmes: Sequence[str]) -> None:
    for wrong, what, mend in (
        (~np.isfinite(values), "NaN or infinite", "Fill them, with 0 where a programme does not have the gene"),
        (values < 0, "negative", "Scores with signs (principal components, z-scores) are no shares of counts"),
    ):
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            msg = (
                f"Found {int(wrong.sum())} {what} values in `loadings`, such as {values[row, column]:g} of {genes[row]!r} in "
                f"{programmes[column]!r}; expected finite numbers from 0. {mend}."
            )
            raise ValueError(msg)
    held = values > 0
    if not held.any(axis=0).all():
        empty = [name for name, column in zip(programmes, held.T, strict=True) if not column.any()]
        msg = f"Found programmes of zeros only in `loadings`: {some(empty, _SHOWN)}; expected some gene in each. Leave them out."
        raise ValueError(msg)
    if not held.any(axis=1).all():
        empty = [name for name, row in zip(genes, held, strict=True) if not row.any()]
        msg = (
            f"Found {len(empty)} genes that no programme of `loadings` has: {some(empty, _SHOWN)}; expected each in one at "
            "least, or its counts cannot be explained. Leave them out, and they are learned from the spots: "
            "`loadings[(loadings > 0).any(axis=1)]`."
        )
        raise ValueError(msg)
    if len(programmes) > len(genes):
        msg = (
            f"Found {len(programmes)} programmes of {len(genes)} genes in `loadings`; expected as many genes as programmes at "
            "least, as the counts could not separate these. Give more genes, or genes in rows (`loadings.T`)."
        )
        raise ValueError(msg)


def _refuse_alike(shares: NDArray[np.float64], programmes: Sequence[str]) -> None:
    """Refuse two programmes whose (G', K) shares of genes are the same: no counts could say which of them a spot holds."""
    same_share = 1e-6  # relative: what scaling and rounding to float32 leave
    for i, j in combinations(range(len(programmes)), 2):
        if np.allclose(shares[:, i], shares[:, j], rtol=same_share, atol=0):
            msg = (
                f"Found programmes {programmes[i]!r} and {programmes[j]!r} of the same shares of genes in `loadings`; expected any two "
                "to differ, as the counts could not separate these. Leave one of them out."
            )
            raise ValueError(msg)
