"""Settings of a fit, and presets of them: what can be set, with the reason for each default."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sphisto._ranges import require_ranges
from sphisto.features.config import DriftConfig
from sphisto.field.config import FieldConfig
from sphisto.genes.config import GeneModelConfig

__all__ = ["DriftConfig", "FieldConfig", "FitConfig", "GeneModelConfig", "TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the training; the defaults hold for sections of any size.

    Parameters
    ----------
    max_epochs
        Epochs at most; ``None``: as many as the network usually takes (12, the prototype 60). An epoch shows the network
        as many pixels as the section has, and at least ``least_batches`` batches.
    first_look
        Share of the epochs after which held-out spots decide whether the training goes on: where the network gains
        nothing at them by then, the genes would gain nothing. Each part has a learning rate that rises and falls. Asked after
        ``least_looked`` epochs at the earliest; 1: never, for a redrawn image that is as good as can be.
    least_looked
        Epochs before which a network cannot be judged.
    image_share
        Share of the epochs, of those before the first look, in which the network only learns to redraw the image.
    longest_side
        The image is worked on at most so many px long, where ``um_per_px`` is not given; ``None``: as it is, or as the
        network usually takes it. Lower it for a first look.
    crop
        Side of the training crops in px: a few spot distances at usual resolutions.
    batch
        Crops in a step.
    least_batches
        Batches in an epoch, so that an epoch of a small section means something.
    devices
        Devices of the kind ``device`` that train together (GPUs, or processes on the CPU). A step sees that many times
        ``batch`` crops, so that an epoch has fewer steps. They run in processes of their own, which read your script
        again: what it does must stand under ``if __name__ == "__main__":``.
    learning_rate
        Peak of a schedule that warms up and falls to zero as a cosine.
    warm_up
        Share of the steps in which the learning rate grows; with less some runs saturate in the first steps.
    image_weight
        Weight of the image loss beside the spot loss.
    seen_weight
        Weight of spots that the prior contains, against 1 for hidden ones: reproducing what is given teaches little.
    hidden
        Least and largest share of the spots that a crop hides from its prior: to fill gaps is the task.
    hidden_within
        Pitches around a crop within which spots are hidden: what is farther makes no difference to it.
    blind
        Share of the crops that hide all spots, so that the image alone can carry a section without spots.
    most_spots
        Spots in a crop; the likelihood of all genes at more of them takes longer than the network itself.
    held_out
        Share of the spots that no step learns from; they decide how much of what the network adds is used.
    least_held_out
        Held-out spots below which nothing is held out and the network is not used for genes: fewer cannot show whether it
        helps. With 9 or 10 of them, on two sections of some 100 spots, it was used in two fits of six, and fresh truth showed
        that it had not helped. Lower it to let fewer spots decide.
    shares
        Shares of what the network adds among which the held-out spots choose, beside none. By the smallest they judge whether
        any is used.
    most_tiles
        Tiles on which they choose: those with most held-out spots, and more where fewer than ``least_held_out`` lie in these.
    """

    max_epochs: int | None = None
    first_look: float = 1 / 3
    least_looked: int = 3
    image_share: float = 0.25
    longest_side: int | None = None
    crop: int = 256
    batch: int = 2
    least_batches: int = 16
    devices: int = 1
    learning_rate: float = 2e-3
    warm_up: float = 0.2
    image_weight: float = 0.1
    seen_weight: float = 0.1
    hidden: tuple[float, float] = (0.1, 0.5)
    hidden_within: float = 3.0
    blind: float = 0.125
    most_spots: int = 128
    held_out: float = 0.1
    least_held_out: int = 12
    shares: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75, 1.0)
    most_tiles: int = 8

    def __post_init__(self) -> None:
        optional = [name for name in ("max_epochs", "longest_side") if getattr(self, name) is not None]
        require_ranges(
            self,
            whole=(
                *optional, "least_looked", "crop", "batch", "least_batches", "devices", "most_spots", "least_held_out", "most_tiles",
            ),
            positive=("learning_rate", "hidden_within"),
            not_negative=("image_weight", "seen_weight"),
            several=("hidden", "shares"),
            shares=("first_look", "hidden", "blind", "warm_up", "shares"),
            below_one=("image_share", "held_out"),
        )  # fmt: skip
        if len(self.hidden) != 2 or self.hidden[0] > self.hidden[1]:
            msg = f"Found hidden={self.hidden!r}; expected the least and the largest share of the spots."
            raise ValueError(msg)

    @property
    def epochs(self) -> int:
        """Epochs at most, once it is decided."""
        if self.max_epochs is None:
            msg = "Found settings without max_epochs. Give it, or call `sphisto.train.settings.settings_for`."
            raise ValueError(msg)
        return self.max_epochs

    @property
    def rounds(self) -> tuple[int, ...]:
        """Epochs before the first look at held-out spots, and those after it if the network helps."""
        first = round(self.epochs * self.first_look)
        return (first, self.epochs - first) if self.least_looked <= first < self.epochs else (self.epochs,)


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit.

    Parameters
    ----------
    genes
        Of the gene model: how many factors, how they are found.
    field
        Of the co-kriging: covariance, solver, whether the image may help.
    train
        Of the network's training.
    drift
        Of what several sections teach each other; of one section it plays no part.

    Examples
    --------
    >>> import sphisto as sp
    >>> config = sp.config.FitConfig(field=sp.config.FieldConfig(use_features=False))
    >>> config.field.use_features
    False
    """

    genes: GeneModelConfig = dataclasses.field(default_factory=GeneModelConfig)
    field: FieldConfig = dataclasses.field(default_factory=FieldConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    drift: DriftConfig = dataclasses.field(default_factory=DriftConfig)

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            if not isinstance(getattr(self, name), kind):
                msg = f"Found {name}={getattr(self, name)!r}; expected a {kind.__name__}."
                raise TypeError(msg)

    def to_json(self) -> str:
        """Return all settings as one text, the form in which ``uns[key]["params"]["config"]`` records them."""
        return json.dumps(as_plain(self))

    @classmethod
    def from_json(cls, text: str) -> FitConfig:
        """Return the settings of such a text: to fit another section as one was fitted.

        Settings that it does not name are as they are by default.

        Raises
        ------
        ValueError
            If the text is no JSON of such a form, or names parts or settings that there are not; the message lists those there
            are.

        Examples
        --------
        >>> import sphisto as sp
        >>> sp.config.FitConfig.from_json('{"train": {"max_epochs": 3}}').train.max_epochs
        3
        """
        return from_plain(_read_parts(text))


_PARTS = {"genes": GeneModelConfig, "field": FieldConfig, "train": TrainConfig, "drift": DriftConfig}

_EXAMPLE = '{"train": {"max_epochs": 3}}'  # of such a text

PresetName = Literal["default", "fast"]

PRESETS: dict[str, FitConfig] = {
    "default": FitConfig(),
    "fast": FitConfig(
        genes=GeneModelConfig(n_factors=32), train=TrainConfig(max_epochs=1, longest_side=1_000, batch=1)
    ),
}


def as_plain(config: FitConfig) -> dict[str, dict[str, Any]]:
    """Return settings as nested dictionaries of values that any file can hold; ``None`` is left out."""
    return {
        part: {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}
        for part, values in asdict(config).items()
    }


def by_name(config: FitConfig) -> dict[str, Any]:
    """Return every setting under a name such as ``"train.batch"``: so that what differs between two can be named."""
    return {
        f"{part}.{name}": list(value) if isinstance(value, tuple) else value
        for part, values in asdict(config).items()
        for name, value in values.items()
    }


def from_plain(plain: dict[str, dict[str, Any]]) -> FitConfig:
    """Return the settings of which :func:`as_plain` made dictionaries; what is missing is as it is by default."""
    likeness = plain.get("field", {}).get("likeness")
    if isinstance(likeness, int | float):  # as models hold it that were fitted when there was one
        plain = {**plain, "field": {**plain["field"], "likeness": [likeness]}}
    return FitConfig(**{name: kind(**plain.get(name, {})) for name, kind in _PARTS.items()})


def _read_parts(text: str) -> dict[str, dict[str, Any]]:
    """Return what a text of JSON says of settings, by part; refuse names that none has, which would go unnoticed."""
    try:
        found = json.loads(text)
    except ValueError as error:
        msg = f"Found a text that is no JSON ({error}); expected settings as `FitConfig.to_json` writes them."
        raise ValueError(msg) from error
    if not isinstance(found, dict):
        msg = f"Found {text!r}; expected settings by part, such as {_EXAMPLE}."
        raise ValueError(msg)
    _refuse_unknown(found, _PARTS, "parts of the settings")
    for part, values in found.items():
        if not isinstance(values, dict):
            msg = f"Found {part}={values!r} in the settings; expected settings by name, such as {_EXAMPLE}."
            raise ValueError(msg)
        _refuse_unknown(values, [each.name for each in dataclasses.fields(_PARTS[part])], f"settings of {part!r}")
    return found


def _refuse_unknown(found: Iterable[str], known: Iterable[str], what: str) -> None:
    if unknown := sorted(set(found) - set(known)):
        msg = f"Found unknown {what}: {', '.join(unknown)}; expected some of {', '.join(known)}. Correct the name."
        raise ValueError(msg)
