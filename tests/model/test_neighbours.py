from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.core.factors import Factors
from sphisto.core.tiles import Window
from sphisto.datasets import toy
from sphisto.io.intake import make_slide
from sphisto.model import neighbours as room
from sphisto.model.evidence import Evidence
from sphisto.model.factorize import fit_factors, scores
from sphisto.model.fit import evidence_of
from sphisto.model.neighbours import Kriged, Neighbours, Nothing, make_prior, nothing_known


@pytest.fixture
def slide(small_toy):
    return make_slide(sp.io.section(small_toy))


def everyone(slide):
    return np.ones(len(slide.spots.centers), dtype=bool)


def factor_values(slide):
    factors = fit_factors(slide.spots, everyone(slide), 4, 0)
    return scores(factors, slide.spots.values, is_counts=True)[:, :4]  # without contrasts


def test_sections_of_usual_size_are_kriged(slide):
    values = factor_values(slide)
    found = Evidence(slide, values)
    prior, density = make_prior(found, everyone(slide)), found.density
    assert isinstance(prior, Kriged)
    share = slide.footprint().mean(slide.tissue)[:, 0]
    np.testing.assert_allclose(density * np.maximum(share, 0.25)[:, None], values, rtol=1e-6)
    maps = prior.prior(Window(0, 0, 64, 64))
    assert maps.shape == (4, 64 // prior.stride, 64 // prior.stride)
    assert (maps > 0).all()


def test_a_map_is_the_same_in_any_window(slide):
    prior = make_prior(Evidence(slide, factor_values(slide)), everyone(slide))
    s = prior.stride
    whole, part = prior.prior(Window(0, 0, 64, 64)), prior.prior(Window(16, 32, 48, 64))
    np.testing.assert_allclose(part, whole[:, 16 // s : 48 // s, 32 // s :], rtol=1e-4)


def test_glass_around_the_tissue_is_not_looked_at_and_changes_nothing(slide):
    (height, width), pad, side = slide.grid.shape, (1024, 700), 3000
    place = Window(*pad, pad[0] + height, pad[1] + width)
    image, tissue = np.full((3, side, side), 242, dtype=np.uint8), np.zeros((side, side), dtype=bool)
    image[:, *place.slices], tissue[place.slices] = slide.image, slide.tissue
    around = replace(
        slide, image=image, tissue=tissue, grid=replace(slide.grid, height=side, width=side),
        measured=replace(slide.measured, centers=slide.spots.centers + pad),
    )  # fmt: skip
    usual, everywhere = (Evidence(around, factor_values(around)) for _ in range(2))
    everywhere.__dict__["looked_at"] = Window(0, 0, side, side)
    found, expected = (make_prior(evidence, everyone(around)) for evidence in (usual, everywhere))
    assert found.sees_texture
    assert found.texture.nbytes < expected.texture.nbytes / 4
    tile = Window(1024, 512, 1536, 1024)
    np.testing.assert_allclose(found.prior(tile), expected.prior(tile), rtol=0.01)


def test_hidden_spots_do_not_speak(slide, rng):
    """Whatever the hidden spots measured, the map is the same, once the free numbers are chosen."""
    prior = make_prior(Evidence(slide, factor_values(slide)), everyone(slide))
    hidden = rng.random(len(prior.known)) < 0.3
    loud = prior.field.components.copy()
    loud[hidden] += 10
    alphas = np.stack([inverse @ loud for inverse in prior.field.inverses])
    other = replace(prior, field=replace(prior.field, components=loud, alphas=alphas))
    window = Window(0, 0, 64, 64)
    np.testing.assert_allclose(other.of(~hidden).prior(window), prior.of(~hidden).prior(window), rtol=0.02, atol=0.01)
    assert not np.allclose(other.of(everyone(slide)).prior(window), prior.prior(window), rtol=0.02, atol=0.01)


def test_too_few_and_too_many_spots_are_averaged_by_distance(slide, rng, monkeypatch):
    n = len(slide.spots.centers)
    monkeypatch.setattr(room, "_MOST_KRIGED", 3)
    prior = make_prior(Evidence(slide, rng.random((n, 2))), everyone(slide))
    assert isinstance(prior, Neighbours)
    visible = rng.random(n) < 0.6
    found = prior.of(visible).prior(Window(16, -8, 48, 40))
    s = prior.stride
    y, x = 16 + (1 + 0.5) * s, -8 + (3 + 0.5) * s
    weight = np.exp(-((prior.centers[visible] - (y, x)) ** 2).sum(axis=1) / (2 * prior.width**2))
    np.testing.assert_allclose(found[:, 1, 3], weight @ prior.density[visible] / weight.sum(), rtol=1e-5)


def everything_said(prior, factors):
    """All that a prior says, somewhere near spots and far from them."""
    window = Window(0, 0, 64, 96)
    some = factors.of(list(factors.genes[:3]))
    expression = np.ones((3, *window.shape), dtype=np.float32)
    return [
        prior.mean, prior.prior(window), prior.prior(window.moved(400, 400)), prior.sd(window, some, expression),
        *prior.left_out(some), *prior.settled().prior(window),
    ]  # fmt: skip


KINDS = {"kriged": Kriged, "too many": Neighbours, "too few": Neighbours, "nobody": Nothing}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", ["factors", "counts"])
def test_spots_that_are_not_known_are_not_in_the_prior(slide, kind, changed, monkeypatch):
    """Whatever they measured, all that is said stays the same to the last bit; of what is known, it does not."""
    if kind == "too many":
        monkeypatch.setattr(room, "_MOST_KRIGED", 20)
    n = len(slide.spots.centers)
    known = np.arange(n) % (5 if kind == "too few" else 3) == 0
    known = known if kind == "too few" else ~known
    factors = fit_factors(slide.spots, known, 4, 0)

    def said(spots):
        section, found = slide, None
        if changed == "counts":
            counts = slide.spots.values.toarray()
            counts[spots] += np.arange(counts.shape[1]) % 7 * 50
            section = replace(slide, measured=replace(slide.spots, values=sparse.csr_array(counts)))
        found = evidence_of(section, factors, known)
        if changed == "factors":
            values = found.factor_values.copy()
            values[spots] = np.nan_to_num(values[spots]) + 1000
            halves = tuple(np.where(spots[:, None], 1e6, half) for half in found.halves)
            found = replace(found, factor_values=values, halves=halves)
        prior = make_prior(found, known)
        prior = prior.of(~known) if kind == "nobody" else prior
        assert isinstance(prior, KINDS[kind])
        return everything_said(prior, factors)

    usual = said(np.zeros(n, dtype=bool))
    for one, other in zip(usual, said(~known), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(usual[0], said(known)[0])


def test_hiding_spots_of_an_average_by_distance_leaves_those_that_are_known_and_kept(slide, rng, monkeypatch):
    monkeypatch.setattr(room, "_MOST_KRIGED", 3)
    n = len(slide.spots.centers)
    known, kept = rng.random(n) < 0.7, rng.random(n) < 0.5
    evidence = Evidence(slide, rng.random((n, 2)))
    prior = make_prior(evidence, known)
    np.testing.assert_array_equal(prior.spots, np.flatnonzero(known))
    part = prior.of(kept)
    np.testing.assert_array_equal(part.spots, np.flatnonzero(known & kept))
    np.testing.assert_array_equal(part.centers, slide.spots.centers[known & kept])
    np.testing.assert_array_equal(part.density, evidence.density[known & kept])
    told = prior.left_out(Factors(("a", "b"), np.eye(2, dtype=np.float32)))
    np.testing.assert_array_equal(told.spots, np.flatnonzero(known))
    assert isinstance(prior.of(~known), Nothing)


def test_contrasts_have_no_say_in_the_width(slide, rng, monkeypatch):
    """Widths are compared by roots, which they do not have."""
    monkeypatch.setattr(room, "_MOST_KRIGED", 3)
    density = np.random.default_rng(0).gamma(50, 1, (len(slide.spots.centers), 2))  # the same everywhere but for noise
    contrast = rng.normal(size=len(density))
    plain = make_prior(Evidence(slide, density), everyone(slide))
    both = make_prior(Evidence(slide, np.column_stack([density, contrast]), n_signed=1), everyone(slide))
    assert both.width == plain.width > slide.spots.pitch


def test_where_nothing_is_known_the_mean_is_said(slide):
    prior = make_prior(Evidence(slide, factor_values(slide)), everyone(slide))
    for source in (prior.of(~everyone(slide)), nothing_known(prior.mean)):
        found = source.prior(Window(0, 0, 16, 16))
        np.testing.assert_allclose(found, np.broadcast_to(prior.mean[:, None, None], found.shape), rtol=1e-5)


def test_a_blank_picture_leaves_position(slide):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    prior = make_prior(Evidence(blank, factor_values(slide)), everyone(slide))
    assert np.isfinite(prior.prior(Window(0, 0, 32, 32))).all()


def test_the_maps_hold_what_the_spots_measured(slide):
    values = factor_values(slide)
    found = Evidence(slide, values)
    prior, density = make_prior(found, everyone(slide)), found.density
    maps = prior.prior(Window(0, 0, *(side // 8 * 8 for side in slide.grid.shape)))
    y, x = ((slide.spots.centers / prior.stride).astype(int)).T
    inside = (y < maps.shape[1]) & (x < maps.shape[2])
    told = maps[:, y[inside], x[inside]].sum()
    assert told == pytest.approx(density[inside].sum(), rel=0.15)


def test_standard_deviations_are_the_same_in_any_window_and_grow_away_from_spots(slide):
    factors = fit_factors(slide.spots, everyone(slide), 4, 0)
    prior = make_prior(evidence_of(slide, factors, everyone(slide)), everyone(slide))
    two = factors.of(list(factors.genes[:2]))
    told = np.random.default_rng(0).gamma(1, 1, (2, 64, 64)).astype(np.float32)
    whole = prior.sd(Window(0, 0, 64, 64), two, told)
    part = prior.sd(Window(16, 24, 48, 64), two, told[:, 16:48, 24:64])
    np.testing.assert_allclose(part, whole[:, 16:48, 24:64], rtol=1e-3)
    assert whole.shape == (2, 64, 64)
    nothing, usual, much = (prior.sd(Window(0, 0, 64, 64), two, np.full_like(told, value)) for value in (0, 1, 100))
    assert (nothing > 0).all()  # where nothing is expected, that is not certain
    assert ((usual >= nothing) & (much <= 10 * usual)).all()  # variance grows like the expression, at most
    assert (whole > 0).all()
    known, far = np.array([slide.spots.centers[0]]), np.array([slide.spots.centers.max(axis=0) + 1e4])
    blank = np.zeros((1, prior.field.drift.shape[1]))
    assert prior.field.variance(known, blank).sum() < prior.field.variance(far, blank).sum()


@pytest.mark.parametrize("kind", [Kriged, Neighbours])
def test_left_out_spots_are_told_by_the_others(slide, kind, monkeypatch):
    if kind is Neighbours:
        monkeypatch.setattr(room, "_MOST_KRIGED", 3)
    found = Evidence(slide, factor_values(slide))
    prior, density = make_prior(found, everyone(slide)), found.density
    told = prior.left_out(Factors(tuple("abcd"), np.eye(4, dtype=np.float32)))
    assert isinstance(prior, kind)
    np.testing.assert_array_equal(told.spots, np.arange(len(density)))
    assert (told.variance >= 0).all()
    assert np.square(told.density - density).mean() < 1.2 * np.square(density - density.mean(axis=0)).mean()
    alone = np.arange(len(density)) == 5
    window = Window(*(int(c) // 8 * 8 for c in slide.spots.centers[5]), 0, 0)
    window = Window(window.y0, window.x0, window.y0 + 8, window.x0 + 8)
    near = prior.of(~alone).prior(window).mean(axis=(1, 2))
    np.testing.assert_allclose(told.density[5], near, rtol=0.5, atol=0.2 * density.mean())


def test_a_picture_that_tells_nothing_is_not_looked_at(slide):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    assert make_prior(Evidence(slide, factor_values(slide)), everyone(slide)).sees_texture
    assert not make_prior(Evidence(blank, factor_values(slide)), everyone(slide)).sees_texture


def unevenly_measured(slide, rng):
    """The same spots, each measured so much better or worse than it should have been."""
    depth = np.exp(rng.normal(0, 1, len(slide.spots.centers)))
    values = sparse.csr_array(rng.poisson(slide.spots.values.toarray() * depth[:, None]).astype(np.float32))
    return replace(slide, measured=replace(slide.spots, values=values))


def test_spots_are_brought_to_a_common_sum_only_where_sums_tell_of_the_measurement(rng):
    even = make_slide(sp.io.section(toy(240, 240, pitch_um=24, rng=1)))
    for section, brought in ((even, False), (unevenly_measured(even, rng), True)):
        known = everyone(section)
        prior = make_prior(evidence_of(section, fit_factors(section.spots, known, 8, 0), known), known)
        assert (prior.level is not None) == brought


def test_variance_of_rates_is_that_of_small_changes_of_the_field(slide, rng):
    """Against differences of the rates when one component after the other is moved a little."""
    factors = fit_factors(slide.spots, everyone(slide), 4, 0)
    signed = rng.normal(0, 0.01, (len(factors.genes), 2)).astype(np.float32)
    factors = Factors(factors.genes, np.column_stack([factors.loadings[:, :4], signed]), 2)
    found = replace(evidence_of(slide, factors, everyone(slide)), n_signed=2)
    for section_level in (None, float(found.density[:, :4].sum(axis=1).mean())):
        prior = replace(make_prior(found, everyone(slide)), level=section_level)
        wanted = np.column_stack([rng.gamma(2, 20, (3, 4)), rng.normal(0, 5, (3, 2))])  # far from where it is cut off
        fields = room._quantities(wanted, 2, section_level)
        fields[:, :5] /= np.sqrt(prior.gain_hidden)
        components = (fields - prior.field.mean) @ np.linalg.pinv(prior.field.rotation)
        variance = rng.uniform(0.1, 1, components.shape)

        def rates_of(components, prior=prior):
            fields = components @ prior.field.rotation + prior.field.mean
            density = room._composed(fields, prior.gain_hidden, prior.mean, prior.level)
            return density, density @ factors.loadings.astype(np.float64).T

        density, rates = rates_of(components)
        told = np.zeros_like(rates)
        for q, step in enumerate(1e-5 * np.eye(components.shape[1])):
            told += (
                np.square((rates_of(components + step)[1] - rates_of(components - step)[1]) / 2e-5) * variance[:, [q]]
            )
        np.testing.assert_allclose(prior.rate_variance(density, variance, factors.loadings), told, rtol=1e-3)


def test_a_settled_prior_says_the_same_and_is_smaller(slide):
    import pickle

    factors = fit_factors(slide.spots, everyone(slide), 4, 0)
    prior = make_prior(evidence_of(slide, factors, everyone(slide)), everyone(slide))
    sent = pickle.dumps(prior.settled())
    received, window = pickle.loads(sent), Window(0, 16, 64, 96)
    np.testing.assert_array_equal(received.prior(window), prior.prior(window))
    expression = np.ones((len(factors.genes), *window.shape), dtype=np.float32)
    np.testing.assert_array_equal(received.sd(window, factors, expression), prior.sd(window, factors, expression))
    assert len(pickle.dumps(prior)) - len(sent) > 0.9 * prior.field.inverses.nbytes
