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


_NEAR = ("core/interpolate.py",)
_LOOK = ("core/texture.py",)
_PRIOR = (
    "core/kriging.py", "core/texture.py", "core/interpolate.py", "model/factorize.py", "model/evidence.py",
    "model/drawing.py", "model/neighbours.py", "model/skill.py", "model/config.py", "model/fit.py", "tl/_held_out.py",
)  # fmt: skip
_COARSER = (*_PRIOR, "io/pyramid.py", "io/working_picture.py")
_FIT = ("core/*.py", "model/*.py", "tl/_fit_projection.py")
_NETWORK = ("core/*.py", "model/*.py", "tl/_held_out.py")  # as arrays: nothing is written


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


def _prior(address: str, value: Any) -> Method:
    return Method("ablations", "prior", "ablation", {"constants": {f"sphisto.{address}": value}}, _PRIOR)


def _maps(function: str, **options: Any) -> Method:
    return Method("prior_ablations", function, "ablation", options, _PRIOR)


def _network(constants: Mapping[str, Any] | None = None, **config: Any) -> Method:
    options = {"constants": {f"sphisto.{address}": value for address, value in (constants or {}).items()}}
    return Method("network_ablations", "network", "ablation", options | {"config": config}, _NETWORK)


def _training(function: str, **options: Any) -> Method:
    return Method("network_ablations", function, "ablation", options, _NETWORK)


ABLATIONS: dict[str, Method] = {
    "prior-as_it_is": Method("ablations", "prior", "ablation", {"constants": {}}, _PRIOR),
    "prior-position_only": _prior("model.evidence:_EXTREME", 0.0),
    "prior-gaussian_weights": _prior("model.neighbours:_MOST_KRIGED", 0),
    "prior-squared_error_factors": _maps("frobenius"),
    "prior-no_contrasts": _prior("model.factorize:_LEAST_CERTAIN", 2.0),
    "prior-loadings_not_shrunken": _prior("model.factorize:_SHRINKING", 0),
    "prior-roots_without_3_8": _prior("model.neighbours:_ANSCOMBE", 0.0),
    "prior-12_factors": _prior("model.fit:_SPOTS_PER_FACTOR", 10**9),
    "prior-one_factor_for_3_spots": _prior("model.fit:_SPOTS_PER_FACTOR", 3),
    "prior-200_iterations": _prior("model.factorize:_ITERATIONS", 200),
    "prior-nugget_chosen": _prior("core.kriging:_TRUST", 50.0),
    "prior-half_the_range": _prior("core.kriging:_FAR", 12.0),
    "prior-twice_the_range": _prior("core.kriging:_FAR", 48.0),
    "prior-half_the_likeness": _prior("core.kriging:_ALIKE", 0.5),
    "prior-twice_the_likeness": _prior("core.kriging:_ALIKE", 2.0),
    "prior-sums_as_measured": _prior("model.neighbours:_LEAST_SUM", float("inf")),
    "prior-content_by_stain": _maps("content_by_stain"),
    "prior-content_as_stain": _maps("content_by_stain", power=1.0),
    "prior-smoothed_within_edges": _maps("guided"),
    "prior-spots_conserved": _maps("conserved"),
    "prior-pixels_twice_as_wide": Method("resolution", "prior", "ablation", {"times": 2}, _COARSER),
    "prior-pixels_four_times_as_wide": Method("resolution", "prior", "ablation", {"times": 4}, _COARSER),
    "kriging-network_as_drift": Method("kriging_with_network", "external_drift", "ablation", {}, _NETWORK),
    "kriging-network_in_covariance": Method("kriging_with_network", "features_in_covariance", "ablation", {}, _NETWORK),
    "network-in_full": _network(),
    "network-gated": _training("network", share=None),
    "network-no_pretraining": _network(image_share=0.0),
    "network-no_image_loss": _network(image_weight=0.0, image_share=0.0),
    "network-ten_times_the_image_loss": _network(image_weight=1.0),
    "network-squared_image_loss": _training("squared_image_loss"),
    "network-squared_image_loss_of_weight_1": _training("squared_image_loss", config={"image_weight": 1.0}),
    "network-redrawn_from_factors": _training("redrawn_from_factors"),
    "network-seen_spots_count_in_full": _network(seen_weight=1.0),
    "network-no_spots_hidden": _network(
        {"model.batches:_HIDDEN": (0.0, 0.0), "model.batches:_BLIND": 0.0}, seen_weight=1.0
    ),
    "network-picture_only": _training("picture_only"),
    "network-negative_binomial": _training("negative_binomial"),
    "network-gaussian": _training("gaussian"),
    "network-colour_jitter": _training("colour_jitter"),
    "network-averaged_flips": _training("averaged_flips"),
    "network-ensemble_of_3": _training("ensemble"),
    "network-24_epochs": _network(max_epochs=24),
    "network-pixels_twice_as_wide": Method("resolution", "network", "ablation", {"times": 2}, _NETWORK),
    "network-pixels_four_times_as_wide": Method("resolution", "network", "ablation", {"times": 4}, _NETWORK),
}
ABLATED: tuple[tuple[str, str], ...] = (
    ("mouse_brain_coronal", "random"), ("her2st_C2", "random"), ("mob_st_1", "random"),
    ("breast_visium_xenium", "random"), ("xenium_breast_dapi", "finer"), ("toy", "finer"), ("toy_sparse", "finer"),
)  # fmt: skip
LARGE = ("mouse_brain_coronal", "breast_visium_xenium")
"""Where training a network takes minutes."""


@dataclass(frozen=True)
class Group:
    """Ablations of one part, named ``part-change``.

    Parameters
    ----------
    base
        The ablation in which nothing is changed: the others are compared with it.
    sets
        Data sets and splits on which they are computed unless others are asked for.
    """

    base: str
    sets: tuple[tuple[str, str], ...]


_SMALL = tuple(key for key in ABLATED if key[0] not in LARGE)
GROUPS = {
    "prior": Group("prior-as_it_is", ABLATED),
    "kriging": Group("prior-as_it_is", _SMALL),
    "network": Group("network-in_full", _SMALL),
}


def group_of(ablation: str) -> Group:
    """The group of an ablation by its name."""
    return GROUPS[ablation.split("-")[0]]


CONTROLS: dict[str, Method] = {
    "shuffled_genes": Method("controls", "shuffled_genes", "control", {}, _PRIOR),
    "other_colours": Method("controls", "other_colours", "control", {}, _PRIOR),
}
EVERY = METHODS | ABLATIONS | CONTROLS
