"""Genes whose rasters are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def names_of(genes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of the genes asked for, none where that is left open."""
    if genes is None:
        return ()
    # numpy's strings are strings that a model's file could not hold
    names = (str(genes),) if isinstance(genes, str) else tuple(dict.fromkeys(map(str, genes)))
    if not names:
        msg = "Found an empty list of genes; expected at least one, or None."
        raise ValueError(msg)
    return names


def default_genes(markers: tuple[str, ...], values: sparse.csr_array, genes: tuple[str, ...]) -> tuple[str, ...]:
    """Markers, else genes whose counts vary most for their mean."""
    # markers written as rasters unless more are asked for; any other gene is had from the factors
    most_markers = 64
    most_variable = 16
    if markers:
        return markers[:most_markers]
    mean = np.asarray(values.mean(axis=0)).ravel()
    square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    spread = (square - mean**2) / np.maximum(mean, 1e-9)
    return tuple(genes[i] for i in np.argsort(-spread)[:most_variable])
