"""The methods by name. A method takes a case and gives expected counts in its regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.fidelity.cases import Case, Prediction

Kind = Literal["interpolation", "picture", "network", "peer", "ours"]


@dataclass(frozen=True)
class Method:
    """Where a method is and what its result depends on.

    Parameters
    ----------
    module, function
        File of this folder and function in it.
    kind
        ``"interpolation"`` (sees no picture), ``"picture"``, ``"network"`` (baselines all), ``"peer"``, or ``"ours"``.
    options
        Arguments of the function.
    sources
        What of the package it depends on, as patterns below ``src/sphisto``; a change there runs it again. What only
        reads data and lays out pixels (``io``, grids, footprints, the tissue mask) is left out for baselines.
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


_NEAR = ("core/interpolate.py",)
_LOOK = ("core/texture.py",)
_PRIOR = (
    "core/kriging.py", "core/texture.py", "core/interpolate.py", "model/factorize.py", "model/neighbours.py",
    "model/skill.py", "model/config.py", "model/fit.py", "tl/_held_out.py",
)  # fmt: skip
_ALL = ("**/*.py",)


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
    "seed": Method("networks", "seed_network", "network", {}, _ALL),
    "prior": Method("networks", "prior", "ours", {}, _PRIOR),
    "fast": Method("networks", "sphisto", "ours", {"preset": "fast"}, _ALL),
    "sphisto": Method("networks", "sphisto", "ours", {}, _ALL),
}
