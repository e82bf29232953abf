"""The methods by name: where each is, and whether it needs spots of the target."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Method:
    """A function of a case in a module of this folder; ``known``: whether some of the target's spots must or may be known."""

    module: str
    function: str
    known: tuple[bool, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, case):
        return getattr(import_module(f"benchmarks.generalisation.{self.module}"), self.function)(case, **self.options)

    def runs_on(self, share: float) -> bool:
        return (share > 0) in self.known


METHODS = {
    "mean profile": Method("baselines", "mean_profile", (False,)),
    "ridge": Method("baselines", "ridge", (False,)),
    "gaussian": Method("baselines", "gaussian", (True,)),
    "alone": Method("sphisto_methods", "alone", (True,)),
    "sphisto": Method("sphisto_methods", "sphisto", (False, True)),
    "sphisto pooled": Method("sphisto_methods", "sphisto", (False,), {"scaling": "pooled"}),
}
