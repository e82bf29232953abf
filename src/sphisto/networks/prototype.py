"""The network of the research prototype which sphisto grew out of, kept as a baseline.

Four times convolution, ReLU and pooling, a bottleneck, four transposed convolutions, a sigmoid on the picture and on
the genes. Its bottleneck flattened the whole picture into two dense layers (some 300 million weights, one picture size
only); here the dense layers act at each place, as 1 x 1 convolutions, so that any size goes through. It does not see
the neighbouring spots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 16
REACH = 48  # px that decide a pixel, in each direction: 46 by the gradient, rounded up to the stride
_WIDTHS = (16, 32, 64, 128)
_DENSE = 1024


class SeedNet(nn.Module):
    """Picture (b, 3, h, w) and an unused prior to redrawn picture (b, 3, h, w) and factors (b, K, h, w).

    Parameters
    ----------
    largest
        (K,) value that the sigmoid's 1 stands for.
    """

    largest: Tensor

    def __init__(self, largest: Tensor) -> None:
        super().__init__()
        self.register_buffer("largest", largest.clone())
        ins, outs = (3, *_WIDTHS), (*reversed(_WIDTHS[:-1]), 3 + len(largest))
        self.encoder = nn.Sequential(
            *(
                layer
                for a, b in zip(ins, _WIDTHS, strict=False)
                for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            )
        )
        self.dense = nn.Sequential(
            nn.Conv2d(_WIDTHS[-1], _DENSE, 1), nn.ReLU(), nn.Conv2d(_DENSE, _WIDTHS[-1], 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            *(
                layer
                for a, b in zip(reversed(_WIDTHS), outs, strict=True)
                for layer in (nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), nn.ReLU())
            )
        )[:-1]

    def forward(self, picture: Tensor, prior: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
        out = self.decoder(self.dense(self.encoder(picture)))
        out = torch.sigmoid(out[..., margin : out.shape[2] - margin, margin : out.shape[3] - margin])
        return out[:, :3], out[:, 3:] * self.largest[:, None, None]
