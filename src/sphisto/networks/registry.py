"""The networks one can choose by name, and what each needs around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sphisto.networks import prototype as seed
from sphisto.networks import unet


@dataclass(frozen=True)
class Network:
    """A network with its face to the rest: ``build(level) -> module``.

    The module turns pictures (b, 3, h, w; 0 to 1) and priors (b, K, h / s, w / s; counts per spot area) into redrawn
    pictures and factor maps (b, K, h, w; counts per spot area); with a ``margin`` of some px, without these at each side.

    Parameters
    ----------
    build
        Makes the module from one level of each factor; contrasts have none.
    level
        Which level ``build`` wants: the mean over the spots or the largest.
    factors
        ``"low_rank"``: K factors carry all genes. ``"genes"``: each map is one of the chosen genes.
    loss
        Spot loss: ``"likelihood"`` of the values, or the ``"scaled_mse"`` of the prototype.
    colour_weight
        Weight of the mean absolute colour error beside 1 - SSIM in the image loss; 0 in the prototype.
    footprint
        ``"true"``: the spot's own shape. ``"square"``: the prototype's square window as wide as the spot.
    stride, reach
        Geometry in px: tiles start at multiples of ``stride`` and see ``reach`` px beyond themselves.
    max_epochs
        Epochs by default.
    longest_side
        The picture is worked on at most this large (px); ``None``: at its own resolution.
    """

    build: Callable[[Tensor], nn.Module]
    level: Literal["mean", "largest"]
    factors: Literal["low_rank", "genes"]
    loss: Literal["likelihood", "scaled_mse"]
    colour_weight: float
    footprint: Literal["true", "square"]
    stride: int
    reach: int
    max_epochs: int
    longest_side: int | None = None


NETWORKS: dict[str, Network] = {
    "unet": Network(unet.UNet, "mean", "low_rank", "likelihood", 2.0, "true", unet.STRIDE, unet.REACH, 12),
    "seed": Network(seed.SeedNet, "largest", "genes", "scaled_mse", 0.0, "square", seed.STRIDE, seed.REACH, 60, 608),
}


def network(name: str) -> Network:
    """Look a network up by name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name not in NETWORKS:
        msg = f"Found network={name!r}; expected one of {', '.join(map(repr, NETWORKS))}."
        raise ValueError(msg)
    return NETWORKS[name]
