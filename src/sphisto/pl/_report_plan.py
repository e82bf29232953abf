"""What a report will show of a store: which projections, which genes, and which level of the pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sphisto import _keys
from sphisto._settings import logger
from sphisto.core.tiles import Window
from sphisto.genes.model import require_genes
from sphisto.io.store import names as claims
from sphisto.io.store import read as stores
from sphisto.pl._sources import names_of, skill_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sphisto.core.grid import Grid
    from sphisto.io.store.read import Store
    from sphisto.io.store.stored_raster import StoredRaster

MOST_SIDE = 2048  # px: more than a screen shows at once
_DEFAULT_GENES, _BEST_GENES = 20, 12


@dataclass(frozen=True)
class Part:
    """A projection to be shown: its name in the store, its genes, and the level of the pyramid."""

    key: str
    genes: tuple[str, ...]
    level: int
    grid: Grid


@dataclass(frozen=True)
class Plan:
    """What a report will show of a store, before a pixel is read."""

    store: Store
    parts: tuple[Part, ...]
    max_side: int


def plan_of(
    store: Store, genes: str | Sequence[str] | None, *, key: str | None, library_id: str | None, max_side: int
) -> Plan:
    """Choose projections, genes and levels; refuse what is not there, and what would be too large a file."""
    if max_side < 1:
        msg = f"`max_side` must be at least 1, found {max_side}."
        raise ValueError(msg)
    keys = _projections(store, key, library_id)
    names = None if genes is None else list(dict.fromkeys(names_of(genes)))
    parts = tuple(_part(store, key, names, max_side) for key in keys)
    if names is not None:
        require_genes(names, sorted({gene for key in keys for gene in stores.factors(store, key).genes}))
    _refuse_large(store, parts, max_side)
    return Plan(store, parts, max_side)


def _projections(store: Store, key: str | None, library_id: str | None) -> list[str]:
    about = stores.mark(store)
    if key is None and not about["keys"]:
        msg = "The store holds no projection, so there is nothing to show. Run `sphisto.tl.fit_projection` to make one."
        raise ValueError(msg)
    found = {name for name, entry in about["keys"].items() if key in (None, name, entry.get("joint"))}
    chosen = [name for name in about["keys"] if name in found and library_id in (None, claims.library_of(about, name))]
    if not chosen:
        # says which there are
        stores.projection(store, key if key is not None else next(iter(about["keys"])), library_id)
    for name in {about["keys"][name].get("joint"): name for name in chosen}.values():
        stores.tell_of_two_fits(about, name)
    return chosen


def _part(store: Store, key: str, names: list[str] | None, max_side: int) -> Part:
    maps = stores.raster(store, _keys.factors(key))
    level = finest_level(maps, max_side)
    if level is None:
        side = max(maps.shapes[-1])
        msg = f"Found max_side={max_side}; the coarsest level of {key!r} has {side} px on its longer side. Expected no less."
        raise ValueError(msg)
    if level:
        _tell_level(key, maps, level, max_side)
    model = stores.factors(store, key)
    if names is None:
        chosen = _default_genes(store, key)
    else:
        modelled = {gene: bool(np.isfinite(row).all()) for gene, row in zip(model.genes, model.loadings, strict=True)}
        chosen = [gene for gene in names if gene in modelled]
        model.of([gene for gene in chosen if not modelled[gene]])  # says what is not modelled
    return Part(key, tuple(chosen), level, maps.grid_at(level))


def _tell_level(key: str, maps: StoredRaster, level: int, max_side: int) -> None:
    grid, finest = maps.grid_at(level), maps.grid_at(0)
    logger.info(
        "The report shows %r at level %d of its pyramid, %d x %d px of %.3g um; the finest has %d x %d px of %.3g um, more "
        "than `max_side` (%d) on a side.",
        key, level, grid.height, grid.width, grid.um_per_px, finest.height, finest.width, finest.um_per_px, max_side,
    )  # fmt: skip


def finest_level(raster: StoredRaster, max_side: int) -> int | None:
    """Finest level with no more px on a side; ``None`` if there is none."""
    return next((level for level, shape in enumerate(raster.shapes) if max(shape) <= max_side), None)


def _default_genes(store: Store, key: str) -> list[str]:
    """Genes that are stored as rasters, the first of them; where there are none, those with the highest skill."""
    stored = list(stores.raster(store, key).channels) if key in stores.mark(store)["grids"] else []
    if len(stored) > _DEFAULT_GENES:
        logger.info(
            "The report shows the first %d of %d genes that are stored as rasters; name others by `genes`.",
            _DEFAULT_GENES, len(stored),
        )  # fmt: skip
    if stored:
        return stored[:_DEFAULT_GENES]
    model = stores.factors(store, key)
    known = [gene for gene, row in zip(model.genes, model.loadings, strict=True) if np.isfinite(row).all()]
    skill = np.nan_to_num(skill_of(store, known, key), nan=-1)
    return [known[i] for i in np.argsort(-skill, kind="stable")[:_BEST_GENES]]


def _refuse_large(store: Store, parts: Sequence[Part], max_side: int) -> None:
    most_mb = 100  # browsers open more slowly, and mail and wikis do not take it
    bytes_per_px = 0.15  # of a file for each gene and px on tissue, as rasters of fits take; noise takes up to 1.25
    n_bytes = sum(len(part.genes) * _px_on_tissue(store, part) * bytes_per_px for part in parts)
    if n_bytes > most_mb * 1e6:
        n = max(len(part.genes) for part in parts)
        height, width = max((part.grid.shape for part in parts), key=max)
        least = max(1, int(n * most_mb * 1e6 / n_bytes))
        msg = (
            f"{n:,} genes at {height} x {width} px would make a file of some {n_bytes / 1e6:,.0f} MB; expected at most "
            f"{most_mb} MB, which browsers open well. Name fewer `genes` (some {least:,}), or lower `max_side` ({max_side})"
            f"{' or choose a `key`' if len(parts) > 1 else ''}."
        )
        raise ValueError(msg)


def _px_on_tissue(store: Store, part: Part) -> int:
    """Px of the level on tissue, of which a page consists; all of them in stores that do not tell."""
    name = _keys.tissue(part.key)
    if name not in stores.mark(store)["grids"]:
        return part.grid.height * part.grid.width
    mask = stores.raster(store, name)
    level = min(part.level, len(mask.shapes) - 1)
    return int(np.count_nonzero(mask.read(level, Window(0, 0, *mask.shapes[level]))))
