"""The research prototype which sphisto grew out of, kept as a baseline: network, losses, footprint and defaults.

Four times convolution, ReLU and pooling, a bottleneck, four transposed convolutions, a sigmoid on the image and on
the genes. Its bottleneck flattened the whole image into two dense layers (some 300 million weights, one image size
only); here the dense layers act at each place, as 1 x 1 convolutions, so that any size goes through. It does not use
the neighbouring spots, models each gene by itself, and was fitted to means over square windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from sphisto.core.spot import Spot
from sphisto.networks.interpolation import values_at
from sphisto.networks.losses import SpotLoss, dissimilarity, scaled_squares


class Prototype:
    """The prototype, as a :class:`sphisto.networks.registry.Network`."""

    stride = 16
    reach = 48  # 46 by the gradient, rounded up to the stride
    one_map_per_gene = True
    max_epochs = 60  # it learns slowly
    longest_side = 608
    layout: ClassVar[dict[str, Any]] = {}
    first_layout: ClassVar[dict[str, Any]] = {}

    def level(self, density: NDArray[np.floating]) -> NDArray[np.floating]:
        """(K,) largest density, which the sigmoid's 1 stands for."""
        return np.asarray(density.max(axis=0))

    def build(self, level: Tensor, layout: Mapping[str, Any] | None = None) -> nn.Module:
        """Make the module."""
        return PrototypeModule(level)

    def image_loss(self, drawn: Tensor, image: Tensor) -> Tensor:
        """1 - SSIM."""
        return dissimilarity(drawn, image)

    def spot_loss(self, values: sparse.csr_array, *, is_counts: bool) -> SpotLoss:
        """Mean squared error of each gene over its largest value."""
        return scaled_squares(values.max(axis=0).toarray().ravel())

    def loss_spot(self, spot: Spot) -> Spot:
        """Return the square window as wide as the spot."""
        return Spot(spot.um, "square")


class PrototypeModule(nn.Module):
    """Image (b, 3, h, w) and an unused prior to redrawn image (b, 3, h, w) and genes (b, K, h, w).

    ``largest`` (K,) is the value that the sigmoid's 1 stands for.
    """

    widths: ClassVar = (16, 32, 64, 128)
    bottleneck: ClassVar = 1024

    largest: Tensor

    def __init__(self, largest: Tensor) -> None:
        super().__init__()
        self.register_buffer("largest", largest.clone())
        widths, dense = self.widths, self.bottleneck
        ins, outs = (3, *widths), (*reversed(widths[:-1]), 3 + len(largest))
        self.encoder = nn.Sequential(
            *(
                layer
                for a, b in zip(ins, widths, strict=False)
                for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            )
        )
        self.dense = nn.Sequential(
            nn.Conv2d(widths[-1], dense, 1), nn.ReLU(), nn.Conv2d(dense, widths[-1], 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            *(
                layer
                for a, b in zip(reversed(widths), outs, strict=True)
                for layer in (nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), nn.ReLU())
            )
        )[:-1]

    def forward(
        self, image: Tensor, prior: Tensor, margin: int = 0, pixels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        out = self.decoder(self.dense(self.encoder(image)))
        out = torch.sigmoid(out[..., margin : out.shape[2] - margin, margin : out.shape[3] - margin])
        genes = out[:, 3:] * self.largest[:, None, None]
        return out[:, :3], genes if pixels is None else values_at(genes, pixels)
