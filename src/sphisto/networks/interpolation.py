"""Maps as tensors at some pixels; priors on a coarse grid brought to pixels, linearly between the middles of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def values_at(maps: Tensor, pixels: Tensor) -> Tensor:
    """(n, c) values of (b, c, h, w) maps at some pixels, flat indices into (b, h, w)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, pixels)


def drawn_out(prior: Tensor, stride: int, margin: int = 0) -> Tensor:
    """Interpolate (b, K, h, w) to pixels, without those of a margin: all but the next points beyond it are left out."""
    beyond = max(margin // stride - 1, 0)
    height, width = prior.shape[2:]
    seen = prior[..., beyond : height - beyond, beyond : width - beyond]
    fine = F.interpolate(seen, scale_factor=stride, mode="bilinear", align_corners=False)
    rest = margin - beyond * stride
    return fine[..., rest : fine.shape[2] - rest, rest : fine.shape[3] - rest]


def drawn_out_at(prior: Tensor, pixels: Tensor, stride: int) -> Tensor:
    """Interpolate (b, K, h, w) to some pixels alone, flat indices into (b, h * stride, w * stride): (n, K)."""
    _, _, height, width = prior.shape
    row, column = pixels // (width * stride), pixels % (width * stride)
    crop, row = row // (height * stride), row % (height * stride)
    by_y, by_x = _between(row, height, stride), _between(column, width, stride)
    corners = [(y, x) for y in by_y for x in by_x]
    place = torch.stack([(crop * height + y) * width + x for (y, _), (x, _) in corners], dim=1)
    weight = torch.stack([wy * wx for (_, wy), (_, wx) in corners], dim=1)
    blocks = prior.permute(0, 2, 3, 1).flatten(0, 2)
    # the weighted sum of four rows, in one pass: far less time than four products and sums take
    return F.embedding_bag(place, blocks, per_sample_weights=weight.to(prior.dtype), mode="sum")


def _between(at: Tensor, n: int, stride: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Of n blocks along an axis those before and after each pixel, by their middles, each with its weight."""
    place = ((at + 0.5) / stride - 0.5).clamp(0, n - 1)
    before = place.long()
    beyond = place - before
    return (before, 1 - beyond), ((before + 1).clamp_max(n - 1), beyond)
