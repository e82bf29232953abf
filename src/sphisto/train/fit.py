"""From a slide to a fitted projection: factors, prior, training."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sphisto import __version__
from sphisto.field.config import FieldConfig
from sphisto.genes.factorize import fit_factors, gene_factors
from sphisto.genes.observations import informative
from sphisto.networks.precision import channels_last, fastest
from sphisto.networks.registry import network
from sphisto.predict.conditioning import features_of, fit_field, warn_without_features
from sphisto.predict.fitted import Fitted
from sphisto.scoring.skill import left_out_skill, unknown_skill
from sphisto.train.loop import Task, train
from sphisto.train.shrinkage import gated

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sphisto.field.posterior import Posterior
    from sphisto.genes.model import GeneModel
    from sphisto.slide.slide import Measured, Slide
    from sphisto.train.config import FitConfig

logger = logging.getLogger("sphisto")

_FEW_FACTORS = 12  # which even the smallest section may have
_SPOTS_PER_FACTOR = 6  # fewer spots than that to a factor, and factors hold their noise
_LEAST_WATCHED = 5  # fewer held-out spots cannot tell whether the network helps


def fit(
    slide: Slide,
    *,
    name: str,
    genes: tuple[str, ...],
    config: FitConfig,
    seed: int,
    device: torch.device,
    checkpoint: Path,
    resume: bool = False,
    progress: bool = True,
) -> tuple[Fitted, Posterior]:
    """Fit a network to one slide; return it with the posterior, given all spots, under which the slide is predicted.

    Parameters
    ----------
    slide
        With measured spots.
    name
        Name of the network.
    genes
        Genes whose rasters are wanted; a network without low-rank factors models only these.
    config, seed, device
        Settings, seed of everything random, where to compute.
    checkpoint, resume
        File that keeps the state after each epoch, and whether to go on from it.
    progress
        Whether to show a bar.
    """
    measured, spec, field_config = slide.spots, network(name), FieldConfig()
    learned, held_out = _split(slide, config.held_out, seed)
    model = (
        find_factors(measured, learned, config.n_factors, seed)
        if spec.factors == "low_rank"
        else gene_factors(measured, list(genes))
    )
    features = features_of(slide, field_config)
    field = fit_field(slide, model, learned, features, field_config)
    typical = field.observations.plain
    level = np.maximum(typical.mean(axis=0) if spec.level == "mean" else typical.max(axis=0), 1e-6).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = channels_last(spec.build(torch.from_numpy(level)))
    params = {"network": name, "rng": seed, **asdict(config)}
    call = {
        **params,
        "version": __version__,
        "library": slide.name,
        "shape": list(slide.grid.shape),
        "values": float(measured.values.sum()),
    }
    task = Task(slide, spec, module, model, field, learned, held_out, config, seed, fastest(device), call)
    history, precision = train(task, device=device, checkpoint=checkpoint, resume=resume, progress=progress)
    fitted = Fitted(
        network=name,
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
    )
    known = informative(slide)
    if spec.factors == "low_rank":
        fitted, gate = gated(fitted, slide, field.given("all"), held_out, device)
        fitted = replace(fitted, params={**fitted.params, "gate": gate})
        if gate == 0:
            # Nothing more is to be decided by the spots that were watched, and the factors need not be the network's own.
            fitted = replace(fitted, model=fit_factors(measured, known, len(level), seed))
    everything = fit_field(slide, fitted.model, known, features, field_config)
    warn_without_features(everything, slide)
    if spec.factors == "low_rank":
        skill = left_out_skill(everything, fitted.model, slide) if measured.is_counts else fitted.skill
        fitted = replace(fitted, mean=everything.mean, skill=skill)
    return fitted, everything.given("all")


def find_factors(measured: Measured, learned: NDArray[np.bool_], most: int, seed: int) -> GeneModel:
    """Find as many factors as the ``learned`` spots can tell apart, at ``most`` so many."""
    return fit_factors(measured, learned, min(most, max(_FEW_FACTORS, int(learned.sum()) // _SPOTS_PER_FACTOR)), seed)


def _split(slide: Slide, share: float, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose the spots to learn from and those to watch; those that tell nothing are neither."""
    known, outside = informative(slide), ~slide.on_image
    for number, why in ((int(outside.sum()), "lie off the image"), (int((~known & ~outside).sum()), "hold no counts")):
        if number:
            logger.warning("%d of %d spots %s; nothing is learned from them.", number, len(known), why)
    spots = np.flatnonzero(known)
    n_watched = round(share * len(spots))
    watched = np.zeros(len(known), dtype=bool)
    if n_watched >= _LEAST_WATCHED:
        watched[np.random.default_rng(seed).choice(spots, n_watched, replace=False)] = True
    return known & ~watched, watched
