"""From slides to a fitted projection: factors, prior, training."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sphisto._cores import one_blas_thread
from sphisto._naming import naming
from sphisto._progress import stage
from sphisto._settings import logger
from sphisto.config import FitConfig, TrainConfig
from sphisto.features.maps import SectionFeatures
from sphisto.features.sources import record_of
from sphisto.field.field import Field
from sphisto.field.posterior import Posterior
from sphisto.genes.factorize import fit_factors, gene_factors, refit_factors
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import informative
from sphisto.networks.precision import channels_last, fastest
from sphisto.networks.registry import Network
from sphisto.predict.conditioning import features_of, fit_field, warn_without_features
from sphisto.predict.fitted import Fitted, SectionFit
from sphisto.predict.sections import (
    Shared,
    field_of,
    fit_together,
    largest_spot,
    shared_model,
    uses_neighbours,
    warn_if_nothing_followed,
    wide_maps,
)
from sphisto.scoring.skill import Skill, left_out_skill, unknown_skill
from sphisto.slide.fingerprint import fingerprint_of_counts, fingerprint_of_image
from sphisto.slide.slide import Slide
from sphisto.train.loop import Part, Task, train
from sphisto.train.recipe import Recipe
from sphisto.train.shrinkage import choose_gate, report_gate


@one_blas_thread()
def fit(
    slide: Slide,
    recipe: Recipe,
    *,
    genes: tuple[str, ...],
    device: torch.device,
    checkpoint: Path,
    resume: bool = False,
) -> tuple[Fitted, Posterior]:
    """Fit a network to one slide; return it with the posterior, given all spots, under which the slide is predicted.

    A network with a map for each gene models only the ``genes``, whose rasters are wanted. ``checkpoint`` keeps the state
    after each epoch, and ``resume`` goes on from it.
    """
    measured, per_gene = slide.spots, recipe.spec.one_map_per_gene
    if per_gene:  # such maps do not start from the prior, whose detail is therefore not theirs
        field_config = replace(recipe.config.field, use_stain=False)
        recipe = replace(recipe, config=replace(recipe.config, field=field_config))
    config, seed, loadings = recipe.config, recipe.seed, recipe.loadings
    learned, held_out = _split(slide, config.train, seed)
    features = features_of(slide, recipe.sources, config)
    if features is not None:
        with stage("features of the image"):
            features.maps  # noqa: B018 - read now: what is wrong with a source is found before long work
    with stage("factors"):
        model = (
            gene_factors(measured, list(genes))
            if per_gene
            else fit_factors(measured, learned, config.genes, seed, loadings)
        )
    with stage("field"):
        field = fit_field(slide, model, learned, features, config)
    part = Part(slide, model, field, learned, held_out)
    fitted, gates = _trained(
        [part], recipe, model, field.mean, genes=genes, device=device, checkpoint=checkpoint, resume=resume
    )
    known = informative(slide)
    closed = gates == [0.0]
    if closed or (measured.is_counts and not per_gene):
        # Nothing more is to be decided by the spots that were watched. A network that is used needs its own factors, adapted,
        # which those of other values than counts cannot be; else it takes some seconds to find them anew, of few spots.
        with stage("factors, of all spots"):
            if closed and known.sum() <= config.genes.sample:
                model = fit_factors(measured, known, config.genes, seed, loadings).in_order_of(fitted.model)
            else:
                model = refit_factors(fitted.model, measured, known, config.genes, seed, loadings)
            fitted = replace(fitted, model=model)
    with stage("field, of all spots"):
        everything = fit_field(slide, fitted.model, known, features, config)
    warn_without_features(everything, slide)
    if not per_gene:
        with stage("skill of genes"):
            skill = left_out_skill(everything, fitted.model, slide) if measured.is_counts else fitted.skill
        fitted = replace(fitted, mean=everything.mean, skill=skill)
    return fitted, everything.given("all")


@one_blas_thread()
def fit_sections(
    slides: Sequence[Slide],
    recipe: Recipe,
    *,
    genes: tuple[str, ...],
    device: torch.device,
    checkpoint: Path,
    resume: bool = False,
) -> tuple[Fitted, list[Posterior]]:
    """Fit one network to several slides of the same genes, which teach each other.

    Also returns the posterior of each given all spots. Slides have counts, and different names, and the network makes
    factor maps. Other parameters are those of :func:`fit`.
    """
    config, scaling = recipe.config, recipe.scaling
    assert scaling is not None  # it must be stated for several
    parts = []
    for number, slide in enumerate(slides):
        with naming(slide.name):
            parts.append(_split(slide, config.train, recipe.seed + number))
    learned, held_out = zip(*parts, strict=True)
    features = [features_of(slide, recipe.sources, config) for slide in slides]
    with stage("factors and what sections share"):
        maps = wide_maps(slides, recipe.sources, config)
        shared = fit_together(
            slides, learned, recipe.sources, config, scaling, recipe.seed, loadings=recipe.loadings, maps=maps
        )
    with stage("fields"):
        fields = _fields(slides, shared, learned, features, config)
    sections = [
        Part(slide, shared.model.of(i), field, known, watched)
        for i, (slide, field, known, watched) in enumerate(zip(slides, fields, learned, held_out, strict=True))
    ]
    fitted, gates = _trained(
        sections, recipe, shared.model.shared, shared.regression.roots.mean,
        genes=genes, device=device, checkpoint=checkpoint, resume=resume,
    )  # fmt: skip
    known = [informative(slide) for slide in slides]
    with stage("factors and what sections share, of all spots"):
        model, used = shared.model, any(gates)
        if not used:  # then factors need not be the network's own
            found_anew = shared_model(slides, known, config, recipe.seed, recipe.loadings)
            model = replace(found_anew, shared=found_anew.shared.in_order_of(model.shared))
        shared = fit_together(
            slides, known, recipe.sources, config, scaling, recipe.seed, model=model, maps=maps, settled=used
        )
    with stage("fields, of all spots"):
        fields = _fields(slides, shared, known, features, config)
    for field, slide in zip(fields, slides, strict=True):
        warn_if_nothing_followed(field, slide)
    with stage("skill of genes"):
        found = {
            slide.name: SectionFit(
                shared.model.levels[i], gates[i], fields[i].mean, slide.spot,
                left_out_skill(fields[i], shared.model.of(i), slide), fingerprint_of_counts(slide.spots),
                fingerprint_of_image(slide), uses_neighbours(fields[i], slide), fields[i].followed,
            )
            for i, slide in enumerate(slides)
        }  # fmt: skip
    fitted = replace(
        fitted, model=shared.model.shared, mean=shared.regression.roots.mean, sections=found, regressions=shared.regressions,
        skill=_usual_skill([each.skill for each in found.values()]),
    )  # fmt: skip
    return fitted, [field.given("all") for field in fields]


def _trained(
    parts: Sequence[Part],
    recipe: Recipe,
    model: GeneModel,
    mean: NDArray[np.float64],
    *,
    genes: tuple[str, ...],
    device: torch.device,
    checkpoint: Path,
    resume: bool,
) -> tuple[Fitted, list[float]]:
    """Train a network on the parts; return the projection by that of the best round, and the gate of each part.

    ``model`` and (K,) ``mean`` are those of the projection, which those of the parts are levels of. Of a network with a
    map for each gene, which does not start from the prior, there are no gates.
    """
    slides, spec = [part.slide for part in parts], recipe.spec
    level, module = _built(spec, [part.field for part in parts], recipe.seed)
    begun = Fitted(
        network=recipe.network, weights={}, model=model, level=level, mean=mean, um_per_px=slides[0].grid.um_per_px,
        spot=largest_spot(slides), is_counts=slides[0].spots.is_counts, genes=genes, params=recipe.params(), history={},
        skill=unknown_skill(len(slides[0].spots.genes)), config=recipe.config, features=record_of(recipe.sources),
    )  # fmt: skip
    call = {
        **recipe.call(),
        "library": ", ".join(slide.name for slide in slides),
        "shape": [list(slide.grid.shape) for slide in slides],
        "values": float(sum(slide.spots.values.sum() for slide in slides)),
    }
    best, several = _Best(), recipe.scaling is not None
    task = Task(tuple(parts), spec, module, recipe.config.train, recipe.seed, fastest(device), call, notes=best.notes)
    fitted = begun
    for history, precision in train(task, device=device, checkpoint=checkpoint, resume=resume):
        params = {**begun.params, "precision": precision}
        fitted = replace(begun, weights=_weights(module), params=params, history=history)
        if spec.one_map_per_gene:
            continue
        choices = []
        for part in parts:
            own = replace(fitted, model=part.model, mean=part.field.mean)
            with _naming(part, several):
                choices.append(choose_gate(own, part.slide, part.field.given("all"), part.held_out, device))
        losses = [choice.loss * max(part.held_out.sum(), 1) for choice, part in zip(choices, parts, strict=True)]
        best.note(float(np.sum(losses)), [choice.gate for choice in choices], fitted)
        if not any(choice.promising for choice in choices):
            break  # more epochs would not help the genes
    if spec.one_map_per_gene:
        _warn_if_ended(fitted)
        return fitted, []
    fitted, gates = best.of(fitted)
    for gate, part in zip(gates, parts, strict=True):
        with _naming(part, several):
            report_gate(gate, int(part.held_out.sum()))
    _warn_if_ended(fitted)
    usual = float(np.mean(gates))  # for a section that is not among these
    weights = {**fitted.weights, "gate": torch.tensor(usual)}
    return replace(fitted, params={**fitted.params, "gate": usual}, weights=weights), gates


def _naming(part: Part, several: bool) -> contextlib.AbstractContextManager[None]:
    return naming(part.slide.name) if several else contextlib.nullcontext()


class _Best:
    """The network of the round after which held-out spots are predicted best: more epochs may fit the others alone."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}  # what a checkpoint holds of it

    def note(self, loss: float, gates: list[float], fitted: Fitted) -> None:
        """Take in a network after a round: loss of the held-out spots with the gates that were chosen for it.

        The later one of two that are not used for genes, whose losses are that of the prior: it redraws the image better.
        """
        if loss <= self.notes.get("loss", np.inf):
            epochs, weights = len(fitted.history["epoch"]), {k: v.clone() for k, v in fitted.weights.items()}
            self.notes.update(loss=loss, gates=[float(gate) for gate in gates], epochs=epochs, weights=weights)

    def of(self, fitted: Fitted) -> tuple[Fitted, list[float]]:
        """Return a projection by this network, and its gates."""
        epochs, done = self.notes["epochs"], len(fitted.history["epoch"])
        if epochs < done:
            logger.info("Held-out spots are predicted best after %d of %d epochs: that network is used.", epochs, done)
        params = {**fitted.params, "epochs_used": epochs}
        return replace(fitted, weights=self.notes["weights"], params=params), self.notes["gates"]


def _fields(
    slides: Sequence[Slide],
    shared: Shared,
    known: Sequence[NDArray[np.bool_]],
    features: Sequence[SectionFeatures | None],
    config: FitConfig,
) -> list[Field]:
    out = []
    for i, (slide, some, own) in enumerate(zip(slides, known, features, strict=True)):
        with naming(slide.name):
            out.append(field_of(slide, shared, i, some, own, config))
    return out


def _usual_skill(skills: Sequence[Skill]) -> Skill:
    """Mean of the skills of sections: what may be expected of a section like these that has spots of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # genes of which none is known
        found = {name: np.nanmean([getattr(skill, name) for skill in skills], axis=0) for name in vars(skills[0])}
    return Skill(**found)


def _built(spec: Network, fields: Sequence[Field], seed: int) -> tuple[NDArray[np.float32], torch.nn.Module]:
    """Build a network for the levels of the factors at the spots that it learns from."""
    density = np.concatenate([field.observations.plain for field in fields])
    level = np.maximum(spec.level(density), 1e-6).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return level, channels_last(spec.build(torch.from_numpy(level)))


def _weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}


def _warn_if_ended(fitted: Fitted) -> None:
    """Say it if the training ended early."""
    epochs = fitted.config.train.epochs
    if (done := len(fitted.history["epoch"])) < epochs:
        logger.warning(
            "The training ended after %d of %d epochs, as more would not help the genes. The redrawn image gets better by "
            "more: `FitConfig(train=TrainConfig(first_look=1))`.",
            done,
            epochs,
        )


def _split(slide: Slide, config: TrainConfig, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose the spots to learn from and those to hold out; spots without counts are neither."""
    # share of bins that may lie beside the tissue, whose border is not known to a bin, without a warning
    some_beside = 0.1
    known, outside = informative(slide), ~slide.on_image
    unknown, bins = ~known & ~outside, slide.spot.is_bin
    if bins and 0 < unknown.mean() < some_beside:
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
