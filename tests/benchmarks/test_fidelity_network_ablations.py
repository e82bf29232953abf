from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

QUICK = {"max_epochs": 1, "config": {"crop": 64, "image_share": 0.0}}


@pytest.fixture(scope="module")
def in_full(toy_case):
    from benchmarks.fidelity.methods.network_ablations import network

    return network(toy_case, **QUICK)


def test_in_full_the_network_shows_and_gated_it_need_not(toy_case, in_full):
    """There are too few spots to tell whether it helps: gated it is the prior, with factors of all spots."""
    from benchmarks.fidelity.methods import ABLATIONS
    from benchmarks.fidelity.methods.network_ablations import network

    gated, prior = network(toy_case, share=None, **QUICK).counts, ABLATIONS["prior-as_it_is"](toy_case).counts
    np.testing.assert_allclose(gated, prior, rtol=0.02, atol=1e-3)
    assert np.abs(in_full.counts - prior).max() > 0.05 * prior.mean()
    assert "gate 1; the tissue's brightness is redrawn as" in in_full.note


def test_a_gated_network_without_changes_is_sphisto_itself(toy_case):
    from benchmarks.fidelity.methods import ABLATIONS, METHODS

    alone = ABLATIONS["network-gated"](toy_case, max_epochs=1).counts
    np.testing.assert_allclose(alone, METHODS["sphisto"](toy_case, max_epochs=1).counts, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize(
    "change",
    ["negative_binomial", "gaussian", "squared_image_loss", "redrawn_from_factors", "colour_jitter", "averaged_flips"],
)
def test_each_change_shows_and_is_put_back(change, toy_case, in_full):
    from benchmarks.fidelity.methods import network_ablations

    from sphisto.model import batches, training
    from sphisto.model.networks import NETWORKS

    before = training._objective, training.dissimilarity, batches._turned, NETWORKS["unet"]
    changed = getattr(network_ablations, change)(toy_case, **QUICK).counts
    assert np.isfinite(changed).all()
    assert not np.allclose(changed, in_full.counts, rtol=1e-6)
    assert before == (training._objective, training.dissimilarity, batches._turned, NETWORKS["unet"])


def test_a_negative_binomial_of_large_size_is_poisson(rng):
    from benchmarks.fidelity.methods.network_ablations import negative_binomial_deviance
    from scipy.stats import nbinom

    from sphisto.model.objectives import poisson_deviance

    expected, measured = torch.from_numpy(rng.gamma(2, 2, (6, 5))), torch.from_numpy(rng.poisson(4, (6, 5))).double()
    weight = torch.tensor([1, 0.1, 1, 0, 1, 1], dtype=torch.float64)
    same = negative_binomial_deviance(torch.full((5,), 1e9, dtype=torch.float64))(expected, measured, weight)
    assert float(same) == pytest.approx(float(poisson_deviance(expected, measured, weight)), rel=1e-5)
    size = torch.tensor([0.5, 1, 2, 5, 20], dtype=torch.float64)

    def log_chance(mean):
        return nbinom.logpmf(measured.numpy(), size.numpy(), (size / (size + mean)).numpy())

    deviance = 2 * (log_chance(measured) - log_chance(expected)).sum(axis=1)
    by_hand = (weight.numpy() * deviance).sum() / (weight.numpy() * measured.numpy().sum(axis=1)).sum()
    found = negative_binomial_deviance(size)(expected, measured, weight)
    assert float(found) == pytest.approx(by_hand, rel=1e-4)
    assert found < poisson_deviance(expected, measured, weight)


def test_without_counts_in_mind_errors_are_squared(toy_case):
    from benchmarks.fidelity.methods import network_ablations

    seen = {}

    def stop(task):
        objective = network_ablations.training._objective(task, np.arange(len(task.factors.genes)))
        spread = task.slide.spots.values[np.flatnonzero(task.learned)].toarray().std(axis=0)
        measured = torch.zeros(1, len(spread))
        seen["loss"] = float(objective(torch.from_numpy(2 * spread)[None], measured, torch.ones(1)))
        raise StopIteration

    with (
        network_ablations.changed({"sphisto.model.training:_Training": stop}),
        pytest.raises(StopIteration),
    ):
        network_ablations.gaussian(toy_case, **QUICK)
    assert seen["loss"] == pytest.approx(4, rel=1e-3)  # two standard deviations


def test_other_stain_leaves_white_white_and_multiplies_optical_density(rng):
    from benchmarks.fidelity.methods.network_ablations import stained

    image = rng.integers(20, 256, (3, 40, 40)).astype(np.uint8)
    image[:, :5] = 255
    gains = np.array([0.8, 1.0, 1.2])
    changed = stained(image, gains)
    assert (changed[:, :5] == 255).all()
    np.testing.assert_array_equal(changed[1], image[1])
    before, after = (-np.log((x + 1.0) / 256) for x in (image, changed))
    np.testing.assert_allclose(after, gains[:, None, None] * before, atol=0.06)


def test_jitter_changes_colours_and_nothing_else(toy_case):
    """The crops and their spots are those of the other rows."""
    from benchmarks.fidelity.methods import network_ablations

    seen = []

    def stop(task):
        crops = network_ablations.training.Crops(
            task.slide, task.slide.footprint(), task.neighbours, np.arange(3), task.learned, task.held_out,
            (64, 64), 2, 1, task.seed, 0,
        )  # fmt: skip
        seen.append(crops[0])
        raise StopIteration

    for run in (network_ablations.network, network_ablations.colour_jitter):
        with (
            network_ablations.changed({"sphisto.model.training:_Training": stop}),
            pytest.raises(StopIteration),
        ):
            run(toy_case, **QUICK)
    usual, jittered = seen
    torch.testing.assert_close(usual.values, jittered.values)
    torch.testing.assert_close(usual.prior, jittered.prior)
    torch.testing.assert_close(usual.pixel, jittered.pixel)
    assert 0.01 < (usual.picture - jittered.picture).abs().mean() < 0.2


def test_averaged_flips_draw_a_mirrored_picture_mirrored(rng):
    from benchmarks.fidelity.methods.network_ablations import FLIPS, AveragedFlips

    torch.manual_seed(0)
    module = AveragedFlips(torch.ones(4)).eval()
    torch.nn.init.normal_(module.last.weight)
    picture, prior = torch.rand(1, 3, 32, 48), torch.rand(1, 5, 4, 6) + 0.1
    drawn, maps = module(picture, prior)
    for axes in FLIPS:
        for whole, found in zip((drawn, maps), module(picture.flip(axes), prior.flip(axes)), strict=True):
            torch.testing.assert_close(found.flip(axes), whole)
    alone = module.train()(picture, prior)[1]
    assert not torch.allclose(alone, maps)
    assert not torch.allclose(module(picture.flip(-1), prior.flip(-1))[1].flip(-1), alone, rtol=1e-3)


def test_the_redrawn_picture_is_told_by_the_factor_maps():
    from benchmarks.fidelity.methods.network_ablations import RedrawnFromFactors

    from sphisto.model.unet import UNet

    torch.manual_seed(0)
    module = RedrawnFromFactors(torch.tensor([1.0, 2.0]))
    usual = UNet(torch.tensor([1.0, 2.0]))
    usual.load_state_dict({key: value for key, value in module.state_dict().items() if "redraw" not in key})
    picture, prior = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 4, 4) + 0.1
    drawn, maps = module(picture, prior)
    torch.testing.assert_close(maps, usual(picture, prior)[1])
    even = torch.ones(1, 2, 4, 4)
    # a network that has learned nothing gives the prior, so an even prior gives an even picture, whatever was seen
    assert drawn.std() > 1e-3
    assert module(picture, even)[0].std(dim=(2, 3)).max() < 1e-5


def test_an_ensemble_is_the_mean_of_its_members(toy_case, monkeypatch):
    from benchmarks.fidelity.cases import Prediction
    from benchmarks.fidelity.methods import network_ablations

    monkeypatch.setattr(network_ablations, "network", lambda case, **_: Prediction(np.full((2, 3), float(case.seed))))
    np.testing.assert_array_equal(network_ablations.ensemble(toy_case).counts, np.full((2, 3), 1_000.0))


def test_by_the_picture_alone_other_spots_at_the_end_make_no_difference(toy_case):
    from benchmarks.fidelity.methods import network_ablations
    from scipy import sparse

    from sphisto.core.tiles import Window

    with network_ablations.changed(network_ablations.BLIND):
        fitted, _ = network_ablations.trained(toy_case, **QUICK)
    spots = toy_case.slide.spots
    other = replace(spots, values=sparse.csr_array(spots.values * 2))
    cases = [toy_case, replace(toy_case, slide=replace(toy_case.slide, measured=other))]
    priors = [network_ablations.nothing_told(case, fitted).prior(Window(0, 0, 64, 64)) for case in cases]
    np.testing.assert_array_equal(*priors)
    assert np.ptp(priors[0], axis=(1, 2)).max() == 0
    found = network_ablations.predicted(toy_case, fitted, network_ablations.nothing_told(toy_case, fitted))
    np.testing.assert_array_equal(network_ablations.picture_only(toy_case, **QUICK).counts, found.counts)
