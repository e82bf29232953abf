"""A case: what a method may see (training spots and image), where it must predict, and what is true there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto.core.footprint import Footprint
from sphisto.slide.slide import Slide

Floats = NDArray[np.float64]
N_VARIABLE = 50  # genes on which networks of single genes are compared with the others

HELD_OUT = ("mouse_brain_coronal", "her2st_C2", "her2st_C4", "mob_st_1", "breast_visium_xenium")
SETS = {(name, kind): "held_out_spots.make" for name in HELD_OUT for kind in ("random", "blocks")}
SETS |= {("xenium_breast_he_if", kind): "finer_truth.he_if" for kind in ("finer", "cells", "protein")}
SETS |= {
    ("xenium_breast_dapi", "finer"): "finer_truth.dapi",
    ("breast_visium_xenium", "finer"): "finer_truth.neighbour",
}
SETS |= {(name, "finer"): "finer_truth.toy" for name in ("toy", "toy_sparse")}
"""Sets and kinds of truth, and the module and function here that make their cases."""


@dataclass(frozen=True, eq=False)
class Case:
    """One data set, one kind of truth, one seed.

    ``kind`` is ``"random"`` or ``"blocks"`` (held-out spots), else a truth finer than spots. ``adata`` and ``slide`` hold
    the training spots with the image, as a table and as arrays; ``options`` is what ``sp.io.section`` must be told beside
    them, and ``um_per_px`` where the section is worked at another resolution. ``regions`` (spots, bins or cells on the
    slide's grid) is where to predict. Their (m,) ``area`` is in spot areas, times the share of their molecules over that
    of the spots': a density in counts per spot area times this are the counts to be found there. ``tissue`` (m,) is the
    share of each that is tissue; ones where a density already is that of whole spots. ``truth`` (m, S) are true counts of
    the ``scored`` (S,) columns of the table, ``ceiling`` (S,) the correlation that counting noise allows. ``same_units``:
    whether the truth counts what the spots count; otherwise each gene's sum is adjusted before deviances. Places and
    lengths are in px of the slide's grid, y before x.
    """

    set: str
    kind: str
    seed: int
    adata: Any
    slide: Slide
    regions: Footprint
    area: Floats
    tissue: Floats
    truth: Floats
    scored: NDArray[np.int64]
    ceiling: Floats
    same_units: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held_out(self) -> bool:
        return self.kind in ("random", "blocks")

    @property
    def centers(self) -> Floats:
        return self.slide.spots.centers

    @property
    def radius(self) -> float:
        return self.slide.spot.um / self.slide.grid.um_per_px / 2

    @property
    def counts(self) -> Floats:
        return np.asarray(self.slide.spots.values.toarray(), dtype=np.float64)

    @property
    def genes(self) -> NDArray[np.str_]:
        return np.asarray(self.slide.spots.genes)[self.scored]

    @property
    def image(self) -> NDArray[np.uint8]:
        return np.asarray(self.slide.image)

    def variable(self) -> NDArray[np.int64]:
        """The 50 most variable of the scored genes, by variance over mean in the training spots, as columns of the truth."""
        counts = self.counts[:, self.scored]
        order = np.argsort(-counts.var(axis=0) / np.maximum(counts.mean(axis=0), 1e-9), kind="stable")
        return order[:N_VARIABLE]

    def pooled(self, raster: NDArray[Any], stride: int = 1) -> tuple[Floats, Floats]:
        """Average a (c, y, x) raster of blocks of ``stride`` px over the training spots and over the regions."""
        spots = self.slide.footprint().drawn()
        return pooled(spots, raster, stride), pooled(self.regions, raster, stride)

    def in_counts(self, density: Floats) -> Floats:
        """Turn (m, S) counts per spot area of tissue into counts of the regions."""
        return np.maximum(density, 0) * (self.area * self.tissue)[:, None]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method predicts.

    ``counts`` (m, S) are expected counts in the regions, NaN in the columns of genes that the method does not model.
    Some methods also give ``logs`` (m, S), log-normalised values; ``inside`` (m, S), whether the true counts lie in the
    90 % predictive interval; ``skill`` (S,), the correlation that they themselves expect. ``note`` says what was chosen.
    """

    counts: Floats
    logs: Floats | None = None
    inside: NDArray[np.bool_] | None = None
    skill: Floats | None = None
    note: str = ""


def pooled(regions: Footprint, raster: NDArray[Any], stride: float = 1) -> Floats:
    """(m, c) averages over regions of a raster of blocks of ``stride`` px, one plane after the other; 0 off the raster."""
    y = np.minimum(((regions.y + 0.5) / stride).astype(np.int64), raster.shape[1] - 1)
    x = np.minimum(((regions.x + 0.5) / stride).astype(np.int64), raster.shape[2] - 1)
    sums = [regions.pool_points(plane[y, x][None]) for plane in raster]
    return np.concatenate(sums, axis=1) / np.maximum(regions.covered, 1e-9)[:, None]


def make_case(name: str, kind: str, seed: int, data: Path | None) -> Case:
    """Make a case from the folder of data sets; toy sections need none."""
    module, function = SETS[name, kind].split(".")
    make = getattr(import_module(f"benchmarks.fidelity.{module}"), function)
    return make(None if name.startswith("toy") else data / name, name, kind, seed)
