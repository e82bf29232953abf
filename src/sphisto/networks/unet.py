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

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from sphisto.core.spot import Spot
from sphisto.networks.interpolation import drawn_out, drawn_out_at, rows_drawn_out, values_at, without_border
from sphisto.networks.losses import SpotLoss, dissimilarity, poisson_deviance, scaled_squares

_AT_PIXELS = 16  # channels at each pixel from which all maps are read
_LARGEST_RATIO = 3.0  # exp(3) = 20-fold: nuclei against cytoplasm differ less


class ResidualUNet:
    """The default network, as a :class:`sphisto.networks.registry.Network`."""

    stride = 8
    reach = 64  # 59 by the gradient, rounded up to the stride
    one_map_per_gene = False
    max_epochs = 12
    longest_side = None
    layout: ClassVar = {"widths": [32, 64, 96], "finest": 2}
    first_layout: ClassVar = {"widths": [16, 32, 64, 96], "finest": 1}
    colour_weight = 2.0  # SSIM compares structure and hardly feels a colour cast

    def level(self, density: NDArray[np.floating]) -> NDArray[np.floating]:
        """(K,) mean density, to which the prior is compared."""
        return np.asarray(density.mean(axis=0))

    def build(self, level: Tensor, layout: Mapping[str, Any] | None = None) -> nn.Module:
        """Make the module."""
        return UNet(level, **(self.layout if layout is None else layout))

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
        found: Tensor = self.second(F.gelu(self.first(F.gelu(x))))
        return found.add_(x)


def _pass_on(layer: nn.Conv2d, n: int) -> None:
    """Let a layer begin by passing its first n inputs on as its first n outputs.

    Random weights alone would mix the pixels that were taken together, so that images stay blurred: they are slow to take
    apart. Layers that follow are left random. If they, too, handed the image on, it would be redrawn before anything was
    learned from it, and genes would find fewer structures of the image in the features that are left.
    """
    n, middle = min(n, layer.out_channels), layer.kernel_size[0] // 2
    with torch.no_grad():
        layer.weight[:n] = 0
        layer.bias[:n] = 0  # type: ignore[index]
        layer.weight[range(n), range(n), middle, middle] = 1


def _seen_by_block(stride: int, finest: int) -> int:
    """Px beyond a core of which a block at a stride, and all finer ones after it, make something of the core."""
    if stride < finest:
        return 0
    finer = _seen_by_block(stride // 2, finest)
    # its own two convolutions; what is interpolated from it to the next finer grid; in whole points of the coarser grid
    seen = finer + 2 * stride + (stride if finer else 0)
    return -(-seen // (2 * stride)) * 2 * stride


def _room(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Room for large maps. numpy asks the system for large pages, whose first use takes a fifth of the time."""
    if like.device.type == "cpu" and like.dtype == torch.float32:
        return torch.from_numpy(np.empty(shape, dtype=np.float32))
    return like.new_empty(shape)


class UNet(nn.Module):
    """Image (b, 3, h, w) and prior (b, K, h / s, w / s) to redrawn image (b, 3, h, w) and factors (b, K, h, w).

    Parameters
    ----------
    typical
        Typical density of each of the factors that are not contrasts; the prior is measured against it.
    widths
        Channels at the finest stride, at twice that, and so on up to 8.
    finest
        Stride at which convolutions begin. 2: pixels of 2 x 2 px are taken as channels, and channels are laid out as
        pixels at the end. 1: convolutions at each pixel, as in models of format 3 and before.
    """

    typical: Tensor
    gate: Tensor

    def __init__(self, typical: Tensor, widths: Sequence[int], finest: int) -> None:
        super().__init__()
        self.finest = finest
        self.register_buffer("typical", typical.clone())
        self.register_buffer("gate", torch.ones(()))  # 0 where the image did not help on hidden spots
        self.stem = nn.Conv2d(3 * finest**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.left = nn.ModuleList(Block(w) for w in widths)
        self.context = nn.Conv2d(len(typical), widths[-1], 1)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.right = nn.ModuleList(Block(w) for w in widths[:-1])
        if finest > 1:
            self.spread = nn.Conv2d(widths[0], _AT_PIXELS * finest**2, 1)
        self.last = nn.Conv2d(widths[0] if finest == 1 else _AT_PIXELS, 3 + len(typical), 1)
        nn.init.zeros_(self.last.weight[3:])
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        if finest > 1:
            nn.init.orthogonal_(self.spread.weight, gain=2)
            _pass_on(self.stem, 3 * finest**2)

    def forward(
        self, image: Tensor, prior: Tensor, margin: int = 0, pixels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        n, side = len(self.typical), image.shape[2] // prior.shape[2]
        x = self.features(image, prior[:, :n], margin)
        unused = not self.training and float(self.gate) == 0  # nothing of the network is used for genes
        if pixels is None and not torch.is_grad_enabled():
            return self._by_rows(x, prior, side, margin, unused=unused)
        drawn = torch.sigmoid(self._read(x, slice(0, 3)))
        smooth = drawn_out(prior, side, margin) if pixels is None else drawn_out_at(prior, pixels, side)
        if unused:
            return drawn, smooth
        maps = _Scaled.apply(smooth[:, :n], self._read(x, slice(3, None), pixels), self.gate)
        if prior.shape[1] > n:  # contrasts are scaled as the factors' sum is
            share = maps.sum(dim=1, keepdim=True) / smooth[:, :n].sum(dim=1, keepdim=True)
            maps = torch.cat([maps, smooth[:, n:] * share], dim=1)
        return drawn, maps

    def features(self, image: Tensor, prior: Tensor, margin: int = 0) -> Tensor:
        """All but the last layer, from the prior without contrasts: (b, c, h, w) within a margin."""
        x = F.pixel_unshuffle(2 * image - 1, self.finest) if self.finest > 1 else 2 * image - 1  # images come as 0..1
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        skips = []
        for block, down in zip(self.left, self.down, strict=False):
            x = block(x)
            skips.append(x)  # from the finest stride on
            x = down(x)
        relative = torch.log1p(prior / self.typical[:, None, None])
        x = x + self.context(F.interpolate(relative, size=x.shape[2:], mode="bilinear", align_corners=False))
        x = self.left[-1](x)
        beyond, stride = margin, self.finest << len(skips)  # px of the margin that are still there
        for block, up, skip in zip(reversed(self.right), reversed(self.up), reversed(skips), strict=True):
            stride //= 2
            x = F.interpolate(up(x), scale_factor=2, mode="bilinear", align_corners=False)
            left = min(beyond, _seen_by_block(stride, self.finest))  # px beyond the core that still tell about it
            x, skip = without_border(x, (beyond - left) // stride), without_border(skip, (margin - left) // stride)
            x, beyond = block(x + skip), left
        return without_border(F.pixel_shuffle(self.spread(x), self.finest) if self.finest > 1 else x, beyond)

    def _by_rows(self, x: Tensor, prior: Tensor, side: int, margin: int, *, unused: bool) -> tuple[Tensor, Tensor]:
        """Redrawn image and maps of features, without gradients; on a processor a few rows at a time.

        Maps are the largest arrays there are: rows that stay in the processor's own memory from the last layer to the
        map take a fifth of the time. tanh(x) is 2 sigmoid(2 x) - 1, which takes an eighth.
        """
        n_rows = 8  # of a tile: with all maps of a row of 512 px half a MB
        n, (b, _, height, width) = len(self.typical), x.shape
        weight, bias = self.last.weight[:, :, 0, 0].clone(), self.last.bias[:, None].clone()  # type: ignore[index]
        most = float(self.gate) * _LARGEST_RATIO
        for each in (weight, bias):
            each[3:] *= 2 / _LARGEST_RATIO
        if unused:
            weight, bias = weight[:3], bias[:3]
        smooth = rows_drawn_out(prior, side, margin)
        drawn, maps = (_room((b, channels, height, width), prior) for channels in (3, prior.shape[1]))
        at_once = n_rows if x.device.type == "cpu" else height
        with torch.autocast(x.device.type, enabled=False):  # colours and logarithms need more than eight bits
            for y in range(0, height, at_once):
                rows = slice(y, min(y + at_once, height))
                pixels = x[:, :, rows].permute(0, 2, 3, 1).to(weight.dtype).flatten(1, 2)
                read = torch.matmul(weight, pixels.transpose(1, 2)).add_(bias).sigmoid_().unflatten(2, (-1, width))
                drawn[:, :, rows], part = read[:, :3], smooth(rows)
                if not unused:
                    ratio = read[:, 3:].mul_(2 * most).sub_(most).exp_()
                    if part.shape[1] > n:  # contrasts are scaled as the factors' sum is
                        usual = part[:, :n].sum(dim=1, keepdim=True)
                        part[:, n:] *= (part[:, :n] * ratio).sum(dim=1, keepdim=True) / usual
                    part[:, :n] *= ratio
                maps[:, :, rows] = part
        return drawn, maps

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
