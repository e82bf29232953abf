from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.core.pooling import TilePool
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.tiles import predict_tiles, tiles_of
from sphisto.scoring.at_spots import pool_posterior


@pytest.mark.parametrize("size", [32, 512])
def test_the_prior_alone_is_the_network_switched_off(fitted, small_toy_once, size):
    model, slide = sp.tl.load(fitted), make_slide(sp.io.section(small_toy_once))
    spots = slide.footprint().select(np.arange(0, len(slide.spots.centers), 3))
    off = replace(model, weights={**model.weights, "gate": torch.zeros(())})
    prior, tiles = posterior_for(model, slide, [Texture()])[1], tiles_of(model, slide, tile=size)
    pool = TilePool(spots, model.model.n_factors)
    for tile, maps in predict_tiles(off, slide, prior, device=torch.device("cpu"), tiles=tiles):
        pool.add(tile.core, maps.factors)
    np.testing.assert_allclose(pool_posterior(prior, slide, spots, tiles), pool.means(), rtol=1e-4, atol=1e-5)
