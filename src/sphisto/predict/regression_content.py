"""What sections teach others, as tensors and plain values that a file can hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from sphisto.features.config import DriftConfig
from sphisto.features.shared import SharedFeatures
from sphisto.field.neighbours import Neighbour
from sphisto.field.regression import Regression, Sums
from sphisto.field.roots import Roots
from sphisto.slide.frames import Frame


def as_content(regression: Regression) -> dict[str, Any]:
    """Turn it into tensors and plain values."""
    return {
        "features": plain(regression.features),
        "roots": plain(regression.roots),
        "pieces": [[plain(sums) for sums in section] for section in regression.pieces],
        "sections": list(regression.sections),
        "neighbours": [plain(each) | {"frame": plain(each.frame)} for each in regression.neighbours],
        "config": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(regression.config).items()},
        **{name: torch.from_numpy(np.asarray(getattr(regression, name))) for name in _ARRAYS},
    }


def from_content(content: Mapping[str, Any]) -> Regression:
    """Return what :func:`as_content` turned into tensors and plain values."""
    return Regression(
        features=SharedFeatures(**arrays(content["features"])),
        roots=Roots(**arrays(content["roots"])),
        sections=tuple(content["sections"]),
        pieces=tuple(tuple(Sums(**arrays(sums)) for sums in section) for section in content["pieces"]),
        config=DriftConfig(**content["config"]),
        neighbours=tuple(
            Neighbour(**arrays(each) | {"frame": Frame(**arrays(each["frame"]))})
            for each in content.get("neighbours", ())
        ),
        **{name: content[name].numpy() for name in _ARRAYS},
    )


_ARRAYS = ("mean", "second", "rotation", "noise")


def plain(noun: Any) -> dict[str, Any]:
    """Fields of a dataclass, arrays as tensors."""
    values = {field.name: getattr(noun, field.name) for field in fields(noun)}
    return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def arrays(content: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`plain` made, tensors as arrays again."""
    return {name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in content.items()}
