"""Score a projection on spots that it never saw, beside simpler methods."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto._progress import stage
from sphisto._rng import RNG
from sphisto._settings import logger
from sphisto.genes.model import require_genes
from sphisto.io.slides import make_slide, um_per_px_for
from sphisto.io.store.tables import require_free_key
from sphisto.io.understood import Section
from sphisto.networks.registry import Network
from sphisto.predict.tiles import device_of
from sphisto.scoring.baselines import gaussian, nearest
from sphisto.scoring.held_out import SPLITS, check_split, hold_out, mean_counts, often_seen, some_of, without
from sphisto.scoring.scores import average, methods_table, score
from sphisto.tl._evaluate_sections import SECTION, evaluate_sections
from sphisto.tl._evaluated import Evaluated, counted, params_of
from sphisto.tl._fit_sections import as_given, copied, describe, for_several, sections_of
from sphisto.tl._genes import names_of
from sphisto.tl._loadings import with_loadings
from sphisto.tl._recipe import recipe_of
from sphisto.train.at_spots import predict_at_spots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

    from sphisto.config import FitConfig, PresetName
    from sphisto.features.shared import Scaling
    from sphisto.features.source import FeatureSource


def evaluate(
    data: Section | AnnData | SpatialData | str | Path | Sequence[Section | AnnData | SpatialData | str | Path],
    *,
    share: float = 0.2,
    split: str = "random",
    genes: str | Sequence[str] | None = None,
    image: Any = None,
    library_id: str | Sequence[str] | None = None,
    library_key: str | None = None,
    network: str = "unet",
    um_per_px: float | None = None,
    config: FitConfig | PresetName = "default",
    max_epochs: int | None = None,
    features: str | FeatureSource | Sequence[FeatureSource] = "texture",
    scaling: Scaling = "section",
    loadings: pd.DataFrame | None = None,
    device: str | None = None,
    rng: RNG = 0,
    key_added: str = "evaluation",
    copy: bool = False,
) -> pd.DataFrame | AnnData | list[AnnData]:
    """Hold spots out, fit the others, and score how well the held-out ones are predicted, beside simpler methods.

    The spots are held out before anything is fitted: factors, prior and network see only the others. No store is
    written. It takes about as long as :func:`sphisto.tl.fit_projection`.

    Parameters
    ----------
    data
        As in :func:`sphisto.tl.fit_projection`.
    share
        Share of the spots with counts to hold out, between 0 and 1. Raise it for a section of few spots, whose scores
        scatter.
    split
        ``"random"``: single spots, whose neighbours are mostly known, as at the pixels between spots. ``"blocks"``:
        pieces of some 5 x 5 spots, where neighbours inform little and the image has to. Of several sections also
        ``"section"``: each is left out as a whole and predicted from its image and the others, as a slide without spots
        is; that takes a fit for each.
    genes
        Genes to score; default: all. A network that models single genes (``"prototype"``) needs them named.
    image, library_id, library_key, network, um_per_px, config, max_epochs, features, scaling, loadings, device
        As in :func:`sphisto.tl.fit_projection`. Several sections are fitted together; each has rows of scores of its own, and
        writes under ``{key_added}_{library_id}``.
    rng
        Seed of the split, the fit and the noise ceiling.
    key_added
        Name of the evaluation.
    copy
        Leave ``data`` as it is and return a changed copy of its table instead of the scores.

    Returns
    -------
    DataFrame, a row for each method: ``sphisto``; ``prior`` (what the projection starts from: co-kriging of the
    factors, without the network); ``gaussian`` (average of the spots around, its width chosen on the training spots);
    ``nearest`` (the nearest spot at each pixel); at left-out sections, instead of these two, ``mean`` (the mean of the
    others' spots). Of several sections the rows are named by section and method. Columns: ``mean_pearson`` and ``median_pearson`` over genes;
    ``share_of_ceiling``, mean Pearson over mean noise ceiling, of the genes that have one; ``deviance_explained`` of
    all scored genes together; ``better_than_gaussian``, the share of the genes; ``coverage``, the share of held-out
    counts inside their 90 % predictive interval, which is 0.9 if the standard deviations are right (NaN for methods
    without any); ``seconds``.
    With ``copy=True`` the changed AnnData (a list of them if several were given), which holds that table in ``uns[key_added]["table"]``.

    Writes
    ------
    `adata.uns[key_added]` : dict
        ``table`` (the DataFrame), ``params``, ``split`` (kind, share, numbers of spots), ``ceiling`` (mean over
        genes).
    `adata.var[f"{key_added}_pearson"]` : float32
        Pearson correlation over the held-out spots, of log-normalised expression; predicted rates count by their
        expected log-normalised value. Of values that are no counts: as they are. NaN for genes that were not scored:
        seen in at most 3 % of the training spots, the same at all held-out spots, or not asked for.
    `adata.var[f"{key_added}_deviance_explained"]` : float32
        1 - Poisson deviance over that of the training spots' mean; below 0 where the mean is better. NaN without counts.
    `adata.var[f"{key_added}_ceiling"]` : float32
        Correlation that a perfect predictor would reach with such noisy counts. NaN where noise hides all, and without
        counts.
    `adata.var[f"{key_added}_coverage"]` : float32
        Share of the gene's held-out counts inside their 90 % predictive interval, by ``sphisto``. The interval is that
        of a negative binomial, whose rate has the variance that ``{key}_sd`` shows; counts on its ends belong to it
        with the chance that makes it hold 90 %. NaN without counts.
    `adata.varm[f"{key_added}_by_method"]` : DataFrame of float32 (genes, methods)
        Pearson correlation by every method.
    `adata.obs[f"{key_added}_held_out"]` : bool
        The held-out spots; of more than 2,000, so many were drawn to be scored. False in rows that are not the section's.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the input cannot be right or leaves too few spots; the message says what was found and what was expected.

    References
    ----------
    Noise ceiling by thinning counts into halves: Spearman (1910) and Brown (1910), Br. J. Psychol. Intervals of counts:
    Czado, Gneiting and Held (2009), Biometrics.

    Examples
    --------
    >>> import sphisto as sp
    >>> adata = sp.datasets.toy(96, 96, pitch_um=24, spot_um=13)
    >>> scores = sp.tl.evaluate(adata, max_epochs=2)  # doctest: +SKIP
    >>> scores.loc["sphisto", "share_of_ceiling"]  # doctest: +SKIP
    """
    check_split(split, share, known=(*SPLITS, SECTION))
    recipe = recipe_of(network=network, config=config, max_epochs=max_epochs, features=features, rng=rng, device=device)
    where = device_of(device)
    with stage("read"):
        sections, several = sections_of(data, image=image, library_id=library_id, library_key=library_key)
    describe(sections)
    recipe = with_loadings(recipe, loadings, sections)
    if several:
        if len(sections) < 2:
            msg = "Found a list of one section; expected several, or the section itself."
            raise ValueError(msg)
        table, entries = evaluate_sections(
            sections, for_several(recipe, scaling, sections), share=share, split=split, names=names_of(genes), um_per_px=um_per_px,
            where=where, key_added=key_added,
        )  # fmt: skip
        if copy:
            own = copied([entry.section for entry in entries])
            entries = [replace(entry, section=section) for entry, section in zip(entries, own, strict=True)]
        for entry in entries:
            entry.write()
        changed = [entry.section.adata for entry in entries if entry.section.adata is not None]
        return as_given(data, changed) if copy else table  # type: ignore[return-value]
    check_split(split, share)
    (section,) = sections
    section.require_spots()
    require_free_key(section.table, key_added)
    names = _named(genes, recipe.spec, section)
    if um_per_px is None:
        um_per_px = um_per_px_for(section, recipe.config.train.longest_side)
    with stage("image and tissue"):
        slide = make_slide(section, um_per_px=um_per_px)
    generator = np.random.default_rng(recipe.seed)
    held_out = hold_out(slide, split, share, generator)
    rows = some_of(held_out, generator)
    train, spots = without(slide, held_out), slide.footprint().select(rows)
    found = predict_at_spots(train, spots, recipe, genes=names, device=where)
    modelled = found.modelled
    with stage("simpler methods"):
        smooth, width = gaussian(train, spots)
        predicted = {**found.predicted, "gaussian": smooth.of(modelled), "nearest": nearest(train, spots).of(modelled)}
    scored = often_seen([train], names) & modelled
    with stage("scores"):
        scores = score(
            predicted, slide.spots.values[rows][:, modelled], mean_counts([train], slide.spot)[modelled], scored[modelled],
            is_counts=slide.spots.is_counts, rng=generator, variances=found.variances(scored),
        )  # fmt: skip
    table = methods_table(scores, {name: method.seconds for name, method in predicted.items()})
    logger.info(
        "%d held-out spots; mean Pearson of %d genes: %s",
        len(rows), int(scored.sum()), ", ".join(f"{name} {r:.2f}" for name, r in table["mean_pearson"].items()),
    )  # fmt: skip
    params = {
        **recipe.params(),
        "gaussian_um": width * slide.grid.um_per_px,
        "n_genes": int(scored.sum()),
        **params_of(slide),
        "section": dict(section.about),
    }
    record = {
        "table": table,
        "params": params,
        "split": {"kind": split, "share": share} | counted(held_out, rows),
        "ceiling": average(scores.ceiling),
    }
    if copy:
        section = section.copy()
    genes_scored = [gene for gene, kept in zip(slide.spots.genes, scored, strict=True) if kept]
    Evaluated(section, scores, genes_scored, held_out, record, key_added).write()
    return section.adata if copy else table.copy()


def _named(genes: str | Sequence[str] | None, spec: Network, section: Section) -> tuple[str, ...]:
    """Names of the genes asked for, none for all."""
    names = names_of(genes)
    if not names and spec.one_map_per_gene:
        msg = "This network models single genes, found none named; expected their names in `genes`."
        raise ValueError(msg)
    require_genes(names, section.measured.genes if section.measured else (), section.table.var)
    return names
