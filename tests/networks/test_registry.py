from __future__ import annotations

import numpy as np
import pytest
import torch

from sphisto.networks.registry import NETWORKS, network
from sphisto.networks.unet import UNet, _Scaled

K = 4
names = pytest.mark.parametrize("name", list(NETWORKS))


def build(name, *, trained=True):
    torch.manual_seed(0)
    module = network(name).build(torch.full((K,), 2.0)).eval()
    if trained:  # as after training: no layer is zero
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return module


@names
def test_outputs_are_pictures_and_non_negative_maps(name):
    picture, prior = torch.rand(2, 3, 64, 96), torch.rand(2, K, 8, 12)
    drawn, maps = build(name)(picture, prior)
    assert drawn.shape == picture.shape
    assert maps.shape == (2, K, 64, 96)
    assert (drawn >= 0).all()
    assert (drawn <= 1).all()
    assert (maps >= 0).all()


@names
def test_no_pixel_sees_farther_than_the_reach(name):
    spec, module = network(name), build(name).double()
    side = 2 * (spec.reach + 2 * spec.stride)
    middle = side // 2
    prior = torch.rand(1, K, side // 8, side // 8, dtype=torch.float64)
    for at in range(middle, middle + spec.stride):
        picture = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
        drawn, maps = module(picture, prior)
        (drawn[0, :, at, at].sum() + maps[0, :, at, at].sum()).backward()
        seen = picture.grad.abs().sum((0, 1)).nonzero()
        assert (seen - at).abs().max() <= spec.reach


def test_the_gradient_of_a_unets_maps_is_that_of_autograd():
    smooth, gate = torch.rand(1, K, 5, 6), torch.tensor(0.7)
    read = (4 * torch.randn(1, K, 5, 6)).requires_grad_()
    expected = smooth * torch.exp(0.7 * 3 * torch.tanh(read / 3))
    found = _Scaled.apply(smooth, read, gate)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(smooth)
    grads = [torch.autograd.grad((maps * weight).sum(), read)[0] for maps in (found, expected)]
    torch.testing.assert_close(*grads)


def test_a_unet_begins_by_passing_on_the_pixels_it_takes_together():
    """Three colours of 2 x 2 px, so that they need not be taken apart again."""
    module = build("unet", trained=False)
    pixels = torch.nn.functional.pixel_unshuffle(torch.rand(1, 3, 16, 24), module.finest)
    torch.testing.assert_close(module.stem(pixels)[:, : pixels.shape[1]], pixels)


def test_a_unet_may_be_narrower_than_the_pixels_it_takes_together():
    module = UNet(torch.ones(3), widths=[8, 12, 16], finest=2).eval()
    drawn, maps = module(torch.rand(1, 3, 32, 32), torch.ones(1, 3, 4, 4))
    assert drawn.shape == maps.shape == (1, 3, 32, 32)


def test_a_unet_that_learned_nothing_is_the_interpolation():
    module = build("unet", trained=False)
    prior = torch.rand(1, K, 8, 8)
    _, maps = module(torch.rand(1, 3, 64, 64), prior)
    smooth = torch.nn.functional.interpolate(prior, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, smooth)


def test_a_closed_gate_is_the_interpolation_too():
    module = build("unet")
    module.gate.zero_()
    prior = torch.rand(1, K, 8, 8)
    _, maps = module(torch.rand(1, 3, 64, 64), prior)
    smooth = torch.nn.functional.interpolate(prior, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps, smooth)


def test_contrasts_are_scaled_with_the_sum_of_the_factors():
    module, prior = build("unet"), torch.cat([torch.rand(1, K, 8, 8), torch.randn(1, 2, 8, 8)], dim=1)
    _, maps = module(torch.rand(1, 3, 64, 64), prior)
    smooth = torch.nn.functional.interpolate(prior, size=(64, 64), mode="bilinear", align_corners=False)
    share = maps[:, :K].sum(dim=1) / smooth[:, :K].sum(dim=1)
    torch.testing.assert_close(maps[:, K:], smooth[:, K:] * share[:, None])


def test_unknown_networks_list_the_known():
    with pytest.raises(ValueError, match="Found network='resnet'; expected one of 'unet', 'prototype'"):
        network("resnet")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stride", [2, 8])
def test_a_margin_leaves_out_pixels_and_changes_none(name, stride):
    spec = NETWORKS[name]
    torch.manual_seed(0)
    module = spec.build(torch.ones(3)).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    side, margin = 10 * spec.stride, 2 * spec.stride
    picture, prior = torch.rand(1, 3, side, side), 1 + torch.rand(1, 4, side // stride, side // stride)
    with torch.inference_mode():
        for whole, part in zip(module(picture, prior), module(picture, prior, margin), strict=True):
            inner = whole[..., margin:-margin, margin:-margin]
            np.testing.assert_allclose(part, inner, rtol=1e-5, atol=1e-6)
            assert part.shape == inner.shape
