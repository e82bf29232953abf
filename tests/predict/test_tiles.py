from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.networks.unet import UNet
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.tiles import a_core_left, device_of, predict_points, predict_tiles, tiles_of


def whole(fitted, slide, tile):
    maps = np.full((fitted.model.n_factors, *slide.grid.shape), -1, dtype=np.float32)
    picture = np.full((3, *slide.grid.shape), -1, dtype=np.float32)
    for part, found in predict_tiles(
        fitted, slide, posterior_for(fitted, slide, [Texture()])[1], device=torch.device("cpu"), tile=tile
    ):
        maps[:, *part.core.slices] = found.factors
        picture[:, *part.core.slices] = found.image
    return maps, picture


@pytest.mark.slow
@pytest.mark.parametrize("tile", [8, 40, 64])
def test_what_is_predicted_does_not_depend_on_the_tiles(fitted, tile):
    model, slide = sp.tl.load(fitted), make_slide(sp.io.section(fitted))
    expected, found = whole(model, slide, 512), whole(model, slide, tile)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_maps_are_unknown_outside_tissue_and_nowhere_else(fitted):
    slide = make_slide(sp.io.section(fitted))
    maps, picture = whole(sp.tl.load(fitted), slide, 512)
    np.testing.assert_array_equal(np.isnan(maps[0]), ~np.asarray(slide.tissue))
    assert np.isfinite(picture).all()


def test_devices_that_are_not_there_are_said():
    assert device_of("cpu").type == "cpu"
    with pytest.raises(ValueError, match="Found device='abacus', which cannot be used here"):
        device_of("abacus")


def test_some_tiles_are_predicted_as_among_all(fitted):
    model, slide = sp.tl.load(fitted), make_slide(sp.io.section(fitted))
    prior, device = posterior_for(model, slide, [Texture()])[1], torch.device("cpu")
    chosen = tiles_of(model, slide, tile=40)[3:5]
    every = dict(predict_tiles(model, slide, prior, device=device, tile=40))
    found = list(predict_tiles(model, slide, prior, device=device, tiles=chosen))
    assert [part for part, _ in found] == chosen
    for part, maps in found:
        np.testing.assert_array_equal(maps.factors, every[part].factors)


@pytest.mark.parametrize("enough", [True, False], ids=["", "too little memory for whole tiles"])
def test_points_are_predicted_as_by_the_maps(fitted, rng, monkeypatch, enough):
    """With the network, and by the prior alone: as the maps are where the gate is shut."""
    forward = UNet.forward

    def limited(self, image, prior, margin=0, pixels=None):
        if pixels is not None and not enough:
            raise torch.OutOfMemoryError("as if the memory were small")  # noqa: EM101
        return forward(self, image, prior, margin, pixels)

    monkeypatch.setattr(UNet, "forward", limited)
    model, slide = sp.tl.load(fitted), make_slide(sp.io.section(fitted))
    prior, device = posterior_for(model, slide, [Texture()])[1], torch.device("cpu")
    shut = replace(model, weights={**model.weights, "gate": torch.zeros(())})
    for tile in tiles_of(model, slide, tile=64)[:6]:
        y, x = (rng.integers(0, side, 200) for side in tile.core.shape)
        ((full, alone),) = predict_points(model, slide, prior, [(tile, y, x)], device=device)
        for found, fitted_model in ((full, model), (alone, shut)):
            ((_, maps),) = predict_tiles(fitted_model, slide, prior, device=device, tiles=[tile], tile=64)
            np.testing.assert_allclose(found, np.nan_to_num(maps.factors[:, y, x]), rtol=2e-4, atol=1e-6)


def test_threads_that_overlap_leave_as_many_as_there_were():
    """In whatever order they leave."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        first, second = a_core_left(torch.device("cpu")), a_core_left(torch.device("cpu"))
        first.__enter__()
        assert torch.get_num_threads() == 3
        second.__enter__()
        assert torch.get_num_threads() == 3
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
