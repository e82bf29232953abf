"""Losses: how far the redrawn image and the expected values are from what was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SpotLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (m, G) expected, (m, G) measured, (m,) weight -> scalar
_LEAST = 1e-6  # counts; the logarithm needs more than none


def poisson_deviance(expected: Tensor, measured: Tensor, weight: Tensor) -> Tensor:
    """Poisson deviance per count.

    Counts of a spot are sums of Poisson counts of its pixels, hence Poisson with the summed rate: this is the exact
    likelihood, up to a constant.
    """
    expected = expected + _LEAST
    saturated = torch.xlogy(measured, measured) - measured  # kept apart: the gradient of 0 log 0 is not a number
    deviance = 2 * (saturated - measured * torch.log(expected) + expected).sum(dim=1)
    return (weight * deviance).sum() / (weight * measured.sum(dim=1)).sum().clamp_min(1)


def scaled_squares(scale: NDArray[np.floating]) -> SpotLoss:
    """Mean squared error of values divided by a (G,) scale: a Gaussian likelihood if it is their spread."""
    divisor = torch.from_numpy(np.where(scale > 0, scale, 1).astype(np.float32))

    def objective(expected: Tensor, measured: Tensor, weight: Tensor) -> Tensor:
        error = torch.square((expected - measured) / divisor.to(expected.device)).mean(dim=1)
        return (weight * error).sum() / weight.sum().clamp_min(_LEAST)

    return objective


def dissimilarity(drawn: Tensor, image: Tensor, colour_weight: float = 0.0) -> Tensor:
    """1 - SSIM of two (b, 3, h, w) images with values 0 to 1, plus their weighted mean absolute difference.

    SSIM is that of Wang et al. (2004), by pytorch-msssim. It compares structure and hardly feels a colour cast, which
    the absolute difference does; Zhao et al. (2017) combine the two for the same reason.
    """
    from pytorch_msssim import ssim

    ssim_window = 11  # px
    # forward and backward take a quarter of the time so
    drawn, image = (each.contiguous(memory_format=torch.channels_last) for each in (drawn, image))
    window = min(ssim_window, (min(image.shape[2:]) - 1) // 2 * 2 + 1)
    structure = 1 - ssim(drawn, image, data_range=1.0, win_size=window)
    # not by mean(): its gradient would lie in memory in another order, and so would all that comes before it
    return structure + colour_weight * (drawn - image).abs().sum() / image.numel()
