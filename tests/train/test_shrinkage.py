from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import sphisto as sp
from sphisto.config import FitConfig, TrainConfig
from sphisto.core.tiles import plan_tiles
from sphisto.features.texture import Texture
from sphisto.io.slides import make_slide
from sphisto.networks import registry
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.train.fit import fit
from sphisto.train.recipe import Recipe
from sphisto.train.shrinkage import _expected_best, _fullest, _with_share, choose_gate, report_gate


@pytest.fixture
def fitted(small_toy, tmp_path):
    slide = make_slide(sp.io.section(small_toy))
    found, _ = fit(
        slide, Recipe("unet", FitConfig(train=TrainConfig(max_epochs=2)), [Texture()], 0), genes=(), device=torch.device("cpu"),
        checkpoint=tmp_path / "c",
    )  # fmt: skip
    return slide, found


def posterior_of(slide, model, known):
    config = FitConfig()
    return fit_field(slide, model, known, features_of(slide, [Texture()], config), config).given("all")


def choose(slide, fitted, values, loadings_over=1.0):
    """Gate of a network whose last layer says ``values`` for every factor."""
    weights = {name: tensor.clone() for name, tensor in fitted.weights.items()}
    weights["last.weight"][3:] = 0
    weights["last.bias"][3:] = torch.as_tensor(values, dtype=torch.float32)
    known = np.arange(len(slide.spots.centers)) % 3 > 0
    posterior = posterior_of(slide, fitted.model, known)
    model = replace(fitted.model, loadings=fitted.model.loadings / loadings_over)
    return choose_gate(replace(fitted, weights=weights, model=model), slide, posterior, ~known, torch.device("cpu"))


def test_a_network_that_makes_things_worse_is_shut_out(fitted):
    slide, found = fitted
    gate, loss, promising = choose(slide, found, 3.0)
    assert gate == 0
    assert not promising
    assert loss == pytest.approx(choose(slide, found, 0.0).loss)  # that of the prior


def test_a_network_that_helps_is_let_in(fitted):
    """A prior that says half of the truth is put right by a ratio of two."""
    slide, found = fitted
    gate, loss, promising = choose(slide, found, np.log(2.0), loadings_over=2.0)
    assert gate == 1
    assert promising
    assert loss < choose(slide, found, 0.0, loadings_over=2.0).loss


def gains_of(rng, slope, curve, noise, n=40):
    """Gains of n spots by share: a parabola, and noise that grows with the share as that of one network does."""
    error = rng.normal(0, noise, n)
    error -= error.mean()
    return {share: slope * share - curve * share**2 / 2 + share * error for share in TrainConfig().shares}


def test_the_share_is_the_best_one_where_the_gain_is_certain_and_smaller_where_it_is_not(rng):
    certain, _ = _expected_best(gains_of(rng, 1.0, 2.0, 1e-3))
    assert certain == 0.5
    assert _expected_best(gains_of(rng, 1.0, 0.0, 1e-3))[0] == 1.0
    found = [_expected_best(gains_of(rng, 1.0, 2.0, noise)) for noise in (1e-3, 3.0, 5.0, 7.0)]
    shares, gains = zip(*found, strict=True)
    assert list(shares) == sorted(shares, reverse=True)
    assert list(gains) == sorted(gains, reverse=True)
    assert shares[-1] == gains[-1] == 0  # 7 / sqrt(40) is above the slope


def test_of_networks_that_may_or_may_not_help_new_spots_gain_more_and_less_is_promised(rng):
    """Than by the share that is best on the watched spots, where the true slopes are as large as chance is."""
    true = rng.normal(0, 1, 2_000)
    promised, kept, seemed, lost = np.zeros((4, len(true)))
    for i, slope in enumerate(true):
        gains = gains_of(rng, slope + rng.normal(), 1.0, np.sqrt(40))
        share, promised[i] = _expected_best(gains)
        means = {0.0: 0.0} | {share: gain.mean() for share, gain in gains.items()}
        best = max(means, key=lambda share: means[share])
        kept[i], seemed[i], lost[i] = slope * share - share**2 / 2, means[best], slope * best - best**2 / 2
    assert kept.mean() > lost.mean()
    assert 0 <= promised.mean() - kept.mean() < 0.7 * (seemed.mean() - lost.mean())


def test_without_watched_spots_or_shares_the_prior_is_kept(fitted):
    slide, found = fitted
    never = replace(found, config=FitConfig(train=TrainConfig(shares=(0.0,))))
    assert choose(slide, never, np.log(2.0), loadings_over=2.0).gate == 0
    known = np.ones(len(slide.spots.centers), dtype=bool)
    posterior = posterior_of(slide, found.model, known)
    assert choose_gate(found, slide, posterior, ~known, torch.device("cpu")) == (0, 0, False)


@pytest.mark.parametrize(
    ("gate", "n_watched", "said"),
    [(0.0, 1, "too few spots"), (0.0, 20, "did not help"), (0.25, 20, "25% of its correction is used")],
)
def test_what_was_decided_is_said(caplog, gate, n_watched, said):
    caplog.set_level("INFO", "sphisto")
    report_gate(gate, n_watched)
    assert said in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_shares_are_what_the_network_draws_with_them(rng, share):
    """Contrasts too, which have signs and cross zero: they are multiplied by what becomes of the sum."""
    network = registry.network("unet").build(torch.ones(3))
    with torch.no_grad():
        network.last.weight[3:] = torch.as_tensor(rng.normal(0, 0.3, network.last.weight[3:].shape))
    picture = torch.as_tensor(rng.random((1, 3, 16, 16)), dtype=torch.float32)
    prior = torch.as_tensor(rng.random((1, 5, 2, 2)), dtype=torch.float32)
    prior[:, 3:] = torch.as_tensor([[[[-1.0, 1.0], [0.5, -0.5]]] * 2])

    def draw(gate):
        network.gate.fill_(gate)
        with torch.no_grad():
            return network(picture, prior)[1][0].reshape(5, -1).numpy()

    np.testing.assert_allclose(_with_share(draw(1.0), draw(0.0), 2, share), draw(share), rtol=1e-4, atol=1e-6)


def test_the_tiles_with_most_of_the_spots_are_looked_at(small_toy):
    """Counted in the footprints of the whole slide, drawn at once."""
    slide = make_slide(sp.io.section(small_toy))
    spots = slide.footprint().select(np.arange(0, len(slide.spots.centers), 3))
    tiles, whole = plan_tiles(slide.grid.shape, size=32), spots.drawn()
    sizes = [len(whole.within(tile.core).y) for tile in tiles]
    chosen, inside = _fullest(tiles, spots, 4, 1)
    assert sorted(len(whole.within(tile.core).y) for tile in chosen) == sorted(sizes)[-4:]
    seen = np.zeros(slide.grid.shape)
    for tile in chosen:
        seen[tile.core.slices] = 1
    np.testing.assert_array_equal(inside, whole.pool(seen)[:, 0] == whole.covered)
    assert 0 < inside.sum() < len(spots)


@pytest.mark.parametrize("least", [6, 12, 1_000])
def test_more_tiles_are_looked_at_where_few_spots_lie_in_one(small_toy, least):
    """Tiles of the size of a spot: hardly any lies in one, and a few tiles hold none."""
    slide = make_slide(sp.io.section(small_toy))
    spots = slide.footprint().select(np.arange(0, len(slide.spots.centers), 3))
    tiles = plan_tiles(slide.grid.shape, size=16)
    assert _fullest(tiles, spots, 4, 1)[1].sum() < 6
    chosen, inside = _fullest(tiles, spots, 4, least)
    assert min(least, len(spots)) <= inside.sum() <= len(spots)
    assert 4 < len(chosen) <= len(tiles)
