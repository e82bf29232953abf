from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse


@pytest.fixture(scope="module")
def told(toy_case):
    from benchmarks.fidelity.methods.networks import kriged

    return kriged(toy_case)


def with_image(case, image):
    return replace(case, slide=replace(case.slide, image=image))


def test_maps_drawn_once_are_the_priors_own(toy_case, told):
    from benchmarks.fidelity.methods import prior_ablations as changed
    from benchmarks.fidelity.methods.networks import expected

    from sphisto.core.tiles import Window

    prior, factors = told
    drawn = changed.drawn(prior, toy_case)
    window = Window(64, 128, 192, 256).grown(prior.stride)
    np.testing.assert_allclose(drawn.prior(window), prior.prior(window), rtol=1e-4)
    counts = changed.counts(toy_case, changed.pooled(toy_case, drawn, changed.spots_of_regions(toy_case)), factors)
    np.testing.assert_allclose(counts, expected(toy_case, prior, factors), rtol=1e-3)


def test_squared_error_factors_are_found_and_scored_by_squared_error(toy_case):
    """A solver that minimises squared error leaves less of it than one that does not."""
    from benchmarks.fidelity.methods import ABLATIONS, prior_ablations

    from sphisto.model import factorize

    seen = {}
    usual = factorize._shrunken

    def watched(loadings, weights, values):
        seen[factorize._divergence(True)["beta_loss"]] = np.square(values - weights @ loadings.T).mean()
        return usual(loadings, weights, values)

    with prior_ablations.changed({"sphisto.model.factorize:_shrunken": watched}):
        for name in ("prior-as_it_is", "prior-squared_error_factors"):
            ABLATIONS[name](toy_case)
    assert seen["frobenius"] < seen["kullback-leibler"]


def test_where_stain_is_even_it_says_nothing(toy_case):
    from benchmarks.fidelity.methods.prior_ablations import content_by_stain, stain_over_surroundings

    even = with_image(toy_case, np.full_like(np.asarray(toy_case.slide.image), 100))
    ratio = stain_over_surroundings(even)
    np.testing.assert_allclose(ratio[np.asarray(even.slide.tissue)], 1, rtol=1e-4)
    assert (ratio[~np.asarray(even.slide.tissue)] == 0).all()
    flat, steep = (content_by_stain(even, power=power).counts for power in (0.0, 1.0))
    np.testing.assert_allclose(flat, steep, rtol=1e-3)


def test_the_power_of_stain_is_found_where_totals_follow_it(toy_case, told, rng):
    from benchmarks.fidelity.methods.prior_ablations import fitted_power, stain_over_surroundings

    from sphisto.model.neighbours import LeftOut

    _, factors = told
    spots, ratio = toy_case.slide.footprint(), stain_over_surroundings(toy_case)
    share = spots.mean(toy_case.slide.tissue)[:, 0]
    x = spots.mean(ratio)[:, 0] / share

    class Even:
        def left_out(self, factors):
            density = np.zeros((len(x), told[1].n_factors))
            density[:, 0] = 1e4
            return LeftOut(np.arange(len(x)), density, np.zeros((len(x), len(factors.genes))))

    for power in (0.5, 1.5):
        totals = rng.poisson(1e4 * share * x**power)
        values = sparse.csr_array(np.eye(1, len(factors.genes)) * totals[:, None])
        case = replace(toy_case, slide=replace(toy_case.slide, measured=replace(toy_case.slide.spots, values=values)))
        assert fitted_power(case, Even(), factors, ratio) == pytest.approx(power, abs=0.1)


def test_the_guided_filter_keeps_what_follows_the_picture_and_smooths_the_rest(toy_case, rng, monkeypatch):
    from benchmarks.fidelity.methods import prior_ablations

    stride, shape = 8, (2, 12, 12)
    picture = np.where(np.arange(80) < 40, -1.0, 1.0) * np.ones((80, 1))
    edge = np.where(np.arange(shape[2]) < 6, 1.0, 5.0) * np.ones((shape[1], 1))  # a block beyond on each side
    noise = rng.standard_normal(shape[1:])
    told = prior_ablations.Drawn(np.stack([edge, noise]).astype(np.float32), stride, np.ones(2))
    assert told.window.shape == (96, 96)
    monkeypatch.setattr(prior_ablations, "UNEVEN", 1e-9)
    slopes, levels = prior_ablations.guided_filter(told, picture, np.ones_like(picture), 40.0)
    blocks = np.sign(np.arange(12) - 5.5)
    np.testing.assert_allclose(slopes.maps[0] * blocks + levels.maps[0], edge, rtol=1e-3)
    assert slopes.maps[0][6, 5] > 1  # near the edge by the picture, elsewhere the map is even
    np.testing.assert_allclose(slopes.maps[0][6, [1, 10]], 0, atol=1e-3)
    smooth = slopes.maps[1] * blocks + levels.maps[1]
    assert smooth[2:-2, 2:-2].std() < 0.5 * noise.std()


def test_means_over_spots_become_the_wanted_ones(toy_case, told):
    from benchmarks.fidelity.methods.prior_ablations import conserving, drawn, pooled, shrunken

    prior, factors = told
    wanted = shrunken(toy_case, prior, factors)
    spots = toy_case.slide.footprint().select(prior.known)
    share = spots.mean(toy_case.slide.tissue)
    after = conserving(toy_case, prior, wanted)
    before, found = (
        pooled(toy_case, maps, spots)[:, : wanted.shape[1]] / share for maps in (drawn(prior, toy_case), after)
    )
    error = np.abs(np.log(found / wanted))
    assert np.quantile(error, 0.95) < 0.01  # the others are beyond twentyfold
    assert np.median(np.abs(np.log(before / wanted))) > 10 * np.median(error)
    np.testing.assert_array_equal(after.maps[wanted.shape[1] :], drawn(prior, toy_case).maps[wanted.shape[1] :])


def test_measured_values_are_drawn_to_what_others_say(toy_case, told):
    from benchmarks.fidelity.methods.prior_ablations import shrunken

    from sphisto.model.fit import evidence_of

    prior, factors = told
    n_plain = factors.n_factors - factors.n_signed
    measured = evidence_of(toy_case.slide, factors, prior.known).density[prior.known, :n_plain]
    found = shrunken(toy_case, prior, factors)
    assert (found > 0).all()
    closer = np.corrcoef(found.ravel(), measured.ravel())[0, 1]
    assert 0.5 < closer < 1


def test_a_prior_that_is_not_kriged_cannot_be_conserved(toy_case):
    from benchmarks.fidelity.methods.prior_ablations import changed, conserved

    with (
        changed({"sphisto.model.neighbours:_MOST_KRIGED": 0}),
        pytest.raises(TypeError, match="is not kriged: what is noise"),
    ):
        conserved(toy_case)
