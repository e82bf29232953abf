"""What a fit is made with, besides the sections: what names it in a model, a checkpoint and an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sphisto import __version__
from sphisto.config import FitConfig, by_name
from sphisto.features.shared import Scaling
from sphisto.features.source import FeatureSource
from sphisto.features.sources import record_of
from sphisto.genes.loadings import Loadings
from sphisto.networks.registry import Network
from sphisto.networks.registry import network as network_of


@dataclass(frozen=True, eq=False)
class Recipe:
    """How sections are fitted."""

    network: str  # its name
    config: FitConfig  # with the number of epochs decided
    sources: Sequence[FeatureSource]
    seed: int  # of everything random
    loadings: Loadings | None = None  # given ones, which take the place of factors
    scaling: Scaling | None = None  # how features of several sections are standardised; None of a section alone

    @property
    def spec(self) -> Network:
        """The network, and what it asks of a fit."""
        return network_of(self.network)

    @property
    def most_maps(self) -> int:
        """Factors and contrasts at most."""
        n_factors = self.config.genes.n_factors
        return n_factors + (n_factors if self.loadings is None else len(self.loadings.programmes))

    def params(self) -> dict[str, Any]:
        """Return what a model or an evaluation records of it: plain values."""
        return {
            "network": self.network,
            "rng": self.seed,
            "n_factors": self.config.genes.n_factors,
            "max_epochs": self.config.train.epochs,
            "config": self.config.to_json(),
            "features": record_of(self.sources),
            **({} if self.loadings is None else {"loadings": self.loadings.record(self.config.genes)}),
            **({} if self.scaling is None else {"scaling": self.scaling}),
        }

    def call(self) -> dict[str, Any]:
        """Return the plain values by which an interrupted run is known to be of the same call."""
        return {
            "version": __version__,
            "network": self.network,
            "rng": self.seed,
            **by_name(self.config),
            "features": record_of(self.sources),
            "loadings": None if self.loadings is None else self.loadings.hash,
            "scaling": self.scaling,
        }
