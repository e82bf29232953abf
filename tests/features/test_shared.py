from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sphisto.core.grid import Grid
from sphisto.core.spot import Spot
from sphisto.features.config import DriftConfig
from sphisto.features.maps import FeatureMaps
from sphisto.features.shared import share_features, sites
from sphisto.slide.slide import Slide

SIDE, PITCH = 200, 10.0  # px; that of Visium


@pytest.fixture
def drawn(rng):
    """Draw a section of four smooth features, one in blocks of 2 px, all of one tissue."""

    def draw(name):
        noise = rng.normal(size=(4, SIDE // 2, SIDE // 2))
        smooth = ndimage.gaussian_filter(noise, (0, 4, 4)) * 15
        mixed = np.einsum("pq,qyx->pyx", np.eye(4) + 0.4, smooth).astype(np.float32)
        grid, tissue = Grid(SIDE, SIDE, 10.0), np.ones((SIDE, SIDE), dtype=bool)
        slide = Slide(name, np.zeros((3, SIDE, SIDE), dtype=np.uint8), grid, tissue, Spot(55.0))
        return slide, FeatureMaps(mixed, (0, 0), 2, slide.spot, 10.0)

    return draw


def shared_by(sections, scaling="section", **options):
    slides, maps = zip(*sections, strict=True)
    return share_features(slides, maps, scaling, DriftConfig(**options), 0)


def components_of(shared, section):
    slide, maps = section
    return shared.of(slide, maps).at_spots(sites(slide))


def test_functions_stand_for_a_covariance_by_likeness(drawn):
    """Products of the functions are the kernel: exactly at landmarks, nearly elsewhere, and never too much."""
    sections = [drawn("a"), drawn("b")]
    shared = shared_by(sections, landmarks=300)

    def kernel(a, b):
        apart = np.square(a[:, None] - b[None]).sum(axis=2) / shared.length
        return 0.5 * np.exp(-apart / 0.3) + 0.5 * np.exp(-apart) + shared.linear * a @ b.T

    landmarks, others = shared.landmarks, components_of(shared, drawn("c"))[:200]
    for points, most in ((landmarks, 1e-4), (others, 0.05)):
        functions = shared.functions(points)
        assert functions.shape == (len(points), shared.n_functions)
        found, expected = functions @ functions.T, kernel(points, points)
        assert np.sqrt(np.square(found - expected).mean()) < most
        np.testing.assert_allclose(np.diag(expected), shared.variance(points))
        assert (np.square(functions).sum(axis=1) <= shared.variance(points) + 1e-6).all()


def test_sums_of_functions_are_those_of_the_functions(drawn, rng):
    shared = shared_by([drawn("a"), drawn("b")])
    points = rng.normal(scale=0.5, size=(4_500, shared.basis.shape[1]))  # more than are in memory together
    coefficients = rng.normal(size=(shared.n_functions, 3))
    expected = shared.functions(points) @ coefficients
    np.testing.assert_allclose(shared.applied(points, coefficients), expected, atol=1e-8 * np.abs(expected).max())


def test_more_landmarks_are_closer_to_the_covariance(drawn):
    sections, other = [drawn("a"), drawn("b")], drawn("c")
    missing = []
    for landmarks in (20, 80, 320):
        shared = shared_by(sections, landmarks=landmarks)
        points = components_of(shared, other)
        missing.append((shared.variance(points) - np.square(shared.functions(points)).sum(axis=1)).mean())
    assert missing[0] > 2 * missing[1] > 4 * missing[2] >= 0


def test_components_have_a_mean_squared_length_of_one(drawn):
    sections = [drawn("a"), drawn("b")]
    shared = shared_by(sections)
    found = np.concatenate([components_of(shared, each) for each in sections])
    assert np.square(found).sum(axis=1).mean() == pytest.approx(1, abs=0.01)


def restained(section, name="restained"):
    """The same tissue, stained and scanned otherwise: each feature in another unit, from another zero."""
    slide, maps = section
    scale, shift = np.array([0.5, 1.0, 2.0, 3.0]), np.array([3.0, -1.0, 0.0, 2.0])
    values = (maps.values * scale[:, None, None] + shift[:, None, None]).astype(np.float32)
    return replace(slide, name=name), replace(maps, values=values)


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_features_scaled_by_section_do_not_see_another_stain_and_pooled_ones_do(drawn, scaling):
    taught = [drawn("a"), drawn("b")]
    shared = shared_by(taught, scaling)
    found, expected = components_of(shared, restained(taught[0])), components_of(shared, taught[0])
    if scaling == "section":
        np.testing.assert_allclose(found, expected, atol=1e-3)
    else:
        assert np.sqrt(np.square(found - expected).mean()) > np.sqrt(np.square(expected).mean())


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_pooled_features_keep_what_sections_differ_in(drawn, scaling):
    """The mean of a section's features is a difference that scaling by section takes away, whatever it comes from."""
    (first, maps), (second, others) = drawn("a"), drawn("b")
    apart = replace(others, values=others.values + np.float32(4))
    shared = shared_by([(first, maps), (second, apart)], scaling)
    means = [components_of(shared, each).mean(axis=0) for each in ((first, maps), (second, apart))]
    distance = np.linalg.norm(means[1] - means[0])
    assert distance < 0.02 if scaling == "section" else distance > 0.5


def test_the_same_tissue_is_hardly_ever_strange_and_another_is(drawn):
    shared, new = shared_by([drawn("a"), drawn("b")]), drawn("c")
    places = sites(new[0])
    usual = shared.of(*new).shift(places)
    assert (usual < 1).mean() >= 0.97
    for section in (drawn("a"), drawn("b")):
        assert (shared.of(*section).shift(places) < 1).mean() >= 0.97
    for far in (10, 1e6):
        other = replace(new[1], values=new[1].values + np.float32(far))
        strange = shared.of(new[0], other).shift(places)
        assert (strange > 1).all()
        assert np.isfinite(strange).all()


def test_of_those_that_taught_99_percent_are_usual(drawn):
    sections = [drawn("a"), drawn("b")]
    shared = shared_by(sections, known=10_000)
    found = np.concatenate([shared.of(*each).shift(sites(each[0])) for each in sections])
    assert (found <= 1).mean() >= 0.99
    alone = shared_by(sections[:1], known=10_000)
    assert (alone.of(*sections[0]).shift(sites(sections[0][0])) <= 1).mean() >= 0.99


def test_blank_images_have_functions_all_the_same(drawn):
    slide, maps = drawn("a")
    blank = (slide, replace(maps, values=np.zeros_like(maps.values)))
    for sections in ([blank], [blank, drawn("b")]):
        shared = shared_by(sections)
        bound = shared.of(*blank)
        places = sites(slide)
        assert np.isfinite(bound.shift(places)).all()
        functions = shared.functions(bound.at(places))
        assert np.isfinite(functions).all()
        np.testing.assert_allclose(functions, functions[:1].repeat(len(places), axis=0), atol=1e-6)


def test_sites_lie_on_tissue_a_pitch_apart_and_are_not_too_many(drawn):
    slide, _ = drawn("a")
    tissue = slide.tissue.copy()
    tissue[:, 100:] = False
    found = sites(replace(slide, tissue=tissue))
    assert (found[:, 1] < 100).all()
    assert len(found) == pytest.approx(SIDE * 100 / PITCH**2, rel=0.05)
    wide = replace(slide, tissue=np.ones((2_000, 2_000), dtype=bool), grid=Grid(2_000, 2_000, 10.0))
    assert len(sites(wide)) <= 20_500
    with pytest.raises(ValueError, match="Found no tissue in 'a'.*Give `tissue`"):
        sites(replace(slide, tissue=np.zeros((SIDE, SIDE), dtype=bool)))


def test_each_source_counts_by_its_weight(drawn):
    sections = [drawn("a"), drawn("b")]
    without = [(slide, replace(maps, values=maps.values[:2])) for slide, maps in sections]
    weight = np.array([1, 1, 0, 0], dtype=np.float32)
    weighted = [(slide, replace(maps, weight=weight)) for slide, maps in sections]
    found, expected = (components_of(shared_by(each), each[0]) for each in (weighted, without))
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)
