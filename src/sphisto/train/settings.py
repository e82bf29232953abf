"""Settings of a fit, once the network and the number of epochs are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from sphisto.config import PRESETS, FitConfig, PresetName
from sphisto.field.solvers import require_solver
from sphisto.networks.registry import Network


def chosen(config: FitConfig | PresetName) -> FitConfig:
    """Return the settings that are given, or that a preset's name stands for."""
    found = PRESETS.get(config) if isinstance(config, str) else config
    if not isinstance(found, FitConfig):
        presets = ", ".join(map(repr, get_args(PresetName)))
        msg = f"Found config={config!r}; expected a `sphisto.config.FitConfig`, or one of {presets}."
        raise (ValueError if isinstance(config, str) else TypeError)(msg)
    return found


def settings_for(config: FitConfig | PresetName, network: Network, max_epochs: int | None = None) -> FitConfig:
    """Return the settings :func:`chosen`, with what they leave to the network, and the epochs given."""
    found = chosen(config)
    require_solver(found.field)  # before long work
    epochs = next(n for n in (max_epochs, found.train.max_epochs, network.max_epochs) if n is not None)
    sides = [side for side in (found.train.longest_side, network.longest_side) if side is not None]
    return replace(found, train=replace(found.train, max_epochs=epochs, longest_side=min(sides) if sides else None))


def with_devices(config: FitConfig | PresetName, devices: int) -> FitConfig:
    """Return settings for so many devices that train together."""
    found = chosen(config)
    return replace(found, train=replace(found.train, devices=devices))


def with_strength(config: FitConfig | PresetName, strength: float) -> FitConfig:
    """Return settings under which given loadings hold so firmly."""
    found = chosen(config)
    return replace(found, genes=replace(found.genes, loadings_strength=strength))


def from_devices(keywords: dict[str, Any], devices: Any) -> str:
    """Put the former keyword ``devices`` into the keywords of a call; return how it is written now."""
    keywords["config"] = with_devices(keywords.get("config", "default"), devices)
    return f"config=FitConfig(train=TrainConfig(devices={devices!r}))"
