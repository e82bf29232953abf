from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

QUICK = {"max_epochs": 1, "config": {"crop": 64, "image_share": 0.0}}


def places(rng, n=40):
    return rng.uniform(0, 100, (n, 2))


def test_a_trend_that_tells_all_leaves_nothing_to_krige(rng):
    from benchmarks.fidelity.methods.kriging_with_network import Trend

    from sphisto.model.neighbours import _quantities

    maps = rng.gamma(2, 5, (2, 100, 100)).astype(np.float32)
    centers = places(rng)
    at_spots = maps[:, *centers.astype(int).T].T.astype(np.float64)
    told = _quantities(at_spots, 0, None)
    field = Trend(maps, at_spots, 0).fit(centers, np.zeros((40, 1)), told, 15.0, apart=1)
    np.testing.assert_allclose(field.left_out(), told, atol=1e-6)
    np.testing.assert_allclose(field.at_spots(), told, atol=1e-6)
    elsewhere = places(rng)
    found = field.at(elsewhere, np.zeros((40, 1)), field.weights(np.zeros(40, dtype=bool)))
    np.testing.assert_allclose(found, _quantities(maps[:, *elsewhere.astype(int).T].T, 0, None), atol=1e-5)


def test_a_trend_that_tells_nothing_is_not_used(rng):
    from benchmarks.fidelity.methods.kriging_with_network import Trend

    from sphisto.core.kriging import fit_kriging

    centers, nobody = places(rng), np.zeros(40, dtype=bool)
    told = np.sin(centers[:, :1] / 20) + np.array([[3.0, 4.0]])
    even = np.full((1, 100, 100), 7, dtype=np.float32)
    trend = Trend(even, np.full((40, 1), 7.0), 0)
    field = trend.fit(centers, np.zeros((40, 1)), told, 15.0, apart=1)
    usual = fit_kriging(centers, np.zeros((40, 1)), told, 15.0, apart=1)
    points, drift = places(rng), np.zeros((40, 1))
    np.testing.assert_allclose(
        field.at(points, drift, field.weights(nobody)), usual.at(points, drift, usual.weights(nobody)), atol=1e-6
    )
    np.testing.assert_allclose(field.left_out(), usual.left_out(), atol=1e-6)


def test_what_is_said_of_spots_that_were_not_learned_from_knows_nothing_of_them(toy_case):
    from benchmarks.fidelity.methods.kriging_with_network import by_picture
    from scipy import sparse

    from sphisto.model.fit import find_factors

    spots = toy_case.slide.spots
    learned = np.arange(len(spots.centers)) % 2 == 0
    factors = find_factors(spots, np.ones_like(learned), 8, 0)
    values = spots.values.toarray()
    values[~learned] = values[~learned][::-1]
    other = replace(toy_case, slide=replace(toy_case.slide, measured=replace(spots, values=sparse.csr_array(values))))
    first, second = (by_picture(case, factors, learned, QUICK) for case in (toy_case, other))
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert first[:, ~np.asarray(toy_case.slide.tissue)].max(initial=0) == 0


def test_speaking_at_every_pixel_agrees_with_speaking_at_a_few(toy_case):
    from benchmarks.fidelity.methods.kriging_with_network import at_every_pixel
    from benchmarks.fidelity.methods.networks import kriged

    from sphisto.core.tiles import Window

    told, _ = kriged(toy_case)
    fine = at_every_pixel(told, toy_case)
    window, stride = Window(96, 96, 160, 160), told.stride
    coarse = told.prior(window)
    blocks = fine.prior(window).reshape(len(coarse), 64 // stride, stride, 64 // stride, stride).mean(axis=(2, 4))
    # not where roots are cut off at none, or a spot's own tissue comes to a point
    assert (np.abs(blocks - coarse) < 0.1 * coarse + 0.02 * coarse.mean()).mean() > 0.99


def test_hidden_features_are_what_the_last_layer_sees(toy_case):
    from benchmarks.fidelity.methods.kriging_with_network import hidden_features
    from benchmarks.fidelity.methods.network_ablations import nothing_told, trained

    from sphisto.core.tiles import Window, read_window

    fitted, _ = trained(toy_case, **QUICK)
    features = hidden_features(toy_case, fitted)
    assert features.shape == (16, *toy_case.slide.grid.shape)
    module, window = fitted.module(), Window(64, 64, 256, 256)
    picture = torch.from_numpy(read_window(toy_case.slide.image, window).astype(np.float32) / 255)
    prior = torch.from_numpy(nothing_told(toy_case, fitted).prior(window))[: len(fitted.level)]
    with torch.inference_mode():
        whole = module.features(picture[None], prior[None])[0, :, 64:-64, 64:-64]
        last = module.last(torch.from_numpy(features)[None])[0, :, 128:192, 128:192]
    torch.testing.assert_close(last, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", ["external_drift", "features_in_covariance"])
def test_they_change_the_prior_and_beat_chance(change, toy_case):
    from benchmarks.fidelity.methods import ABLATIONS, kriging_with_network
    from benchmarks.fidelity.scores import headline

    found = getattr(kriging_with_network, change)(toy_case, **QUICK)
    usual = ABLATIONS["prior-as_it_is"](toy_case)
    assert headline(toy_case, found) > 0.3
    assert not np.allclose(found.counts, usual.counts, rtol=1e-3)
