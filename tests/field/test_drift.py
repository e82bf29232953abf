from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sphisto.features.config import DriftConfig
from sphisto.field.config import FieldConfig
from sphisto.field.drift import Drift, few_spots
from sphisto.field.field import Field
from sphisto.genes.model import GeneModel

SIDE, N_PLAIN = 160, 3  # of the sections
ONE = DriftConfig(ridges=(2.0,), landmarks=60)


def test_without_a_section_is_as_taught_by_the_others_alone(taught_by, sections):
    whole, told = taught_by(sections, ONE)
    fewer = taught_by(sections[:2], ONE, whole.features)[0]
    bound = told[2][2]
    points = sections[2][2].centers
    found, expected = (Drift(each, bound).at_spots(points) for each in (whole.without("c"), fewer))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(Drift(whole, bound).at_spots(points), expected, atol=1e-2)


def test_a_section_without_spots_is_predicted_from_its_features(taught_by, tissue, sections):
    regression, _ = taught_by(sections)
    slide, maps, truth = tissue.section("d")
    drift = Drift(regression, regression.features.of(slide, maps))
    found = drift.alone().density(truth.centers)
    assert np.isfinite(found).all()
    expected = 40 * np.exp(maps.at_spots(truth.centers)[:, :2] @ tissue.weights)
    for k in range(N_PLAIN):
        assert np.corrcoef(found[:, k], expected[:, k])[0, 1] > 0.8
    assert found[:, :N_PLAIN].sum() == pytest.approx(expected.sum(), rel=0.1)


def test_gain_is_by_what_squares_of_means_fall_short(taught_by, sections):
    """Of sections that were left out: the mean square of the roots over that of what is predicted of them."""
    regression, told = taught_by(sections)
    short, second = 0.0, 0.0
    for name, observed, bound in told:
        quantities = regression.roots.quantities(observed.density)[:, : N_PLAIN + 1]
        others = regression.without(name)
        found = quantities.mean(axis=0) + Drift(others, bound).at_spots(observed.centers)[:, : N_PLAIN + 1]
        short, second = short + np.square(found).mean(axis=0), second + np.square(quantities).mean(axis=0)
    np.testing.assert_allclose(Drift(regression, told[0][2]).gain(), second / short, rtol=0.02)


def test_variance_is_calibrated_where_all_is_known_and_grows_where_nothing_is(taught_by, tissue, sections):
    regression, _ = taught_by(sections)
    slide, maps, truth = tissue.section("d")
    bound = regression.features.of(slide, maps)
    drift, centers = Drift(regression, bound), truth.centers
    usual = drift.variance(centers)
    quantities = regression.roots.quantities(truth.density)
    missed = (quantities - quantities.mean(axis=0) - drift.at_spots(centers)) @ np.linalg.pinv(regression.rotation)
    # what is missed is uncertainty and noise of counting together
    assert np.square(missed).mean() == pytest.approx((usual.mean(axis=0) + regression.noise).mean(), rel=0.35)
    for far in (3, 10, 1e4):
        strange = replace(maps, values=maps.values + np.float32(far) * maps.values.std())
        grown = Drift(regression, regression.features.of(slide, strange)).variance(centers)
        assert (grown.mean(axis=0) > usual.mean(axis=0)).all()
        assert np.isfinite(grown).all()
    assert (grown >= 99 * 0.1 * regression.fit.left).all()  # ten standard deviations, squared, and no more
    fewer = regression.without("a").without("b")
    assert Drift(fewer, bound).variance(centers).mean() > usual.mean()


def test_three_spots_move_the_mean_and_nothing_else(taught_by, tissue, sections):
    """By their deviation from the drift, drawn to none as if usual spots had been added."""
    regression, _ = taught_by(sections)
    slide, maps, whole = tissue.section("d", level=2.0)
    drift = Drift(regression, regression.features.of(slide, maps))
    some = [10, 150, 300]
    few = replace(
        whole, section=whole.section[some], spots=whole.spots[some], centers=whole.centers[some],
        density=whole.density[some], halves=tuple(half[some] for half in whole.halves),
    )  # fmt: skip
    field = Field.fit(few, None, FieldConfig(), drift)
    points = whole.centers
    found, without = field.given("all").solution, drift.alone()
    rest = drift.roots.quantities(few.density) - regression.mean - drift.at_spots(few.centers)
    np.testing.assert_allclose(found.mean - without.mean, rest.sum(axis=0) / (3 + regression.config.pseudo_spots))
    sums = [each.density(points)[:, :N_PLAIN].sum() for each in (without, found)]
    assert sums[0] < sums[1] < whole.density[:, :N_PLAIN].sum() * 1.1
    # each of them is left out by taking it out, and none is known by the drift alone
    rows, density, variance = field.solver.leave_one_out(
        100, GeneModel(("g",), np.full((1, N_PLAIN + 1), 0.1, np.float32), 1)
    )
    np.testing.assert_array_equal(rows, [0, 1, 2])
    for row in rows:
        expected = few_spots(drift, few).given(np.array([row])).density(few.centers[[row]])
        np.testing.assert_allclose(density[row], expected[0], rtol=0.05)
    assert (variance > 0).all()
    nothing = field.given(np.zeros(3, dtype=bool)).solution.density(points)
    np.testing.assert_allclose(nothing, without.density(points))


def test_what_the_drift_leaves_is_kriged(taught_by, tissue, sections):
    """With spots of its own a section is predicted better than by the drift, and better than without it."""
    regression, _ = taught_by(sections)
    slide, maps, whole = tissue.section("d")
    y, x = (whole.centers / SIDE).T
    lasting = np.exp(0.6 * np.sin(4 * y)[:, None] * np.array([1.0, -1.0, 0.0]))  # what no image shows
    rate = 40 * np.exp(maps.at_spots(whole.centers)[:, :2] @ tissue.weights) * lasting
    whole = tissue.observed(whole.centers, rate)
    known = np.arange(len(whole)) % 5 == 0
    few = replace(
        whole, section=whole.section[known], spots=whole.spots[known], centers=whole.centers[known],
        density=whole.density[known], halves=tuple(half[known] for half in whole.halves),
    )  # fmt: skip
    drift = Drift(regression, regression.features.of(slide, maps))
    hidden = whole.centers[~known]

    def error(solution):
        found = np.sqrt(solution.density(hidden)[:, :N_PLAIN])
        return np.square(found - np.sqrt(rate[~known])).mean()

    both, alone = (Field.fit(few, None, FieldConfig(), each).given("all").solution for each in (drift, None))
    assert error(both) < 0.9 * error(drift.alone())
    assert error(both) < 0.9 * error(alone)


def test_what_is_left_is_kriged_in_what_sections_share(taught_by, tissue, sections):
    """In their components, by features as the drift reads them; read once where both are wanted."""
    regression, _ = taught_by(sections)
    slide, maps, whole = tissue.section("d")
    drift = Drift(regression, regression.features.of(slide, maps))
    fitted = Field.fit(whole, None, FieldConfig(), drift).solver
    np.testing.assert_array_equal(fitted.kriging.model.rotation, regression.rotation)
    np.testing.assert_allclose(fitted.kriging.features, drift.features.at_spots(whole.centers))
    points, solution = whole.centers[:9] + 3.0, fitted.given(np.zeros(0, dtype=int))
    assert solution.features is not None
    kriged = solution.kriged.at(points, drift.features.at(points)) + solution.slope * drift.at(points)
    close = solution.kriged.closeness(points)[:, None]
    gain = solution.gain_hidden + (solution.gain_seen - solution.gain_hidden) * close
    np.testing.assert_allclose(solution.density(points), solution.roots.density(kriged, gain))


def test_a_section_that_follows_nothing_of_the_others_is_kriged_as_one_alone(taught_by, tissue, sections):
    """Its factors follow the opposite of what they follow elsewhere."""
    regression, _ = taught_by(sections)
    slide, maps, whole = tissue.section("d")
    rate = 40 * np.exp(-maps.at_spots(whole.centers)[:, :2] @ tissue.weights)
    other = tissue.observed(whole.centers, rate)
    drift = Drift(regression, regression.features.of(slide, maps))
    with_drift, alone = (Field.fit(other, None, FieldConfig(), each) for each in (drift, None))
    assert with_drift.solver.slope == 0
    assert with_drift.solver.drift is not None
    points = other.centers + 3.0
    found, expected = (each.given("all").solution.density(points) for each in (with_drift, alone))
    np.testing.assert_array_equal(found, expected)


def test_other_solvers_than_kriging_are_refused(taught_by, sections):
    regression, told = taught_by(sections, ONE)
    with pytest.raises(ValueError, match="Found solver='gaussian' for several sections; expected 'kriging'"):
        Field.fit(sections[0][2], None, FieldConfig(solver="gaussian"), Drift(regression, told[0][2]))
