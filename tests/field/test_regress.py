from __future__ import annotations

from dataclasses import replace

import numpy as np

from sphisto.features.config import DriftConfig
from sphisto.field.drift import Drift
from sphisto.field.regression import Sums

ONE = DriftConfig(ridges=(2.0,), landmarks=60)


def functions_and_components(regression, told):
    """What is regressed, section by section, computed anew."""
    turn = np.linalg.pinv(regression.rotation)
    for _, observed, bound in told:
        quantities = regression.roots.quantities(observed.density)
        yield (
            regression.features.functions(bound.at_spots(observed.centers)),
            (quantities - quantities.mean(axis=0)) @ turn,
        )


def test_sums_give_ridge_regression_and_its_uncertainty(taught_by, sections):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import DotProduct
    from sklearn.linear_model import Ridge

    regression, told = taught_by(sections, ONE)
    fit, (functions, components) = (
        regression.fit,
        (np.concatenate(each) for each in zip(*functions_and_components(regression, told), strict=True)),
    )
    expected = Ridge(alpha=2.0, fit_intercept=False).fit(functions, components)
    np.testing.assert_allclose(fit.coefficients, expected.coef_.T, atol=1e-6)
    process = GaussianProcessRegressor(DotProduct(0.0, "fixed"), alpha=2.0, optimizer=None)
    mean, sd = process.fit(functions, components[:, 0]).predict(functions[:50], return_std=True)
    np.testing.assert_allclose(functions[:50] @ fit.coefficients[:, 0], mean, atol=1e-5)
    spread = np.einsum("mt,ts,ms->m", functions[:50], fit.spreads[0], functions[:50])
    np.testing.assert_allclose(spread, np.square(sd), rtol=1e-4)


def test_errors_at_sections_that_are_left_out_are_those_of_brute_force(taught_by, sections):
    from sklearn.linear_model import Ridge

    regression, told = taught_by(sections, ONE)
    parts, errors = list(functions_and_components(regression, told)), 0.0
    for i, (functions, components) in enumerate(parts):
        others = [part for j, part in enumerate(parts) if j != i]
        known, wanted = (np.concatenate(each) for each in zip(*others, strict=True))
        found = Ridge(alpha=2.0, fit_intercept=False).fit(known, wanted).predict(functions)
        errors += np.square(found - components).sum(axis=0)
    np.testing.assert_allclose(regression.fit.left, errors / sum(len(f) for f, _ in parts), rtol=1e-5)


def test_a_ridge_is_trusted_by_how_well_left_out_sections_are_predicted(taught_by, sections):
    """Among a good and a senseless one the good one is used, and what is left is what it leaves."""
    both = replace(ONE, ridges=(2.0, 1e6))
    alone, mixed = taught_by(sections, ONE)[0].fit, taught_by(sections, both)[0].fit
    signal = alone.left < 0.8 * taught_by(sections, replace(ONE, ridges=(1e6,)))[0].fit.left
    assert signal.any()
    np.testing.assert_allclose(mixed.coefficients[:, signal], alone.coefficients[:, signal], rtol=1e-3, atol=1e-6)


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


def test_one_section_teaches_by_its_pieces(taught_by, tissue):
    only = [tissue.section("a")]
    regression, _ = taught_by(only)
    assert len(regression.pieces[0]) == 4
    assert sum(piece.n for piece in regression.pieces[0]) == len(only[0][2])
    slide, maps, truth = tissue.section("d")
    found = Drift(regression, regression.features.of(slide, maps)).alone().density(truth.centers)
    assert np.corrcoef(found[:, 0], truth.density[:, 0])[0, 1] > 0.3
