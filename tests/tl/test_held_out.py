from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.core.pooling import TilePool
from sphisto.core.tiles import plan_tiles
from sphisto.io.slides import make_slide
from sphisto.predict.conditioning import posterior_for
from sphisto.predict.tiles import predict_tiles, tiles_of
from sphisto.scoring import baselines
from sphisto.tl import _held_out


@pytest.fixture(scope="module")
def slide(small_toy_once):
    return make_slide(sp.io.section(small_toy_once))


@pytest.fixture(scope="module")
def held_out(slide):
    return _held_out.hold_out(slide, "random", 0.3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def spots(slide, held_out):
    return slide.footprint().select(held_out)


def test_empty_spots_are_not_held_out(small_toy):
    counts = small_toy.X.toarray()
    counts[:20] = 0
    small_toy.X = counts
    held_out = _held_out.hold_out(make_slide(sp.io.section(small_toy)), "random", 0.5, np.random.default_rng(0))
    assert not held_out[:20].any()
    assert held_out.sum() == round(0.5 * (small_toy.n_obs - 20))


def test_blocks_are_held_out_with_their_neighbours():
    slide = make_slide(sp.io.section(sp.datasets.toy(256, 256, pitch_um=24, rng=1)))
    near = np.linalg.norm(slide.spots.centers[:, None] - slide.spots.centers, axis=-1) < 1.2 * slide.spots.pitch
    together = {}
    for split in ("random", "blocks"):
        held_out = _held_out.hold_out(slide, split, 0.2, np.random.default_rng(0))
        assert held_out.mean() == pytest.approx(0.2, abs=0.08)
        together[split] = near[held_out][:, held_out].sum() / near[held_out].sum()
    assert together["blocks"] > together["random"] + 0.3


def test_what_is_left_is_the_slide_of_the_other_spots(small_toy, slide, held_out):
    left = _held_out.without(slide, held_out)
    alone = make_slide(sp.io.section(small_toy[~held_out].copy()))
    np.testing.assert_allclose(left.spots.centers, alone.spots.centers)
    np.testing.assert_array_equal(left.spots.values.toarray(), alone.spots.values.toarray())
    assert left.spots.pitch == pytest.approx(alone.spots.pitch)


@pytest.mark.parametrize("points", [200_000, 100])
def test_baselines_are_those_of_their_module_pooled(slide, held_out, spots, points, monkeypatch):
    monkeypatch.setattr(_held_out, "_MOST_POINTS", points)
    train = _held_out.without(slide, held_out)
    ((_, nearest),) = baselines.nearest(train, plan_tiles(slide.grid.shape))
    np.testing.assert_allclose(_held_out.nearest(train, spots).values, spots.mean(nearest), rtol=1e-5)
    ((_, smooth),) = baselines.gaussian(train, plan_tiles(slide.grid.shape))
    found, width = _held_out.gaussian(train, spots)
    np.testing.assert_allclose(found.values, spots.mean(smooth), rtol=1e-5)
    assert width / train.spots.pitch == pytest.approx(0.6, abs=0.5)


def test_very_many_spots_are_not_all_looked_at(slide, held_out, spots, monkeypatch):
    assert _held_out.some_of(held_out, np.random.default_rng(0)).tolist() == np.flatnonzero(held_out).tolist()
    train = _held_out.without(slide, held_out)
    monkeypatch.setattr(_held_out, "_MOST_SCORED", 4)
    monkeypatch.setattr(_held_out, "_MOST_CHOOSING", 20)
    some = _held_out.some_of(held_out, np.random.default_rng(0))
    assert len(some) == 4
    assert held_out[some].all()
    assert _held_out.gaussian(train, spots)[1] / train.spots.pitch == pytest.approx(0.6, abs=0.5)


@pytest.mark.parametrize("size", [32, 512])
def test_the_prior_alone_is_the_network_switched_off(fitted, slide, spots, size):
    model = sp.tl.load(fitted)
    off = replace(model, weights={**model.weights, "gate": torch.zeros(())})
    prior, tiles = posterior_for(model, slide), tiles_of(model, slide, tile=size)
    pool = TilePool(spots, model.model.n_factors)
    for tile, maps in predict_tiles(off, slide, prior, device=torch.device("cpu"), tiles=tiles):
        pool.add(tile.core, maps.factors)
    np.testing.assert_allclose(_held_out.pool_posterior(prior, slide, spots, tiles), pool.means(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_too_few_spots_are_said(slide, split):
    few = _held_out.without(slide, np.arange(len(slide.spots.centers)) >= 12)
    with pytest.raises(ValueError, match=r"12 spots with counts, of which share=0.2 holds out .*at least 5 held out"):
        _held_out.hold_out(few, split, 0.2, np.random.default_rng(0))
