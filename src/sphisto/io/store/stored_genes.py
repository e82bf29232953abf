"""Genes as they are read: made of factor maps by window and level, NaN outside tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sphisto import _keys
from sphisto._cores import one_blas_thread
from sphisto.core.tiles import Window
from sphisto.genes.model import GeneModel
from sphisto.io.store import read as stores
from sphisto.io.store.stored_raster import StoredRaster


@dataclass(frozen=True, eq=False)
class StoredGenes:
    """Rasters of genes of a projection; made by :func:`stored_genes`."""

    maps: StoredRaster  # factor maps of the projection
    model: GeneModel  # what makes the genes of them

    def of(self, gene: str) -> StoredGenes:
        """Return one of the genes."""
        return replace(self, model=self.model.of([gene]))

    def read(self, scale: int, window: Window) -> NDArray[np.float32]:
        """Read (genes, height, width) counts per spot area in a window (level px, inside the raster)."""
        used = (self.model.loadings != 0).any(axis=0)  # a map without loadings need not be read
        used[0] |= not used.any()
        channels, model = slice(None) if used.all() else np.flatnonzero(used), self.model.by(used)
        values = np.empty((len(model.genes), *window.shape), dtype=np.float32)
        with one_blas_thread():
            for part, expression in self.maps.chunks(scale, window, channels, model.expression):
                values[:, *part.within(window)] = expression
        return values


def stored_genes(store: stores.Store, key: str, genes: Sequence[str]) -> StoredGenes:
    """Open genes of a projection, without reading pixels."""
    return StoredGenes(stores.raster(store, _keys.factors(key)), stores.factors(store, key).of(list(genes)))
