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
    above, below = _between(row, height, stride)
    left, beside = _between(column, width, stride)
    found = torch.zeros(1, dtype=prior.dtype, device=prior.device)
    for y, by_y in ((above, 1 - below), ((above + 1).clamp_max(height - 1), below)):
        for x, by_x in ((left, 1 - beside), ((left + 1).clamp_max(width - 1), beside)):
            place = (crop * height + y) * width + x
            found = found + values_at(prior, place) * (by_y * by_x)[:, None]
    return found


def _between(at: Tensor, n: int, stride: int) -> tuple[Tensor, Tensor]:
    """Which of n blocks' middles lies before each pixel along an axis, and how far it is to the next: 0 to 1."""
    place = ((at + 0.5) / stride - 0.5).clamp(0, n - 1)
    before = place.long()
    return before, place - before
