"""Fit a projection and write its rasters."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sphisto import _keys
from sphisto._former import former_keywords, named
from sphisto._progress import stage
from sphisto._rng import RNG
from sphisto._terminal import print_line
from sphisto.genes.model import require_genes
from sphisto.io.paths import beside, store_path
from sphisto.io.slides import make_slide, um_per_px_for
from sphisto.io.store import write as building
from sphisto.io.store.space import check_space
from sphisto.io.store.tables import require_free_key
from sphisto.io.store.transaction import replacing
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.fitted import load_fitted, save_fitted
from sphisto.predict.tiles import device_of
from sphisto.slide.fingerprint import fingerprint, fingerprint_of_slide
from sphisto.tl._cluster import check_client
from sphisto.tl._fit_sections import as_given, chosen_genes, describe, fit_several, for_several, sections_of
from sphisto.tl._genes import names_of
from sphisto.tl._loadings import with_loadings
from sphisto.tl._project import annotate, record_of, stream
from sphisto.tl._recipe import recipe_of
from sphisto.tl._write import PREPARED, Output
from sphisto.train.fit import fit
from sphisto.train.settings import from_devices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from distributed import Client
    from spatialdata import SpatialData

    from sphisto.config import FitConfig, PresetName
    from sphisto.features.shared import Scaling
    from sphisto.features.source import FeatureSource
    from sphisto.io.understood import Section


@former_keywords(preset=named("config"), devices=from_devices)
def fit_projection(
    data: Section | AnnData | SpatialData | str | Path | Sequence[Section | AnnData | SpatialData | str | Path],
    *,
    store: str | Path | None = None,
    image: Any = None,
    library_id: str | Sequence[str] | None = None,
    library_key: str | None = None,
    genes: str | Sequence[str] | None = None,
    network: str = "unet",
    um_per_px: float | None = None,
    config: FitConfig | PresetName = "default",
    max_epochs: int | None = None,
    features: str | FeatureSource | Sequence[FeatureSource] = "texture",
    scaling: Scaling = "section",
    loadings: pd.DataFrame | None = None,
    device: str | None = None,
    client: Client | None = None,
    rng: RNG = 0,
    key_added: str = "projection",
    resume: bool = False,
    copy: bool = False,
) -> AnnData | list[AnnData] | None:
    """Learn gene expression at every pixel of a section from its spots and its image, and write it as rasters.

    A convolutional network first learns to redraw the tissue image; then, as an extension of its last layer, it
    assigns non-negative factor maps to every pixel such that their sums over each spot's footprint explain the spot's
    counts (Poisson likelihood). Factor maps times loadings give any gene of the table; where counts are deep enough,
    contrasts (maps with signs) correct them.

    Several sections teach each other: they share loadings, each has its own depth and level of every gene, and what the
    others show of places that look alike is what a section's own spots correct, unless its left-out spots show that it is
    better off without. One network is trained on all; whether it helps is decided for each.

    Parameters
    ----------
    data
        The section: AnnData in the Visium layout (``obsm["spatial"]``, ``uns["spatial"]``), SpatialData with an image,
        circles or squares, and a table that annotates them, or the folder of a Space Ranger run. What was understood of it
        is logged and kept in ``params["section"]``. Where something must be stated that the data do not contain (size of
        spots, layer, mask of the tissue, scale), give a :class:`sphisto.io.Section`, which :func:`sphisto.io.section` makes.
        A list of these is fitted together: counts of genes that all have, names that differ, images of about one scale. A
        list of one teaches others, too: slides without spots are predicted by what it shows of places that look alike.
    store
        Folder of the SpatialData zarr store to write; default ``{library_id}.zarr`` in the working folder. An existing
        store of sphisto keeps its other projections and libraries; anything else at that path is refused.
    image
        Image to use instead of the one in ``data``, as in :func:`sphisto.io.section`. Give the full-resolution image
        for rasters finer than the hires one (which is 2,000 px long, some 4 um per px).
    library_id
        Which section to take, where ``data`` holds several; a list of them is fitted together.
    library_key
        Column of ``adata.obs`` that names the section of each spot: all of them are fitted together.
    genes
        Genes to write as rasters of their own; default: the markers of :func:`sphisto.pp.explore`, else the 16 most
        variable genes. All other genes are had from :func:`sphisto.get.gene_raster`.
    network
        ``"unet"``, or ``"prototype"``: the architecture and loss of the prototype, kept as a baseline; it models only
        ``genes``.
    um_per_px
        Resolution of the rasters in um per px; default: the image's own. Raise it to save time and disk: both grow
        with its inverse square.
    config
        A :class:`sphisto.config.FitConfig` with the settings of gene model, co-kriging and training, or a preset's name:
        ``"default"``, or ``"fast"`` for a first look (the image at most 1,000 px long, 32 factors, one epoch).
        ``um_per_px`` and ``max_epochs``, where given, count instead. Train on several devices by
        ``FitConfig(train=TrainConfig(devices=2))``.
    max_epochs
        Epochs at most; default 12, or 60 for ``"prototype"``, which learns slowly. Where held-out spots show after a
        third of them that the network gains nothing, the training ends there, with a redrawn image that is less like the
        image; ``FitConfig(train=TrainConfig(first_look=1))`` trains through.
    features
        Features of the image by which the co-kriging recognises places that are alike: ``"texture"``, or one or several
        sources such as :class:`sphisto.io.RasterFeatures` (an encoder's output) or your own, with ``name``, ``hash`` and
        ``of(slide)``. They enter where they help to predict left-out spots. :func:`sphisto.tl.predict` wants the same.
    scaling
        Of several sections, how features are standardised when these teach each other: ``"section"``, in each by itself,
        where they are of one tissue; ``"pooled"``, over all, where their make-up differs and their stain does not.
    loadings
        Gene programmes of your own, such as those of single cells, in place of factors that are found in the spots: genes
        (index, named as in ``var_names``) x programmes (columns), not negative, of any scale: each column is divided by its
        sum. They stay as they are, and what they leave over is corrected by contrasts; with
        ``GeneModelConfig(loadings_strength=10)`` they are a prior, which the spots correct. Loadings of genes they do not
        name are learned from the spots; those of the named ones then keep their proportions within each column. Factor maps
        are called as the columns are.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``; default: ``sphisto.settings.device``, which is ``"auto"`` at first.
    client
        Cluster whose workers compute and write tiles once the training has ended; default: here, one after another. The
        rasters are the same. Workers need sphisto and the folder of the store under the same path.
    rng
        Seed of everything random; the same seed gives the same rasters on the same CPU.
    key_added
        Name of the projection: letters, digits, ``_``, ``-``, ``.``. One of that name and library is replaced. Of several
        sections each has its own: ``{key_added}_{library_id}``, in the store and in its table.
    resume
        Go on where an interrupted run of the same call stopped, be it in training or in writing: the result is that of
        an unbroken run. Without it, what such a run left is cleared away.
    copy
        Return a changed copy instead of changing ``data``'s table.

    Returns
    -------
    ``None``, or the changed AnnData if ``copy=True``; a list of them if several were given.

    Writes
    ------
    `adata.uns[key_added]` : dict
        ``params`` (with ``section``: what was understood of the data, and from what; and ``loadings``, if some were given:
        names of the programmes, number of genes, hash, strength), ``store`` and ``model`` (paths),
        ``unit``, ``history`` (one entry per epoch), ``seconds`` per phase.
    `adata.varm[f"{key_added}_loadings"]` : float32 (genes, K)
        Loadings; each factor's sum to one, and the last columns, with signs, are those of contrasts, which correct
        the factors. NaN for genes the network does not model.
    `adata.var[f"{key_added}_pearson"]`, `adata.var[f"{key_added}_deviance_explained"]` : float32
        Skill of each gene at left-out spots: correlation of log-normalised expression, share of a constant map's
        Poisson deviance that is explained. NaN where it is unknown (genes not modelled, values that are no counts).
    `adata.var[f"{key_added}_dispersion"]` : float32
        Variance of a spot's rate that neither spots nor image predict, over the squared rate, of counts at least
        1 / (1 + the gene's counts); 0 where it is unknown.
    `adata.obsm[f"{key_added}_fitted"]` : float32 (spots, K)
        Mean of the factor maps over each spot; times the loadings' transpose: fitted counts per spot, which contrasts
        never take below a tenth of the expression by the other factors. NaN in rows that are not the section's: those of other
        libraries, and of spots beside the tissue.
    The store
        ``images/{library}_image``, ``labels/{library}_tissue``, ``shapes/{library}_spots``, ``tables/table``,
        ``images/{key}_factors``, ``images/{key}`` (the genes), ``images/{key}_sd`` (their standard deviations),
        ``images/{key}_reconstruction``, ``labels/{key}_tissue`` (where the projection holds values); rasters in counts
        per spot area (of bins: per bin area), 0 outside tissue, in ``global`` (full-resolution px).
    Beside the store
        ``{store}.{key}.pt``, the fitted model for :func:`sphisto.tl.load`; until the end also a checkpoint.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the input cannot be right; the message says what was found, what was expected and what to do.
    FileExistsError, PermissionError, OSError
        If the store cannot be written, or another process is writing it; an existing store stays as it was.

    References
    ----------
    Poisson factor model under spot footprints: Bergenstrahle et al. (2022), Nat. Biotechnol. (XFuse) use the negative
    binomial; SSIM: Wang et al. (2004), IEEE Trans. Image Process.

    Examples
    --------
    >>> import sphisto as sp
    >>> adata = sp.datasets.toy(96, 96, pitch_um=24, spot_um=13)
    >>> sp.tl.fit_projection(adata, store="toy.zarr", max_epochs=2)  # doctest: +SKIP
    """
    started = time.perf_counter()
    recipe = recipe_of(network=network, config=config, max_epochs=max_epochs, features=features, rng=rng, device=device)
    check_client(client)
    with stage("read"):
        sections, teach = sections_of(data, image=image, library_id=library_id, library_key=library_key)
    describe(sections)
    recipe = with_loadings(recipe, loadings, sections)
    if teach:
        output = Output(store_path(store if store is not None else "sections.zarr"), device, client, resume, started)
        changed = fit_several(
            sections, for_several(recipe, scaling, sections), output, genes=genes, um_per_px=um_per_px, key_added=key_added, copy=copy
        )  # fmt: skip
        return as_given(data, changed)
    (section,) = sections
    section.require_spots()
    require_free_key(section.table, key_added)
    named = names_of(genes)
    require_genes(
        named, section.measured.genes if section.measured else (), section.table.var
    )  # before the image is read
    path = store_path(store if store is not None else f"{section.library_id}.zarr")
    building.check_target(path, section.library_id, key_added)
    if um_per_px is None:
        um_per_px = um_per_px_for(section, recipe.config.train.longest_side)
    with stage("image and tissue"):
        slide = make_slide(section, um_per_px=um_per_px)
    if copy:
        section = section.copy()
    chosen = named or chosen_genes(None, [section], [slide])
    n_maps = len(chosen) if recipe.spec.one_map_per_gene else recipe.most_maps
    checkpoint, model = beside(path, key_added, "ckpt"), beside(path, key_added, "pt")
    call = {
        **recipe.call(), "format": _keys.FORMAT, "key": key_added, "genes": fingerprint(chosen), "slide": fingerprint_of_slide(slide),
    }  # fmt: skip
    with replacing(path, call=call, resume=resume) as work:
        check_space(work.staging, slide, n_maps + 2 * len(chosen) + 3)
        resumed = PREPARED in work.journal
        if not resumed:
            with stage("write image"):
                building.write_slide(work.staging, slide, key_added)
                # early: a table that cannot be written is found before the training
                building.write_table(work.staging, path, slide, section.table, key_added)
            work.journal.note(PREPARED)
        if recipe.config.train.devices > 1 or not isinstance(slide.image, np.ndarray):
            # a file is decoded once: training and prediction read what was stored, other processes can, too
            slide = replace(slide, image=building.stored_image(work.staging, slide))
        prepared = time.perf_counter()
        draft = work.draft(model)
        if draft.exists():
            fitted = load_fitted(draft)
            with stage("field"):
                fitted, posterior = posterior_for(fitted, slide, recipe.sources)
        else:
            fitted, posterior = fit(
                slide, recipe, genes=chosen, device=device_of(device), checkpoint=checkpoint,
                resume=resume and checkpoint.exists(),
            )  # fmt: skip
            save_fitted(fitted, draft)
        trained = time.perf_counter()
        spots = stream(fitted, slide, posterior, work, key_added, device, client)
        seconds = {
            "prepare": prepared - started,
            **_phase_seconds(fitted.history, trained - prepared),
            "write": time.perf_counter() - trained,
        }
        with stage("write table"):
            annotate(section, fitted, spots, key_added, record_of(fitted, slide, section, path, model, seconds))
            if resumed:  # a run that was killed may have left half a table
                building.write_table(work.staging, path, slide, section.table, key_added)
            else:
                building.add_results(work.staging, slide, section.table, key_added)
            building.finish(work.staging)
    checkpoint.unlink(missing_ok=True)
    print_line(f"Projection {key_added!r} of {slide.name!r} written to {path}")  # the user must find it
    return section.adata if copy else None


def _phase_seconds(history: dict[str, Any], total: float) -> dict[str, float]:
    """Seconds by phase; what the epochs do not account for went into factors and prior."""
    by_phase = {phase: float(history["seconds"][history["phase"] == phase].sum()) for phase in ("image", "joint")}
    return {"factors": max(total - sum(by_phase.values()), 0.0), **by_phase}
