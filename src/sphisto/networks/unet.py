"""The default network, all of it in this file.

It sees the image and, at a coarse stride, the co-kriging of the neighbouring spots (the prior mean). Its last layer is one 1 x 1
convolution: three of its channels redraw the image, the others are the logarithm of how much each factor differs
from the prior. So the genes are an extension of the layer that draws the tissue, they are never negative, and a
network that has learned nothing gives the interpolation of the spots. Contrasts, which correct the factors, are only
scaled with the factors' sum.

There is no normalisation over space and no padding that a halo does not hide: what a pixel gets does not depend on
the tile it was computed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sphisto.networks.interpolation import drawn_out, drawn_out_at, values_at
from sphisto.networks.losses import dissimilarity, poisson_deviance, scaled_squares

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from sphisto.core.spot import Spot
    from sphisto.networks.losses import SpotLoss

_LARGEST_RATIO = 3.0  # exp(3) = 20-fold: nuclei against cytoplasm differ less


class ResidualUNet:
    """The default network, as a :class:`sphisto.networks.registry.Network`."""

    stride = 8
    reach = 64  # 59 by the gradient, rounded up to the stride
    one_map_per_gene = False
    max_epochs = 12
    longest_side = None
    colour_weight = 2.0  # SSIM compares structure and hardly feels a colour cast

    def level(self, density: NDArray[np.floating]) -> NDArray[np.floating]:
        """(K,) mean density, to which the prior is compared."""
        return np.asarray(density.mean(axis=0))

    def build(self, level: Tensor) -> nn.Module:
        """Make the module."""
        return UNet(level)

    def image_loss(self, drawn: Tensor, image: Tensor) -> Tensor:
        """1 - SSIM, plus the mean absolute difference of colours."""
        return dissimilarity(drawn, image, self.colour_weight)

    def spot_loss(self, values: sparse.csr_array, *, is_counts: bool) -> SpotLoss:
        """Poisson deviance of counts; of other values their squared error over their spread."""
        if is_counts:
            return poisson_deviance
        variance = values.multiply(values).mean(axis=0) - np.square(values.mean(axis=0))
        return scaled_squares(np.sqrt(np.maximum(variance, 0)))

    def loss_spot(self, spot: Spot) -> Spot:
        """Return the spot itself."""
        return spot


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # starts as the identity, so that no normalisation is needed
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


class UNet(nn.Module):
    """Image (b, 3, h, w) and prior (b, K, h / s, w / s) to redrawn image (b, 3, h, w) and factors (b, K, h, w).

    Parameters
    ----------
    typical
        Typical density of each of the factors that are not contrasts; the prior is measured against it.
    widths
        Channels at strides 1, 2, 4 and 8.
    """

    typical: Tensor
    gate: Tensor

    def __init__(self, typical: Tensor, widths: tuple[int, ...] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.register_buffer("typical", typical.clone())
        self.register_buffer("gate", torch.ones(()))  # 0 where the image did not help on hidden spots
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.left = nn.ModuleList(Block(w) for w in widths)
        self.context = nn.Conv2d(len(typical), widths[-1], 1)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.right = nn.ModuleList(Block(w) for w in widths[:-1])
        self.last = nn.Conv2d(widths[0], 3 + len(typical), 1)
        nn.init.zeros_(self.last.weight[3:])
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self, image: Tensor, prior: Tensor, margin: int = 0, pixels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        n, side = len(self.typical), image.shape[2] // prior.shape[2]
        smooth = drawn_out(prior, side, margin) if pixels is None else drawn_out_at(prior, pixels, side)
        x = self.features(image, prior[:, :n], margin)
        drawn = torch.sigmoid(self._read(x, slice(0, 3)))
        if not self.training and float(self.gate) == 0:  # nothing of the network is used for genes
            return drawn, smooth
        ratio = self._read(x, slice(3, None), pixels)
        maps = _Scaled.apply(smooth[:, :n], ratio, self.gate)
        if prior.shape[1] > n:
            share = maps.sum(dim=1, keepdim=True) / smooth[:, :n].sum(dim=1, keepdim=True)
            maps = torch.cat([maps, smooth[:, n:] * share], dim=1)
        return drawn, maps

    def features(self, image: Tensor, prior: Tensor, margin: int = 0) -> Tensor:
        """All but the last layer, from the prior without contrasts: (b, c, h, w) within a margin."""
        x = self.stem(2 * image - 1)  # images come as 0..1
        skips = []
        for block, down in zip(self.left, self.down, strict=False):
            x = block(x)
            skips.append(x)  # strides 1, 2, 4
            x = down(x)
        relative = torch.log1p(prior / self.typical[:, None, None])
        x = x + self.context(F.interpolate(relative, size=x.shape[2:], mode="bilinear", align_corners=False))
        x = self.left[-1](x)
        for block, up, skip in zip(reversed(self.right), reversed(self.up), reversed(skips), strict=True):
            x = F.interpolate(up(x), scale_factor=2, mode="bilinear", align_corners=False) + skip
            x = block(x)
        return x[..., margin : x.shape[2] - margin, margin : x.shape[3] - margin]

    def _read(self, x: Tensor, channels: slice, pixels: Tensor | None = None) -> Tensor:
        """Some channels of the last layer before their non-linearities, (b, c, h, w), or (n, c) at some pixels alone."""
        weight, bias = self.last.weight[channels], self.last.bias
        bias = None if bias is None else bias[channels]
        with torch.autocast(x.device.type, enabled=False):  # colours and logarithms need more than eight bits
            if pixels is not None:  # as many products as there are pixels in spots, not as in the image
                return F.linear(values_at(x, pixels).to(weight.dtype), weight[:, :, 0, 0], bias)
            return F.conv2d(x.to(weight.dtype), weight, bias)


class _Scaled(torch.autograd.Function):
    """A prior, which no gradient reaches, times the bounded exponential of what the network reads from the image.

    These are the largest arrays there are: left to itself, autograd keeps two more of them and passes over two more.
    """

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, read: Tensor, gate: Tensor) -> Tensor:
        bounded = (read / _LARGEST_RATIO).tanh_()
        maps = (bounded * (gate * _LARGEST_RATIO)).exp_().mul_(smooth)
        ctx.save_for_backward(bounded, maps, gate)
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        bounded, maps, gate = ctx.saved_tensors
        return None, torch.ops.aten.tanh_backward(gradients[0] * maps, bounded).mul_(gate), None
