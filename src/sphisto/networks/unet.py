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

    def forward(self, image: Tensor, prior: Tensor, margin: int = 0) -> tuple[Tensor, Tensor]:
        n = len(self.typical)
        smooth = _drawn_out(prior, image.shape[2] // prior.shape[2], margin)
        if not self.training and float(self.gate) == 0:  # nothing of the network is used for genes
            return torch.sigmoid(self.features(image, prior[:, :n], margin, channels=3)), smooth
        drawn, ratio = self.features(image, prior[:, :n], margin).split([3, n], dim=1)
        maps = _Scaled.apply(smooth[:, :n], ratio, self.gate)
        if prior.shape[1] > n:
            share = maps.sum(dim=1, keepdim=True) / smooth[:, :n].sum(dim=1, keepdim=True)
            maps = torch.cat([maps, smooth[:, n:] * share], dim=1)
        return torch.sigmoid(drawn), maps

    def features(self, image: Tensor, prior: Tensor, margin: int = 0, channels: int | None = None) -> Tensor:
        """Last layer before its non-linearities, from the prior without contrasts: (b, 3 + K', h, w) within a margin.

        Of its ``channels`` only so many are computed: the first three redraw the image.
        """
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
        x = x[..., margin : x.shape[2] - margin, margin : x.shape[3] - margin]
        with torch.autocast(x.device.type, enabled=False):  # colours and logarithms need more than eight bits
            weight, bias = self.last.weight[:channels], self.last.bias
            return F.conv2d(x.to(self.stem.weight.dtype), weight, None if bias is None else bias[:channels])


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


def _drawn_out(prior: Tensor, stride: int, margin: int) -> Tensor:
    """Interpolate a prior to pixels, without those of a margin: all but the next points beyond it are left out."""
    beyond = max(margin // stride - 1, 0)
    height, width = prior.shape[2:]
    seen = prior[..., beyond : height - beyond, beyond : width - beyond]
    fine = F.interpolate(seen, scale_factor=stride, mode="bilinear", align_corners=False)
    rest = margin - beyond * stride
    return fine[..., rest : fine.shape[2] - rest, rest : fine.shape[3] - rest]
