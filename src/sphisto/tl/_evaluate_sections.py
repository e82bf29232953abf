"""Score what several sections teach each other: at held-out spots of each, or at whole sections that are left out."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import __version__, _keys
from sphisto._naming import naming
from sphisto.features.sources import record_of
from sphisto.genes.model import require_genes
from sphisto.io.store.tables import require_free_key
from sphisto.predict.conditioning import posterior_for
from sphisto.scoring.at_spots import Prediction
from sphisto.scoring.baselines import gaussian, nearest
from sphisto.scoring.held_out import hold_out, some_of, without
from sphisto.scoring.scores import OWN, PRIOR, average, methods_table, score
from sphisto.tl._fit_sections import check_scaling, comparable_slides, require_factors
from sphisto.train.at_spots import at_spots
from sphisto.train.fit import fit_sections

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from sphisto.config import FitConfig
    from sphisto.features.shared import Scaling
    from sphisto.features.source import FeatureSource
    from sphisto.genes.loadings import Loadings
    from sphisto.io.sections import Section
    from sphisto.networks.registry import Network
    from sphisto.scoring.scores import Scores
    from sphisto.slide.slide import Slide

logger = logging.getLogger("sphisto")

SECTION = "section"
"""The split that leaves out whole sections."""


@dataclass(frozen=True, eq=False)
class Entry:
    """What is written into the table of one section.

    Parameters
    ----------
    section
        Of which.
    scores, genes
        Scores of genes, and their names.
    held_out
        (n,) bool spots that were held out.
    record, key
        Entry of ``uns``, and its name.
    """

    section: Section
    scores: Scores
    genes: list[str]
    held_out: NDArray[np.bool_]
    record: dict[str, Any]
    key: str


def evaluate_sections(
    sections: list[Section],
    *,
    share: float,
    split: str,
    names: tuple[str, ...],
    network: str,
    spec: Network,
    um_per_px: float | None,
    settings: FitConfig,
    sources: Sequence[FeatureSource],
    scaling: Scaling,
    loadings: Loadings | None,
    where: torch.device,
    seed: int,
    key_added: str,
) -> tuple[pd.DataFrame, list[Entry]]:
    """Score several sections; parameters as of :func:`sphisto.tl.evaluate`.

    Returns
    -------
    Scores, a row for each section and method; and for each section what is written into its table.
    """
    import pandas as pd

    require_factors(network, spec)
    check_scaling(scaling)
    for section in sections:
        with naming(section.library_id):
            require_free_key(section.table, _keys.of_section(key_added, section.library_id))
    slides = comparable_slides(sections, um_per_px, settings.train.longest_side)
    require_genes(names, slides[0].spots.genes)
    options: dict[str, Any] = {
        "network": network, "genes": (), "config": settings, "sources": sources, "scaling": scaling, "seed": seed,
        "device": where, "loadings": loadings,
    }  # fmt: skip
    held_out, rows = _held_out(slides, split, share, seed)
    predicted = _left_out(slides, rows, options) if split == SECTION else _at_held_out(slides, held_out, rows, options)
    tables, entries = {}, []
    for i, (section, slide) in enumerate(zip(sections, slides, strict=True)):
        train = [other for other in slides if other is not slide] if split == SECTION else [without(slide, held_out[i])]
        truth = slide.spots.values[rows[i]].toarray().astype(np.float64)
        constant, scored = _mean(train), _scored(train, names)
        found = score(predicted[i], truth, constant, scored, is_counts=True, rng=np.random.default_rng(seed))
        table = methods_table(found, {name: each.seconds for name, each in predicted[i].items()})
        tables[slide.name] = table
        logger.info(
            "%s, %d held-out spots; mean Pearson of %d genes: %s", slide.name, len(rows[i]), int(scored.sum()),
            ", ".join(f"{name} {r:.2f}" for name, r in table["mean_pearson"].items()),
        )  # fmt: skip
        params = {
            "network": network, "rng": seed, "max_epochs": settings.train.epochs, "config": settings.to_json(),
            "features": record_of(sources), "scaling": scaling, "n_genes": int(scored.sum()), "library_id": slide.name,
            "um_per_px": slide.grid.um_per_px, "spot_um": slide.spot.um, "spot_shape": slide.spot.shape,
            "is_counts": True, "version": __version__, "sections": [other.name for other in slides],
            "section": dict(section.about),
            **({} if loadings is None else {"loadings": loadings.record(settings.genes)}),
        }  # fmt: skip
        counted = {"held_out": int(held_out[i].sum()), "scored": len(rows[i]), "left": int((~held_out[i]).sum())}
        kind = {"kind": split, "share": 1.0 if split == SECTION else share}
        record = {"table": table, "params": params, "split": kind | counted, "ceiling": average(found.ceiling)}
        genes = [gene for gene, kept in zip(slide.spots.genes, scored, strict=True) if kept]
        entries.append(Entry(section, found, genes, held_out[i], record, _keys.of_section(key_added, slide.name)))
    return pd.concat(tables, names=["section"]), entries


def _held_out(
    slides: Sequence[Slide], split: str, share: float, seed: int
) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.int64]]]:
    held_out, rows = [], []
    for number, slide in enumerate(slides):
        generator = np.random.default_rng([seed, number])
        every = np.ones(len(slide.spots.centers), dtype=bool)
        held_out.append(every if split == SECTION else hold_out(slide, split, share, generator))
        rows.append(some_of(held_out[-1], generator))
    return held_out, rows


def _left_out(
    slides: Sequence[Slide], rows: Sequence[NDArray[np.int64]], options: dict[str, Any]
) -> list[dict[str, Prediction]]:
    """Predict each section without spots of its own, from a fit to the others."""
    out = []
    for slide, some in zip(slides, rows, strict=True):
        started, others = time.perf_counter(), [other for other in slides if other is not slide]
        with tempfile.TemporaryDirectory() as folder:
            fitted, _ = fit_sections(others, checkpoint=Path(folder) / "evaluation.ckpt", **options)
        blank = replace(slide, measured=None)
        with naming(slide.name):
            own, posterior = posterior_for(fitted, blank, options["sources"], options["scaling"])
        took = time.perf_counter() - started
        before = max(took - float(fitted.history["seconds"].sum()), 0.0)
        spots = slide.footprint().select(some)
        found, _ = at_spots(own, posterior, blank, spots, device=options["device"], seconds={OWN: took, PRIOR: before})
        profile = _mean(others)
        out.append({**found, "mean": Prediction(np.tile(profile, (len(some), 1)), 0.0)})
    return out


def _at_held_out(
    slides: Sequence[Slide],
    held_out: Sequence[NDArray[np.bool_]],
    rows: Sequence[NDArray[np.int64]],
    options: dict[str, Any],
) -> list[dict[str, Prediction]]:
    """Predict held-out spots of each section from its other spots and the other sections."""
    started, train = time.perf_counter(), [without(slide, out) for slide, out in zip(slides, held_out, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        fitted, posteriors = fit_sections(train, checkpoint=Path(folder) / "evaluation.ckpt", **options)
    took = (time.perf_counter() - started) / len(slides)
    before = max(took - float(fitted.history["seconds"].sum()) / len(slides), 0.0)
    out = []
    for slide, known, some, posterior in zip(slides, train, rows, posteriors, strict=True):
        spots, own = slide.footprint().select(some), fitted.of_section(slide.name)
        found, _ = at_spots(own, posterior, known, spots, device=options["device"], seconds={OWN: took, PRIOR: before})
        out.append({**found, "gaussian": gaussian(known, spots)[0], "nearest": nearest(known, spots)})
    return out


def _mean(train: Sequence[Slide]) -> NDArray[np.float64]:
    """(G,) mean counts over the spots of some sections."""
    sums = np.sum([np.asarray(slide.spots.values.sum(axis=0)).ravel() for slide in train], axis=0, dtype=np.float64)
    return np.asarray(sums / sum(len(slide.spots.centers) for slide in train))


def _scored(train: Sequence[Slide], names: tuple[str, ...], *, least: float = 0.03) -> NDArray[np.bool_]:
    """(G,) genes that are asked for and seen in more than that share of the training spots."""
    seen = np.sum([np.asarray((slide.spots.values > 0).sum(axis=0)).ravel() for slide in train], axis=0)
    asked = np.isin(train[0].spots.genes, names) if names else True
    return np.asarray((seen > least * sum(len(slide.spots.centers) for slide in train)) & asked)
