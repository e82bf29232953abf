"""From a slide to a fitted projection: factors, prior, training."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from sphisto import __version__
from sphisto.model.evidence import Evidence
from sphisto.model.factorize import fit_factors, gene_factors, scores, split_counts
from sphisto.model.fitted import Fitted
from sphisto.model.gate import gated
from sphisto.model.neighbours import Prior, make_prior, nothing_known
from sphisto.model.networks import network
from sphisto.model.precision import channels_last, fastest
from sphisto.model.skill import left_out_skill, unknown_skill
from sphisto.model.training import Task, train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy import sparse

    from sphisto.core.factors import Factors
    from sphisto.core.slide import Measured, Slide
    from sphisto.model.config import FitConfig

logger = logging.getLogger("sphisto")

_FEW_FACTORS = 12  # which even the smallest section may have
_SPOTS_PER_FACTOR = 6  # fewer spots than that to a factor, and factors hold their noise
_HALVING = 0  # seed of the halves of the counts that tell the noise: any will do, always the same
_PLENTY = 20  # counts in a spot, from which one without any has failed
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
) -> tuple[Fitted, Prior]:
    """Fit a network to one slide; return it with the prior, from all spots, under which the slide is predicted.

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
    measured = slide.spots
    spec = network(name)
    learned, held_out = _split(slide, config.held_out, seed)
    factors = (
        find_factors(measured, learned, config.n_factors, seed)
        if spec.factors == "low_rank"
        else gene_factors(measured, list(genes))
    )
    found = evidence_of(slide, factors, learned)
    prior = make_prior(found, learned)
    typical = found.density[learned, : factors.n_factors - factors.n_signed]
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
    task = Task(slide, spec, module, factors, prior, learned, held_out, config, seed, fastest(device), call)
    history, precision = train(task, device=device, checkpoint=checkpoint, resume=resume, progress=progress)
    fitted = Fitted(
        network=name,
        weights={key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()},
        factors=factors,
        level=level,
        mean=prior.mean,
        um_per_px=slide.grid.um_per_px,
        spot=slide.spot,
        is_counts=measured.is_counts,
        genes=genes,
        params={**params, "precision": precision},
        history=history,
        skill=unknown_skill(len(measured.genes)),
    )
    known = informative(slide)
    if spec.factors != "low_rank":
        return fitted, _told(make_prior(evidence_of(slide, factors, known), known), slide)
    fitted, gate = gated(fitted, slide, prior, held_out, device)
    if gate == 0:
        # Nothing more is to be decided by the spots that were watched, and the factors need not be the network's own.
        factors = fit_factors(measured, known, len(level), seed)
        fitted = replace(fitted, factors=factors)
    everything = _told(make_prior(evidence_of(slide, factors, known), known), slide)
    skill = left_out_skill(everything, factors, slide) if measured.is_counts else fitted.skill
    return replace(fitted, mean=everything.mean, skill=skill, params={**fitted.params, "gate": gate}), everything


def evidence_of(slide: Slide, factors: Factors, known: NDArray[np.bool_]) -> Evidence:
    """Put what the ``known`` spots of a slide measured into factors, without looking at the others: those are NaN."""
    measured, rows = slide.spots, np.flatnonzero(known)

    def scored(values: sparse.csr_array) -> NDArray[np.float64]:
        out = np.full((len(known), factors.n_factors), np.nan)
        out[rows] = scores(factors, values, is_counts=measured.is_counts)
        return out

    values = measured.values[rows]
    if not measured.is_counts:
        return Evidence(slide, scored(values))
    first, second = split_counts(values, _HALVING)
    return Evidence(slide, scored(values), (scored(first), scored(second)), factors.n_signed)


def prior_for(fitted: Fitted, slide: Slide) -> Prior:
    """Make the prior with which a slide is predicted: from all its spots, or the same everywhere if none tells anything."""
    known = np.zeros(0, dtype=bool) if slide.measured is None else informative(slide)
    if not known.any():
        return nothing_known(fitted.mean)
    return _told(make_prior(evidence_of(slide, fitted.factors, known), known), slide)


def _told(prior: Prior, slide: Slide) -> Prior:
    """Say so if the prior does not look at the picture."""
    if not prior.sees_texture:
        logger.warning(
            "The picture did not help to predict left-out spots of %r, or there are too few or too many spots to tell: "
            "what spots around say goes by position alone.",
            slide.name,
        )
    return prior


def informative(slide: Slide) -> NDArray[np.bool_]:
    """Spots that tell of the image: they lie on it and measured anything; where few counts are usual, none is a measurement."""
    total = np.asarray(slide.spots.values.sum(axis=1)).ravel()
    return np.asarray((total > 0) | (slide.spots.is_counts and 0 < total.mean() < _PLENTY)) & slide.on_image


def find_factors(measured: Measured, learned: NDArray[np.bool_], most: int, seed: int) -> Factors:
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
