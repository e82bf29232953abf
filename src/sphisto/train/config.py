"""What can be set about a fit, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args


@dataclass(frozen=True)
class FitConfig:
    """Settings of the training; the defaults hold for sections of any size.

    Parameters
    ----------
    n_factors
        Most factor maps that carry all genes, and most contrasts that correct them; a small section gets 12 factors, or
        one for 6 spots if that is more, and the contrasts that stand out from noise. Time and disk grow with it.
    max_epochs
        Epochs in all; an epoch shows the network as many pixels as the section has, and at least 16 batches.
    image_share
        Share of the epochs in which the network only learns to redraw the picture.
    crop
        Side of the training crops in px: a few spot distances at usual resolutions.
    batch
        Crops per step.
    learning_rate
        Peak of a schedule that warms up in a fifth of the steps and falls to zero as a cosine.
    image_weight
        Weight of the image loss (1 - SSIM) beside the spot loss.
    seen_weight
        Weight of spots that the prior contains, against 1 for hidden ones: reproducing what one was told teaches
        little.
    held_out
        Share of the spots that no step learns from; they decide how much of what the network adds is believed.
    devices
        Devices that train together. A step sees that many times ``batch`` crops, so that an epoch has fewer steps.
    """

    n_factors: int = 48
    max_epochs: int = 12
    image_share: float = 0.25
    crop: int = 256
    batch: int = 2
    learning_rate: float = 2e-3
    image_weight: float = 0.1
    seen_weight: float = 0.1
    held_out: float = 0.1
    devices: int = 1

    def __post_init__(self) -> None:
        if self.n_factors < 1 or self.max_epochs < 1 or self.crop < 1 or self.batch < 1:
            msg = f"n_factors, max_epochs, crop and batch must be at least 1, found {self}."
            raise ValueError(msg)
        if not (0 <= self.image_share < 1 and 0 <= self.held_out < 1):
            msg = f"image_share and held_out must be shares below 1, found {self.image_share} and {self.held_out}."
            raise ValueError(msg)

    @property
    def image_epochs(self) -> int:
        """Epochs in which only the picture counts."""
        return int(self.max_epochs * self.image_share)


PresetName = Literal["default", "fast"]


@dataclass(frozen=True)
class Preset:
    """What a preset asks of a network, where it asks for less than usual.

    Parameters
    ----------
    max_epochs
        Epochs; ``None``: as many as the network usually has.
    longest_side
        The picture is worked on at most this large (px); ``None``: as large as it is.
    n_factors, batch
        As in :class:`FitConfig`.
    """

    max_epochs: int | None = None
    longest_side: int | None = None
    n_factors: int = FitConfig.n_factors
    batch: int = FitConfig.batch


PRESETS: dict[str, Preset] = {
    "default": Preset(),
    "fast": Preset(max_epochs=1, longest_side=1000, n_factors=32, batch=1),
}


def preset_of(name: str) -> Preset:
    """Look a preset up by name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name not in PRESETS:
        msg = f"Found preset={name!r}; expected one of {', '.join(map(repr, get_args(PresetName)))}."
        raise ValueError(msg)
    return PRESETS[name]
