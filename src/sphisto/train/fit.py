"""From a slide to a fitted projection: factors, prior, training."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sphisto import __version__
from sphisto._cores import one_blas_thread
from sphisto._progress import stage
from sphisto.config import by_name
from sphisto.features.sources import record_of
from sphisto.genes.factorize import fit_factors, gene_factors, refit_factors
from sphisto.genes.observations import informative
from sphisto.networks.precision import channels_last, fastest
from sphisto.networks.registry import network as network_of
from sphisto.predict.conditioning import features_of, fit_field, warn_without_features
from sphisto.predict.fitted import Fitted
from sphisto.scoring.skill import left_out_skill, unknown_skill
from sphisto.train.loop import Task, train
from sphisto.train.shrinkage import gated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sphisto.config import FitConfig, TrainConfig
    from sphisto.features.source import FeatureSource
    from sphisto.field.posterior import Posterior
    from sphisto.slide.slide import Slide

logger = logging.getLogger("sphisto")

_SOME_BESIDE = (
    0.1  # share of bins that may lie beside the tissue, whose border is not known to a bin, without a warning
)


@one_blas_thread()
def fit(
    slide: Slide,
    *,
    network: str,
    genes: tuple[str, ...],
    config: FitConfig,
    sources: Sequence[FeatureSource],
    seed: int,
    device: torch.device,
    checkpoint: Path,
    resume: bool = False,
) -> tuple[Fitted, Posterior]:
    """Fit a network to one slide; return it with the posterior, given all spots, under which the slide is predicted.

    Parameters
    ----------
    slide
        With measured spots.
    network
        Its name.
    genes
        Genes whose rasters are wanted; a network with a map for each gene models only these.
    config
        Settings; the number of epochs is decided.
    sources
        Of features of the image.
    seed, device
        Seed of everything random, where to compute.
    checkpoint, resume
        File that keeps the state after each epoch, and whether to go on from it.
    """
    measured, spec = slide.spots, network_of(network)
    if spec.one_map_per_gene:  # such maps do not start from the prior, whose detail is therefore not theirs
        config = replace(config, field=replace(config.field, use_stain=False))
    learned, held_out = _split(slide, config.train, seed)
    features = features_of(slide, sources, config)
    if features is not None:
        with stage("features of the image"):
            features.maps  # noqa: B018 - read now: what is wrong with a source is found before long work
    with stage("factors"):
        model = (
            gene_factors(measured, list(genes))
            if spec.one_map_per_gene
            else fit_factors(measured, learned, config.genes, seed)
        )
    with stage("field"):
        field = fit_field(slide, model, learned, features, config)
    level = np.maximum(spec.level(field.observations.plain), 1e-6).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = channels_last(spec.build(torch.from_numpy(level)))
    params = {
        "network": network, "rng": seed, "n_factors": config.genes.n_factors, "max_epochs": config.train.epochs,
        "config": config.to_json(), "features": record_of(sources),
    }  # fmt: skip
    call = {
        "network": network,
        "rng": seed,
        **by_name(config),
        "features": record_of(sources),
        "version": __version__,
        "library": slide.name,
        "shape": list(slide.grid.shape),
        "values": float(measured.values.sum()),
    }
    task = Task(slide, spec, module, model, field, learned, held_out, config.train, seed, fastest(device), call)
    for history, precision in train(task, device=device, checkpoint=checkpoint, resume=resume):
        fitted = Fitted(
            network=network,
            weights={key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()},
            model=model,
            level=level,
            mean=field.mean,
            um_per_px=slide.grid.um_per_px,
            spot=slide.spot,
            is_counts=measured.is_counts,
            genes=genes,
            params={**params, "precision": precision},
            history=history,
            skill=unknown_skill(len(measured.genes)),
            config=config,
            features=record_of(sources),
        )
        if not spec.one_map_per_gene:
            fitted, gate = gated(fitted, slide, field.given("all"), held_out, device)
            fitted = replace(fitted, params={**fitted.params, "gate": gate})
            if gate == 0:  # more epochs would not help the genes
                break
    if (done := len(fitted.history["epoch"])) < config.train.epochs:
        logger.warning(
            "The training ended after %d of %d epochs, as more would not help the genes. The redrawn image gets better by "
            "more: `FitConfig(train=TrainConfig(first_look=1))`.",
            done,
            config.train.epochs,
        )
    known = informative(slide)
    if fitted.params.get("gate") == 0:
        # Nothing more is to be decided by the spots that were watched, and the factors need not be the network's own.
        with stage("factors, of all spots"):
            fitted = replace(fitted, model=refit_factors(fitted.model, measured, known, config.genes, seed))
    with stage("field, of all spots"):
        everything = fit_field(slide, fitted.model, known, features, config)
    warn_without_features(everything, slide)
    if not spec.one_map_per_gene:
        with stage("skill of genes"):
            skill = left_out_skill(everything, fitted.model, slide) if measured.is_counts else fitted.skill
        fitted = replace(fitted, mean=everything.mean, skill=skill)
    return fitted, everything.given("all")


def _split(slide: Slide, config: TrainConfig, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose the spots to learn from and those to hold out; spots without counts are neither."""
    known, outside = informative(slide), ~slide.on_image
    unknown, bins = ~known & ~outside, slide.spot.is_bin
    if bins and 0 < unknown.mean() < _SOME_BESIDE:
        logger.info("%d of %d bins lie beside the tissue; nothing is learned from them.", unknown.sum(), len(known))
        unknown = np.zeros_like(unknown)
    for lost, why, remedy in (
        (outside, "lie off the image", "Give an `image` that shows them, or correct its `image_scale`, if it should"),
        (unknown & (not bins), "hold no counts", "`sphisto.pp.qc` takes such spots out"),
        (unknown & bins, "lie beside the tissue", "If they lie on it, give `tissue` to `sphisto.io.section`"),
    ):
        if lost.any():
            logger.warning("%d of %d spots %s; nothing is learned from them. %s.", lost.sum(), len(known), why, remedy)
    spots = np.flatnonzero(known)
    n_watched = round(config.held_out * len(spots))
    watched = np.zeros(len(known), dtype=bool)
    if n_watched >= config.least_held_out:
        watched[np.random.default_rng(seed).choice(spots, n_watched, replace=False)] = True
    return known & ~watched, watched
