"""The methods by name. A method takes a case and gives expected counts in its regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.fidelity.cases import Case, Prediction

Kind = Literal["interpolation", "picture", "network", "peer", "ours", "ablation", "control"]


@dataclass(frozen=True)
class Method:
    """Where a method is and what its result depends on.

    Parameters
    ----------
    module, function
        File of this folder and function in it.
    kind
        ``"interpolation"`` (sees no picture), ``"picture"``, ``"network"`` (baselines all), ``"peer"``, ``"ours"``, or
        ``"ablation"``: ours with one thing changed, which has a table of its own.
    options
        Arguments of the function.
    sources
        What of the package it depends on, as patterns below ``src/sphisto``; a change there runs it again. What only
        reads and writes data (``io``) is left out unless an ablation changes just that, and for baselines what lays out
        pixels (grids, footprints, the tissue mask), too.
    """

    module: str
    function: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __call__(self, case: Case, **more: Any) -> Prediction:
        run = getattr(import_module(f"benchmarks.fidelity.methods.{self.module}"), self.function)
        predicted: Prediction = run(case, **self.options, **more)
        return predicted


_NEAR = ("field/gaussian.py", "core/spot.py")
_LOOK = ("features/texture.py",)
_PRIOR = (
    "core/upsample.py", "core/pooling.py", "features/*.py", "field/*.py", "genes/*.py", "scoring/skill.py",
    "predict/conditioning.py", "train/config.py", "train/fit.py", "tl/_held_out.py",
)  # fmt: skip
_FIT = (
    "core/*.py", "features/*.py", "field/*.py", "genes/*.py", "networks/*.py", "predict/*.py", "scoring/*.py", "slide/*.py",
    "train/*.py", "tl/_fit_projection.py",
)  # fmt: skip


def _kriging(components: int, *, picture: bool, values: str = "logs") -> Method:
    kind: Kind = "picture" if picture else "interpolation"
    options = {"components": components, "picture": picture}
    return Method("kriging", f"kriging_{values}", kind, options, _LOOK if picture else ())


METHODS: dict[str, Method] = {
    "nearest": Method("interpolations", "nearest", "interpolation", {}, _NEAR),
    "gaussian": Method("interpolations", "gaussian", "interpolation", {}, _NEAR),
    "kriging": _kriging(24, picture=False),
    "kriging_roots": _kriging(24, picture=False, values="roots"),
    "cokriging": _kriging(24, picture=True),
    "cokriging_12": _kriging(12, picture=True),
    "cokriging_32": _kriging(32, picture=True),
    "cokriging_roots": _kriging(24, picture=True, values="roots"),
    "colour_distance": Method("colour", "colour_distance", "picture"),
    "colour_ridge": Method("colour", "colour_ridge", "picture"),
    "stain_ratio": Method("colour", "stain_ratio", "picture", {}, _NEAR),
    "istar_head": Method("istar", "istar_head", "picture", {}, _LOOK),
    "tesla": Method("peers", "tesla", "peer"),
    "spahdmap": Method("peers", "spahdmap", "peer"),
    "seed": Method("networks", "seed_network", "network", {}, _FIT),
    "prior": Method("networks", "prior", "ours", {}, _PRIOR),
    "fast": Method("networks", "sphisto", "ours", {"preset": "fast"}, _FIT),
    "sphisto": Method("networks", "sphisto", "ours", {}, _FIT),
}


def _prior(**settings: Any) -> Method:
    return Method("networks", "prior", "ablation", {"settings": settings}, _PRIOR)


ABLATIONS: dict[str, Method] = {
    "prior-as_it_is": _prior(),
    "prior-position_only": _prior(use_features=False),
    "prior-gaussian_weights": _prior(solver="gaussian"),
    "prior-nugget_chosen": _prior(trust=50.0),
    "prior-half_the_range": _prior(far=12.0),
    "prior-twice_the_range": _prior(far=48.0),
    "prior-half_the_likeness": _prior(likeness=0.5),
    "prior-twice_the_likeness": _prior(likeness=2.0),
    "prior-sums_as_measured": _prior(least_sum=float("inf")),
    "prior-twice_as_many_points": _prior(points_per_pitch=8),
}
"""Settings of the field, one changed at a time."""

ABLATED: tuple[tuple[str, str], ...] = (
    ("mouse_brain_coronal", "random"), ("her2st_C2", "random"), ("mob_st_1", "random"),
    ("breast_visium_xenium", "random"), ("xenium_breast_dapi", "finer"), ("toy", "finer"), ("toy_sparse", "finer"),
)  # fmt: skip
BASE = "prior-as_it_is"
"""The ablation in which nothing is changed: the others are compared with it."""

CONTROLS: dict[str, Method] = {
    "shuffled_genes": Method("controls", "shuffled_genes", "control", {}, _PRIOR),
    "other_colours": Method("controls", "other_colours", "control", {}, _PRIOR),
}
EVERY = METHODS | ABLATIONS | CONTROLS
