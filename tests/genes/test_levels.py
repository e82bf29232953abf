from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import scores
from sphisto.genes.levels import SharedModel, at_levels, fit_shared, levels_of, reconciled
from sphisto.genes.model import GeneModel, rates
from sphisto.slide.slide import Measured

CONFIG, GENES = GeneModelConfig(n_factors=3), tuple(f"gene{i}" for i in range(40))
DEPTHS = (1.0, 3.0, 0.5)


def measured(rate, rng):
    n = len(rate)
    centers = np.stack(np.divmod(np.arange(n), 15), axis=1) * 10.0
    return Measured(centers, sparse.csr_array(rng.poisson(rate).astype(np.float32)), GENES, is_counts=True, pitch=10.0)


@pytest.fixture
def tissue(rng):
    """Sections of the same tissue, each measured with its own depth and with its own yield of each gene."""
    loadings = rng.gamma(0.5, 1, (3, len(GENES)))
    loadings /= loadings.sum(axis=1, keepdims=True)
    yields = np.exp(rng.normal(0, 0.5, (len(DEPTHS), len(GENES))))
    rate = [400 * rng.dirichlet(np.full(3, 0.5), 225) @ loadings for _ in DEPTHS]
    sections = [measured(r * y * d, rng) for r, y, d in zip(rate, yields, DEPTHS, strict=True)]
    return rate, np.log(yields * np.array(DEPTHS)[:, None]), sections


def everything(sections):
    return [np.ones(len(each.centers), dtype=bool) for each in sections]


def test_depth_and_yields_are_found_again(tissue):
    """Up to what is the usual level of a gene, which only all sections together define."""
    rate, expected, sections = tissue
    found = fit_shared(sections, everything(sections), CONFIG, 0).levels
    often = np.concatenate(rate).mean(axis=0) > 2
    apart, wanted = (each - each.mean(axis=0) for each in (found[:, often], expected[:, often]))
    assert np.abs(apart - wanted).max() < 0.25
    assert np.corrcoef(apart.ravel(), wanted.ravel())[0, 1] > 0.98


def test_factors_of_sections_can_be_compared(tissue):
    """The densities of a section say what its tissue is made of, at the usual depth, whatever it was measured with."""
    rate, _, sections = tissue
    shared = fit_shared(sections, everything(sections), CONFIG, 0)
    totals = []
    for number, (true, each) in enumerate(zip(rate, sections, strict=True)):
        model = shared.of(number)
        density = scores(model, each.values, CONFIG, is_counts=True)
        totals.append(density.sum(axis=1).mean())
        expected = rates(density, shared.shared.loadings, shared.shared.n_contrasts)
        usual = true * np.exp(np.log(expected.mean(axis=0)) - np.log(true.mean(axis=0)))
        often = true.mean(axis=0) > 2
        assert np.corrcoef(expected[:, often].ravel(), usual[:, often].ravel())[0, 1] > 0.95
        both = rates(density, model.loadings, model.n_contrasts)
        assert both.sum() == pytest.approx(each.values.sum(), rel=0.05)
    np.testing.assert_allclose(totals, np.mean(totals), rtol=0.1)


def test_a_section_without_spots_has_the_usual_levels(tissue):
    sections, kept = tissue[2], everything(tissue[2])
    kept[1][:] = False
    shared = fit_shared(sections, kept, CONFIG, 0)
    np.testing.assert_allclose(shared.levels[1], 0, atol=1e-12)
    np.testing.assert_allclose(shared.of(1).loadings, shared.shared.loadings, rtol=1e-6)


def test_hidden_spots_change_nothing(tissue):
    sections, kept = tissue[2], everything(tissue[2])
    kept[1][::2] = False
    expected = fit_shared(sections, kept, CONFIG, 0)
    values = sections[1].values.toarray()
    values[::2] = 99
    other = Measured(sections[1].centers, sparse.csr_array(values), GENES, is_counts=True, pitch=10.0)
    found = fit_shared([sections[0], other, sections[2]], kept, CONFIG, 0)
    np.testing.assert_array_equal(found.levels, expected.levels)
    np.testing.assert_array_equal(found.shared.loadings, expected.shared.loadings)


def test_levels_of_rare_genes_are_those_of_the_section(rng):
    """Of a gene with next to no counts nothing is known but how deep the section was measured."""
    rate = np.full((225, len(GENES)), 10.0)
    rate[:, 0] = 0.005
    sections = [measured(rate * depth, rng) for depth in (1.0, 4.0)]
    levels = fit_shared(sections, everything(sections), CONFIG, 0).levels
    np.testing.assert_allclose(levels[1] - levels[0], np.log(4), atol=0.15)


def test_levels_of_a_section_that_taught_nothing(tissue, rng):
    sections = tissue[2]
    shared = fit_shared(sections, everything(sections), CONFIG, 0).shared
    expected, truth = rng.uniform(500, 5_000, len(GENES)), np.log(2) + rng.normal(0, 0.3, len(GENES))
    found = levels_of(shared, expected * np.exp(truth), expected, CONFIG)
    np.testing.assert_allclose(found, truth, atol=0.05)
    np.testing.assert_allclose(at_levels(shared, found).loadings, shared.loadings * np.exp(found)[:, None], rtol=1e-5)
    expected[0] = 1e-3  # so few counts tell nothing of the gene itself
    assert levels_of(shared, 3 * expected, expected, CONFIG)[0] == pytest.approx(np.log(3), abs=1e-3)


def test_what_sections_are_made_of_stays_in_factors(rng):
    """Levels take what composition does not explain: yields of genes, and not that a section holds more of some tissue."""
    loadings = rng.gamma(0.5, 1, (3, len(GENES)))
    loadings /= loadings.sum(axis=1, keepdims=True)
    rate = [400 * rng.dirichlet(share, 225) @ loadings for share in ((2, 1, 0.5), (0.5, 1, 2))]
    yields = np.exp(rng.normal(0, 0.3, (2, len(GENES))))
    sections = [measured(r * y, rng) for r, y in zip(rate, yields, strict=True)]
    shared = fit_shared(sections, everything(sections), CONFIG, 0)
    usual = []
    for number, each in enumerate(sections):
        density = scores(shared.of(number), each.values, CONFIG, is_counts=True)
        usual.append(rates(density, shared.shared.loadings, shared.shared.n_contrasts).mean(axis=0))
    often = np.concatenate(rate).mean(axis=0) > 2
    found, true, yielded = (
        np.log(a[often] / b[often]) for a, b in (usual, [each.mean(axis=0) for each in rate], yields)
    )
    levels = (shared.levels[0] - shared.levels[1])[often]
    assert 0.6 < found @ true / (true @ true) < 1.2
    assert 0.6 < levels @ yielded / (yielded @ yielded) < 1.4


SHIFTED, ALIKE = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]]), np.full((2, 3), 4 / 3)


@pytest.fixture
def shared(rng):
    """Of two sections, before what is left in their levels is known."""
    loadings = rng.gamma(0.5, 1, (len(GENES), 3)).astype(np.float32)
    return SharedModel(GeneModel(GENES, loadings / loadings.sum(axis=0)), np.zeros((2, len(GENES))))


def shift_of(shared, composition=SHIFTED):
    own, usual = (each @ shared.shared.loadings.astype(float).T for each in (composition, ALIKE))
    return np.log(own / usual)


@pytest.mark.parametrize(("left", "least", "most"), [(0.0, 1.0, 1.0), (0.05, 0.9, 1.0), (2.0, 0.5, 0.8)])
def test_a_shift_of_composition_stays_as_far_as_it_explains_levels(shared, rng, left, least, most):
    """All of it where it explains them all; where it explains next to nothing a section's part in the usual, half of two."""
    levels = left * rng.normal(size=shared.levels.shape)
    moved = reconciled(replace(shared, levels=levels), SHIFTED, ALIKE, CONFIG).levels - levels
    for found, whole in zip(moved, shift_of(shared), strict=True):
        stays = 1 - found @ whole / (whole @ whole)
        np.testing.assert_allclose(found, (1 - stays) * whole, atol=1e-12)
        assert least <= stays + 1e-12
        assert stays <= most


def test_levels_of_a_section_of_which_nothing_is_expected_stay(shared):
    expected = np.where([[True], [False]], ALIKE, np.nan)
    found = reconciled(shared, SHIFTED, expected, CONFIG).levels
    np.testing.assert_array_equal(found, shared.levels)  # and one that nobody else tells anything has no others


def test_levels_of_spots_of_several_areas_are_per_area(tissue):
    """Sections of the same depth, one of which has spots of four times the area: it counts four times as much, and no more."""
    rate, _, _ = tissue
    rng = np.random.default_rng(0)
    sections = [measured(rate[0], rng), measured(4 * rate[1], rng), measured(rate[2], rng)]
    kept = everything(sections)
    kept[2][:] = False
    found = fit_shared(sections, kept, CONFIG, 0, areas=[0.25, 1.0, 0.5])
    np.testing.assert_allclose(found.levels[2], np.log(0.5), atol=1e-12)  # of which nothing but the area is known
    sums = np.stack([each.values.sum(axis=0) for each in sections[:2]])
    depth = np.log(np.exp(found.levels[:2]) @ (sums.sum(axis=0) / sums.sum()))
    np.testing.assert_allclose(depth, np.log([0.25, 1.0]), atol=0.05)


def test_rows_outside_a_window_help_to_put_genes_together(tissue):
    """Of ten spots in each window hardly anything is known of factors, and all of it from the rows around."""
    rate, expected, sections = tissue
    windows = [replace(each, centers=each.centers[:10], values=each.values[:10]) for each in sections]
    around = [replace(window, others=each.values[10:]) for window, each in zip(windows, sections, strict=True)]

    def missed(found):
        """Of the true rates of all spots, what loadings at a section's levels cannot say."""
        shared = fit_shared(found, everything(found), CONFIG, 0)
        out = []
        for number, (true, each) in enumerate(zip(rate, np.exp(expected), strict=True)):
            loadings = shared.of(number).loadings.astype(float)
            fitted = np.linalg.lstsq(loadings, (true * each).T, rcond=None)[0]
            out.append(np.square(loadings @ fitted - (true * each).T).sum() / np.square(true * each).sum())
        return np.mean(out)

    assert missed(around) < 0.6 * missed(windows)
