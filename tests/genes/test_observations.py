from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors, scores
from sphisto.genes.observations import informative, observe
from sphisto.io.slides import make_slide


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def with_counts(slide, counts):
    values = sparse.csr_array(np.asarray(counts, dtype=np.float32))
    return replace(slide, measured=replace(slide.spots, values=values))


def test_spots_without_counts_have_failed_unless_few_counts_are_usual(slide):
    n, g = slide.spots.values.shape
    many, few = np.full((n, g), 10.0), np.zeros((n, g))
    many[0] = 0
    few[::2, 0] = 1
    np.testing.assert_array_equal(informative(with_counts(slide, many)), np.arange(n) > 0)
    assert informative(with_counts(slide, few)).all()
    assert not informative(with_counts(slide, np.zeros((n, g)))).any()


@pytest.fixture
def bins(request):
    """Slide of bins of 8 um, of 1 px each, and the drawn section."""
    mean_counts = getattr(request, "param", 1.6)
    adata = sp.datasets.toy(96, 96, um_per_px=8.0, bin_um=8.0, mean_counts=mean_counts)
    return make_slide(sp.io.section(adata)), adata


@pytest.mark.parametrize("bins", [1.6, 300], indirect=True)
def test_bins_on_tissue_measure_also_without_counts_and_those_beside_it_do_not(bins):
    slide, _ = bins
    values = slide.spots.values.toarray()
    values[::4] = 0
    empty = with_counts(slide, values)
    np.testing.assert_array_equal(informative(empty), slide.on_tissue)
    assert slide.on_tissue.mean() > 0.95
    assert not informative(with_counts(slide, np.zeros_like(values))).any()


def test_a_square_holds_the_counts_and_the_tissue_of_its_bins(bins):
    slide, _ = bins
    known = informative(slide) & (np.arange(len(slide.spots.centers)) % 5 > 0)
    config = GeneModelConfig(n_factors=4, least_squares=100)
    model = fit_factors(slide.spots, known, config, 0)
    found = observe(slide, model, known, config)
    side = round(found.area**0.5)
    assert side > 1
    assert found.pitch == side * slide.spots.pitch
    spots, square = found.spots_of(np.arange(len(found)))
    assert known[spots].all()
    assert len(np.unique(spots)) == len(spots) > 0.95 * known.sum()
    share = slide.footprint().mean(slide.tissue)[:, 0]
    for row in range(0, len(found), 7):
        own = spots[square == row]
        assert np.ptp(slide.spots.centers[own], axis=0).max() <= (side - 1) * slide.spots.pitch + 1e-6
        np.testing.assert_allclose(found.centers[row], slide.spots.centers[own].mean(axis=0))
        counts = slide.spots.values[own].sum()
        total = found.plain[row].sum() * max(share[own].sum(), 0.25 * side**2)
        assert total == pytest.approx(counts, rel=0.02, abs=0.5)
    np.testing.assert_allclose(found.of_spots(slide.spots.centers), found.centers)
    # as both halves hold other counts, their difference is noise: that of so many counts
    noise = np.square(found.halves[0] - found.halves[1]).sum(axis=1).mean() / 4 * found.area
    assert noise == pytest.approx(found.plain.sum(axis=1).mean(), rel=0.5)


@pytest.mark.parametrize(
    ("mean_counts", "side"), [(300.0, 1), (1.6, 4)]
)  # squares of 5 x 5 would be fewer than are left at least
def test_bins_are_summed_up_only_where_they_hold_few_counts(mean_counts, side):
    slide = make_slide(sp.io.section(sp.datasets.toy(96, 96, um_per_px=8.0, bin_um=8.0, mean_counts=mean_counts)))
    known, config = informative(slide), GeneModelConfig(n_factors=4)
    found = observe(slide, fit_factors(slide.spots, known, config, 0), known, config)
    assert found.area == side**2
    assert (found.members is None) == (side == 1)


def test_spots_are_never_summed_up(slide):
    few = np.zeros(slide.spots.values.shape)
    few[::2, 0] = 1
    poor, known = with_counts(slide, few), np.ones(len(few), bool)
    config = GeneModelConfig(n_factors=2)
    assert observe(poor, fit_factors(poor.spots, known, config, 0), known, config).area == 1


def test_spots_off_the_image_tell_nothing(slide):
    centers = slide.spots.centers.copy()
    centers[:3] = ((-1, 5), (5, 112), (1e300, 5))
    moved = replace(slide, measured=replace(slide.spots, centers=centers))
    np.testing.assert_array_equal(informative(moved), np.arange(len(centers)) >= 3)


def test_observations_are_densities_of_the_known_spots(slide):
    known = np.arange(len(slide.spots.centers)) % 3 > 0
    model = fit_factors(slide.spots, known, GeneModelConfig(n_factors=4), 0)
    found = observe(slide, model, known, GeneModelConfig())
    np.testing.assert_array_equal(found.spots, np.flatnonzero(known))
    np.testing.assert_array_equal(found.centers, slide.spots.centers[known])
    assert (found.section == 0).all()
    share = slide.footprint().mean(slide.tissue)[known, 0]
    values = scores(model, slide.spots.values[np.flatnonzero(known)], GeneModelConfig(), is_counts=True)
    np.testing.assert_allclose(found.density * np.maximum(share, 0.25)[:, None], values, rtol=1e-6)
    assert found.plain.shape == (known.sum(), 4)
    # both halves are measurements of the same, with twice the noise
    for half in found.halves:
        assert half.sum() == pytest.approx(found.density.sum(), rel=0.1)


def test_values_that_are_no_counts_have_no_halves(slide):
    plain = replace(slide, measured=replace(slide.spots, is_counts=False))
    known = np.ones(len(slide.spots.centers), dtype=bool)
    assert (
        observe(
            plain, fit_factors(plain.spots, known, GeneModelConfig(n_factors=4), 0), known, GeneModelConfig()
        ).halves
        is None
    )
