from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.features.config import DriftConfig
from sphisto.features.maps import FeatureMaps
from sphisto.features.shared import share_features
from sphisto.field.config import FieldConfig
from sphisto.field.drift import Drift, Sums, few_spots, teach
from sphisto.field.field import Field
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import Observations
from sphisto.slide.slide import Slide

SIDE, PITCH, N_PLAIN, NEVER = 160, 8.0, 3, np.inf


class Tissue:
    """Sections whose factors follow two features of the image; a third feature tells nothing."""

    def __init__(self, rng):
        self.rng, self.weights = rng, rng.normal(0, 0.5, (2, N_PLAIN))

    def section(self, name, level=1.0):
        rng = self.rng
        smooth = ndimage.gaussian_filter(rng.normal(size=(3, SIDE // 2, SIDE // 2)), (0, 5, 5)) * 18
        grid, tissue = Grid(SIDE, SIDE, 10.0), np.ones((SIDE, SIDE), dtype=bool)
        slide = Slide(name, np.zeros((3, SIDE, SIDE), dtype=np.uint8), grid, tissue, Spot(55.0))
        maps = FeatureMaps(smooth.astype(np.float32), (0, 0), 2, slide.spot, 10.0)
        centers = np.stack(np.meshgrid(*2 * [np.arange(PITCH, SIDE - PITCH, PITCH)], indexing="ij"), axis=-1)
        centers = centers.reshape(-1, 2)
        rate = 40 * level * np.exp(maps.at_spots(centers)[:, :2] @ self.weights)
        return slide, maps, self.observed(centers, rate)

    def observed(self, centers, rate):
        halves = tuple(2.0 * self.rng.poisson(rate / 2) for _ in range(2))
        contrasts = [np.column_stack([half, half[:, :1] - half[:, 1:2]]) for half in halves]
        density, n = (contrasts[0] + contrasts[1]) / 2, len(centers)
        return Observations(np.zeros(n, dtype=int), np.arange(n), centers, density, tuple(contrasts), 1, PITCH)


@pytest.fixture
def tissue(rng):
    return Tissue(rng)


@pytest.fixture
def sections(tissue):
    return [tissue.section(name) for name in "abc"]


def taught_by(sections, config=DriftConfig(), features=None):
    """What sections teach, and the shared features that they are bound to."""
    if features is None:
        slides, maps, _ = zip(*sections, strict=True)
        features = share_features(slides, maps, "section", config, 0)
    told = [(slide.name, observed, features.of(slide, maps)) for slide, maps, observed in sections]
    return teach(features, told, config, least_sum=NEVER), told


def functions_and_components(taught, told):
    """What is regressed, section by section, computed anew."""
    turn = np.linalg.pinv(taught.rotation)
    for _, observed, bound in told:
        quantities = taught.roots.quantities(observed.density)
        yield (
            taught.features.functions(bound.at_spots(observed.centers)),
            (quantities - quantities.mean(axis=0)) @ turn,
        )


ONE = DriftConfig(ridges=(2.0,), landmarks=60)


def test_sums_give_ridge_regression_and_its_uncertainty(sections):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct
    from sklearn.linear_model import Ridge

    taught, told = taught_by(sections, ONE)
    lesson, (functions, components) = (
        taught.lesson,
        (np.concatenate(each) for each in zip(*functions_and_components(taught, told), strict=True)),
    )
    expected = Ridge(alpha=2.0, fit_intercept=False).fit(functions, components)
    np.testing.assert_allclose(lesson.coefficients, expected.coef_.T, atol=1e-6)
    process = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=2.0, optimizer=None)
    mean, sd = process.fit(functions, components[:, 0]).predict(functions[:50], return_std=True)
    np.testing.assert_allclose(functions[:50] @ lesson.coefficients[:, 0], mean, atol=1e-5)
    spread = np.einsum("mt,ts,ms->m", functions[:50], lesson.spreads[0], functions[:50])
    np.testing.assert_allclose(spread, np.square(sd), rtol=1e-4)


def test_errors_at_sections_that_are_left_out_are_those_of_brute_force(sections):
    from sklearn.linear_model import Ridge

    taught, told = taught_by(sections, ONE)
    parts, errors = list(functions_and_components(taught, told)), 0.0
    for i, (functions, components) in enumerate(parts):
        others = [part for j, part in enumerate(parts) if j != i]
        known, wanted = (np.concatenate(each) for each in zip(*others, strict=True))
        found = Ridge(alpha=2.0, fit_intercept=False).fit(known, wanted).predict(functions)
        errors += np.square(found - components).sum(axis=0)
    np.testing.assert_allclose(taught.lesson.left, errors / sum(len(f) for f, _ in parts), rtol=1e-5)


def test_a_ridge_is_trusted_by_how_well_left_out_sections_are_predicted(sections):
    """Among a good and a senseless one the good one is used, and what is left is what it leaves."""
    both = replace(ONE, ridges=(2.0, 1e6))
    alone, mixed = taught_by(sections, ONE)[0].lesson, taught_by(sections, both)[0].lesson
    signal = alone.left < 0.8 * taught_by(sections, replace(ONE, ridges=(1e6,)))[0].lesson.left
    assert signal.any()
    np.testing.assert_allclose(mixed.coefficients[:, signal], alone.coefficients[:, signal], rtol=1e-3, atol=1e-6)


def test_without_a_section_is_as_taught_by_the_others_alone(sections):
    whole, told = taught_by(sections, ONE)
    fewer = taught_by(sections[:2], ONE, whole.features)[0]
    bound = told[2][2]
    points = sections[2][2].centers
    found, expected = (Drift(each, bound).at_spots(points) for each in (whole.without("c"), fewer))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(Drift(whole, bound).at_spots(points), expected, atol=1e-2)


def test_sums_are_added_up(rng):
    functions, components = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))

    def sums(f, c):
        return Sums(len(f), f.T @ f, f.T @ c, np.square(c).sum(axis=0))

    both, whole = (
        sums(functions[:10], components[:10]) + sums(functions[10:], components[10:]),
        sums(functions, components),
    )
    coefficients = rng.normal(size=(4, 2))
    np.testing.assert_allclose(both.errors(coefficients), whole.errors(coefficients))
    np.testing.assert_allclose(whole.errors(coefficients), np.square(components - functions @ coefficients).sum(axis=0))


def test_a_section_without_spots_is_predicted_from_its_features(tissue, sections):
    taught, _ = taught_by(sections)
    slide, maps, truth = tissue.section("d")
    drift = Drift(taught, taught.features.of(slide, maps))
    found = drift.alone().density(truth.centers)
    assert np.isfinite(found).all()
    expected = 40 * np.exp(maps.at_spots(truth.centers)[:, :2] @ tissue.weights)
    for k in range(N_PLAIN):
        assert np.corrcoef(found[:, k], expected[:, k])[0, 1] > 0.8
    assert found[:, :N_PLAIN].sum() == pytest.approx(expected.sum(), rel=0.1)


def test_gain_is_by_what_squares_of_means_fall_short(sections):
    """Of sections that were left out: the mean square of the roots over that of what is predicted of them."""
    taught, told = taught_by(sections)
    short, second = 0.0, 0.0
    for name, observed, bound in told:
        quantities = taught.roots.quantities(observed.density)[:, : N_PLAIN + 1]
        others = taught.without(name)
        found = quantities.mean(axis=0) + Drift(others, bound).at_spots(observed.centers)[:, : N_PLAIN + 1]
        short, second = short + np.square(found).mean(axis=0), second + np.square(quantities).mean(axis=0)
    np.testing.assert_allclose(Drift(taught, told[0][2]).gain(), second / short, rtol=0.02)


def test_variance_is_calibrated_where_all_is_known_and_grows_where_nothing_is(tissue, sections):
    taught, _ = taught_by(sections)
    slide, maps, truth = tissue.section("d")
    bound = taught.features.of(slide, maps)
    drift, centers = Drift(taught, bound), truth.centers
    usual = drift.variance(centers)
    quantities = taught.roots.quantities(truth.density)
    missed = (quantities - quantities.mean(axis=0) - drift.at_spots(centers)) @ np.linalg.pinv(taught.rotation)
    # what is missed is uncertainty and noise of counting together
    assert np.square(missed).mean() == pytest.approx((usual.mean(axis=0) + taught.noise).mean(), rel=0.35)
    for far in (3, 10, 1e4):
        strange = replace(maps, values=maps.values + np.float32(far) * maps.values.std())
        grown = Drift(taught, taught.features.of(slide, strange)).variance(centers)
        assert (grown.mean(axis=0) > usual.mean(axis=0)).all()
        assert np.isfinite(grown).all()
    assert (grown >= 99 * 0.1 * taught.lesson.left).all()  # ten standard deviations, squared, and no more
    fewer = taught.without("a").without("b")
    assert Drift(fewer, bound).variance(centers).mean() > usual.mean()


def test_three_spots_move_the_mean_and_nothing_else(tissue, sections):
    """By their deviation from the drift, drawn to none as if usual spots had been added."""
    taught, _ = taught_by(sections)
    slide, maps, whole = tissue.section("d", level=2.0)
    drift = Drift(taught, taught.features.of(slide, maps))
    some = [10, 150, 300]
    few = replace(
        whole, section=whole.section[some], spots=whole.spots[some], centers=whole.centers[some],
        density=whole.density[some], halves=tuple(half[some] for half in whole.halves),
    )  # fmt: skip
    field = Field.fit(few, None, FieldConfig(), drift)
    points = whole.centers
    found, without = field.given("all").solution, drift.alone()
    rest = drift.roots.quantities(few.density) - taught.mean - drift.at_spots(few.centers)
    np.testing.assert_allclose(found.mean - without.mean, rest.sum(axis=0) / (3 + taught.config.pseudo_spots))
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


def test_what_the_drift_leaves_is_kriged(tissue, sections):
    """With spots of its own a section is predicted better than by the drift, and better than without it."""
    taught, _ = taught_by(sections)
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
    drift = Drift(taught, taught.features.of(slide, maps))
    hidden = whole.centers[~known]

    def error(solution):
        found = np.sqrt(solution.density(hidden)[:, :N_PLAIN])
        return np.square(found - np.sqrt(rate[~known])).mean()

    both, alone = (Field.fit(few, None, FieldConfig(), each).given("all").solution for each in (drift, None))
    assert error(both) < 0.9 * error(drift.alone())
    assert error(both) < 0.9 * error(alone)


def test_one_section_teaches_by_its_pieces(tissue):
    only = [tissue.section("a")]
    taught, _ = taught_by(only)
    assert len(taught.pieces[0]) == 4
    assert sum(piece.n for piece in taught.pieces[0]) == len(only[0][2])
    slide, maps, truth = tissue.section("d")
    found = Drift(taught, taught.features.of(slide, maps)).alone().density(truth.centers)
    assert np.corrcoef(found[:, 0], truth.density[:, 0])[0, 1] > 0.3


def test_other_solvers_than_kriging_are_refused(sections):
    taught, told = taught_by(sections, ONE)
    with pytest.raises(ValueError, match="Found solver='gaussian' for several sections; expected 'kriging'"):
        Field.fit(sections[0][2], None, FieldConfig(solver="gaussian"), Drift(taught, told[0][2]))
