"""The methods by name: where each is, and on which sets and seeds it runs."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from benchmarks.fidelity.cases import N_VARIABLE, SETS

PROTOTYPE = {"network": "prototype", "n_genes": N_VARIABLE}  # the network that all began with
SOME = ("her2st_C2", "mob_st_1", "xenium_breast_dapi", "xenium_breast_he_if", "toy_sparse")


@dataclass(frozen=True)
class Method:
    """A function of a case, in a module of this folder.

    ``kind`` is ``"interpolation"`` (does not see the image) or ``"image"`` (baselines both), ``"peer"`` (published),
    ``"ours"``, ``"ablation"`` or ``"control"``. It runs on all sets unless it names ``sets``, on at most so many ``seeds``.
    """

    module: str
    function: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    seeds: int = 3

    def __call__(self, case):
        return getattr(import_module(f"benchmarks.fidelity.{self.module}"), self.function)(case, **self.options)

    def runs_on(self, name, kind, seed) -> bool:
        """Whether it runs on a set, a kind of truth and a seed; ablations and controls on one kind of each set."""
        few = self.kind in ("ablation", "control") and kind not in ("random", "finer")
        return (not self.sets or name in self.sets) and not few and seed < self.seeds and (name, kind) in SETS


def _ablation(**config):
    return Method("sphisto_methods", "prior", "ablation", {"config": config}, SOME, 1)


def _kriging(form, components, image):
    return Method("kriging", form, "image" if image else "interpolation", {"components": components, "image": image})


METHODS: dict[str, Method] = {
    "nearest": Method("baselines", "nearest", "interpolation"),
    "gaussian": Method("baselines", "gaussian", "interpolation"),
    "kriging_roots": _kriging("of_roots", 24, image=False),
    "cokriging_12": _kriging("of_logs", 12, image=True),
    "cokriging_32": _kriging("of_logs", 32, image=True),
    "cokriging_roots": _kriging("of_roots", 24, image=True),
    "colour_ridge": Method("baselines", "colour_ridge", "image"),
    "tesla": Method("published", "run", "peer", {"name": "tesla"}, seeds=1),
    "spahdmap": Method("published", "run", "peer", {"name": "spahdmap"}, ("xenium_breast_dapi",), 1),
    "prototype": Method("sphisto_methods", "fitted", "ours", PROTOTYPE, ("mob_st_1", "xenium_breast_dapi", "toy"), 1),
    "prior": Method("sphisto_methods", "prior", "ours"),
    "fast": Method("sphisto_methods", "fitted", "ours", {"config": "fast"}, ("mouse_brain_coronal",)),
    "sphisto": Method("sphisto_methods", "fitted", "ours"),
    "prior: position only": _ablation(field={"use_features": False}),
    "prior: without stain": _ablation(field={"use_stain": False}),
    "prior: gaussian weights": _ablation(field={"solver": "gaussian"}),
    "prior: nugget chosen": _ablation(field={"trust": 50.0}),
    "prior: half the range": _ablation(field={"far": 12.0}),
    "prior: twice the range": _ablation(field={"far": 48.0}),
    "prior: half the likeness": _ablation(field={"likeness": (0.5,)}),
    "prior: twice the likeness": _ablation(field={"likeness": (2.0,)}),
    "prior: sums as measured": _ablation(field={"least_sum": 1e9}),
    "prior: twice as many points": _ablation(field={"points_per_pitch": 8}),
    "prior: 12 factors": _ablation(genes={"n_factors": 12}),
    "control: genes shuffled": Method("sphisto_methods", "shuffled_genes", "control", {}, SOME),
    "control: other colours": Method("sphisto_methods", "other_colours", "control", {}, SOME, 1),
}
BASELINES = tuple(name for name, method in METHODS.items() if method.kind in ("interpolation", "image"))
