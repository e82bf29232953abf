"""Score what several sections teach each other: at held-out spots of each, or at whole sections that are left out."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sphisto import _keys
from sphisto._naming import naming
from sphisto._settings import logger
from sphisto.genes.model import require_genes
from sphisto.io.store.names import check_name
from sphisto.io.store.tables import require_free_key
from sphisto.predict.conditioning import posterior_for
from sphisto.scoring.at_spots import Prediction
from sphisto.scoring.baselines import gaussian, nearest
from sphisto.scoring.held_out import hold_out, mean_counts, often_seen, some_of, without
from sphisto.scoring.scores import OWN, PRIOR, average, methods_table, score
from sphisto.tl._evaluated import Evaluated, counted, params_of
from sphisto.tl._fit_sections import comparable_slides
from sphisto.train.at_spots import AtSpots, at_spots
from sphisto.train.fit import fit_sections

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from sphisto.io.understood import Section
    from sphisto.slide.slide import Slide
    from sphisto.train.recipe import Recipe

SECTION = "section"
"""The split that leaves out whole sections."""


def evaluate_sections(
    sections: list[Section],
    recipe: Recipe,
    *,
    share: float,
    split: str,
    names: tuple[str, ...],
    um_per_px: float | None,
    where: torch.device,
    key_added: str,
) -> tuple[pd.DataFrame, list[Evaluated]]:
    """Score several sections; parameters as of :func:`sphisto.tl.evaluate`.

    Returns
    -------
    Scores, a row for each section and method; and for each section what is written into its table.
    """
    import pandas as pd

    check_name(key_added, "key_added")
    for section in sections:
        with naming(section.library_id):
            require_free_key(section.table, _keys.of_section(key_added, section.library_id))
    slides = comparable_slides(sections, um_per_px, recipe.config.train.longest_side)
    require_genes(names, slides[0].spots.genes, sections[0].table.var)
    held_out, rows = _held_out(slides, split, share, recipe.seed)
    predicted = (
        _left_out(slides, rows, recipe, where)
        if split == SECTION
        else _at_held_out(slides, held_out, rows, recipe, where)
    )
    tables, entries = {}, []
    for i, (section, slide) in enumerate(zip(sections, slides, strict=True)):
        train = [other for other in slides if other is not slide] if split == SECTION else [without(slide, held_out[i])]
        scored, (methods, projection) = often_seen(train, names), predicted[i]
        found = score(
            methods, slide.spots.values[rows[i]], mean_counts(train, slide.spot), scored, is_counts=True,
            rng=np.random.default_rng(recipe.seed), variances=projection.variances(scored),
        )  # fmt: skip
        table = methods_table(found, {name: each.seconds for name, each in methods.items()})
        tables[slide.name] = table
        logger.info(
            "%s, %d held-out spots; mean Pearson of %d genes: %s", slide.name, len(rows[i]), int(scored.sum()),
            ", ".join(f"{name} {r:.2f}" for name, r in table["mean_pearson"].items()),
        )  # fmt: skip
        params = {
            **recipe.params(), "n_genes": int(scored.sum()), **params_of(slide),
            "sections": [other.name for other in slides], "section": dict(section.about),
        }  # fmt: skip
        kind = {"kind": split, "share": 1.0 if split == SECTION else share}
        record = {
            "table": table,
            "params": params,
            "split": kind | counted(held_out[i], rows[i]),
            "ceiling": average(found.ceiling),
        }
        genes = [gene for gene, kept in zip(slide.spots.genes, scored, strict=True) if kept]
        entries.append(Evaluated(section, found, genes, held_out[i], record, _keys.of_section(key_added, slide.name)))
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
    slides: Sequence[Slide], rows: Sequence[NDArray[np.int64]], recipe: Recipe, where: torch.device
) -> list[tuple[dict[str, Prediction], AtSpots]]:
    """Predict each section without spots of its own, from a fit to the others."""
    out = []
    for slide, some in zip(slides, rows, strict=True):
        started, others = time.perf_counter(), [other for other in slides if other is not slide]
        if _lies_upon_one_of(others, slide):  # which need not lie upon each other
            drift = replace(recipe.config.drift, keep_spots=True)
            recipe = replace(recipe, config=replace(recipe.config, drift=drift))
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "evaluation.ckpt"
            fitted, _ = fit_sections(others, recipe, genes=(), device=where, checkpoint=checkpoint)
        blank = replace(slide, measured=None)
        with naming(slide.name):
            own, posterior = posterior_for(fitted, blank, recipe.sources, recipe.scaling)
        took = time.perf_counter() - started
        before = max(took - float(fitted.history["seconds"].sum()), 0.0)
        spots = slide.footprint().select(some)
        found = at_spots(own, posterior, blank, spots, device=where, seconds={OWN: took, PRIOR: before})
        profile = np.tile(mean_counts(others, slide.spot).astype(np.float32), (len(some), 1))
        out.append(({**found.predicted, "mean": Prediction(profile, 0.0)}, found))
    return out


def _lies_upon_one_of(others: Sequence[Slide], slide: Slide) -> bool:
    groups = {other.frame.group for other in others if other.frame is not None}
    return slide.frame is not None and slide.frame.group in groups


def _at_held_out(
    slides: Sequence[Slide],
    held_out: Sequence[NDArray[np.bool_]],
    rows: Sequence[NDArray[np.int64]],
    recipe: Recipe,
    where: torch.device,
) -> list[tuple[dict[str, Prediction], AtSpots]]:
    """Predict held-out spots of each section from its other spots and the other sections."""
    started, train = time.perf_counter(), [without(slide, out) for slide, out in zip(slides, held_out, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "evaluation.ckpt"
        fitted, posteriors = fit_sections(train, recipe, genes=(), device=where, checkpoint=checkpoint)
    took = (time.perf_counter() - started) / len(slides)
    before = max(took - float(fitted.history["seconds"].sum()) / len(slides), 0.0)
    out = []
    for slide, known, some, posterior in zip(slides, train, rows, posteriors, strict=True):
        spots, own = slide.footprint().select(some), fitted.of_section(slide.name)
        found = at_spots(own, posterior, known, spots, device=where, seconds={OWN: took, PRIOR: before})
        simple = {"gaussian": gaussian(known, spots)[0], "nearest": nearest(known, spots)}
        out.append(({**found.predicted, **simple}, found))
    return out
