"""Maps as tensors at some pixels; priors on a coarse grid brought to pixels, linearly between the middles of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def without_border(maps: Tensor, border: int) -> Tensor:
    """(b, c, h, w) maps without some px at each side."""
    return maps[..., border : maps.shape[2] - border, border : maps.shape[3] - border]


def values_at(maps: Tensor, pixels: Tensor) -> Tensor:
    """(n, c) values of (b, c, h, w) maps at some pixels, flat indices into (b, h, w)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2).index_select(0, pixels)


def drawn_out(prior: Tensor, stride: int, margin: int = 0) -> Tensor:
    """Interpolate (b, K, h, w) to pixels, without those of a margin: all but the next points beyond it are left out."""
    beyond = max(margin // stride - 1, 0)
    fine = F.interpolate(without_border(prior, beyond), scale_factor=stride, mode="bilinear", align_corners=False)
    return without_border(fine, margin - beyond * stride)


def rows_drawn_out(prior: Tensor, stride: int, margin: int = 0) -> Callable[[slice], Tensor]:
    """Interpolate as :func:`drawn_out` does, some rows at a time: a function of those wanted, (b, K, rows, w)."""
    beyond = max(margin // stride - 1, 0)
    seen, left = without_border(prior, beyond), margin - beyond * stride
    (height, width), like = seen.shape[2:], {"dtype": prior.dtype, "device": prior.device}
    with torch.autocast(prior.device.type, enabled=False):
        columns = torch.arange(left, width * stride - left, device=prior.device)
        wide = torch.matmul(seen, _weights(columns, width, stride, **like).T)

    def rows(wanted: slice) -> Tensor:
        at = torch.arange(left + wanted.start, left + wanted.stop, device=prior.device)
        first, last = (min(max((left + y) // stride, 1), height - 1) for y in (wanted.start, wanted.stop - 1))
        near = slice(first - 1, last + 2)  # blocks between whose middles these rows lie
        return torch.matmul(_weights(at, height, stride, **like)[:, near], wide[:, :, near])

    return rows


def _weights(at: Tensor, n: int, stride: int, **like: Any) -> Tensor:
    """(m, n) weights of n blocks along an axis at some pixels."""
    return sum(F.one_hot(place, n).to(**like) * weight[:, None].to(**like) for place, weight in _between(at, n, stride))  # type: ignore[return-value]


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
