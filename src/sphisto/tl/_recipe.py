"""How sections are to be fitted, from what a call asks for: what cannot be is refused before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphisto._rng import RNG, seed_of
from sphisto.features.sources import sources_of
from sphisto.networks.registry import current_name
from sphisto.networks.registry import network as network_of
from sphisto.predict.tiles import device_of
from sphisto.train.processes import check_devices
from sphisto.train.recipe import Recipe
from sphisto.train.settings import settings_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sphisto.config import FitConfig, PresetName
    from sphisto.features.source import FeatureSource


def recipe_of(
    *,
    network: str,
    config: FitConfig | PresetName,
    max_epochs: int | None,
    features: str | FeatureSource | Sequence[FeatureSource],
    rng: RNG,
    device: str | None,
) -> Recipe:
    """Return how sections are to be fitted, before any is known; parameters as of :func:`sphisto.tl.fit_projection`."""
    seed, name = seed_of(rng), current_name(network)
    sources = sources_of(features)
    settings = settings_for(config, network_of(name), max_epochs)
    check_devices(device_of(device), settings.train.devices)
    return Recipe(name, settings, sources, seed)
