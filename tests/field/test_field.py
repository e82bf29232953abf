from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sphisto.core.tiles import Window
from sphisto.core.upsample import stride_for
from sphisto.features.maps import SectionFeatures
from sphisto.features.texture import Texture
from sphisto.field.cokriging import CoKriging
from sphisto.field.config import FieldConfig
from sphisto.field.field import Field
from sphisto.field.gaussian import Averaged
from sphisto.genes.config import GeneModelConfig
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import GeneModel
from sphisto.genes.observations import observe

CONFIGS = {
    "kriging": FieldConfig(),
    "windows": FieldConfig(most_spots=20, core=3.0, halo=3.0, blend=0.5),
    "sampled": FieldConfig(most_spots=20, core=3.0, halo=3.0, blend=0.5, sample=25),
    "too few": FieldConfig(least_spots=100),
    "gaussian": FieldConfig(solver="gaussian"),
}
SOLVERS = {"kriging": CoKriging, "windows": CoKriging, "sampled": CoKriging, "too few": Averaged, "gaussian": Averaged}


@pytest.mark.parametrize("kind", CONFIGS)
def test_kriging_is_for_sections_of_enough_spots(slide, fit, kind):
    assert isinstance(fit(slide, config=CONFIGS[kind]).solver, SOLVERS[kind])


def test_an_unknown_solver_is_refused(slide, fit):
    with pytest.raises(ValueError, match="Found solver='spline'; expected one of 'kriging', 'gaussian'"):
        fit(slide, config=FieldConfig(solver="spline"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"far": 0}, "Found far=0"),
        ({"nuggets": ()}, "Found no nuggets"),
        ({"nuggets": (0.1, -1)}, "Found nuggets"),
        ({"alike_weight": -0.1}, "Found alike_weight=-0.1"),
        ({"points_per_pitch": 0}, "Found points_per_pitch=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FieldConfig(**options)


def test_the_stride_keeps_four_points_to_a_pitch():
    assert [stride_for(p, 4) for p in (3, 8, 17, 40, 1000)] == [1, 2, 4, 8, 8]
    assert stride_for(40, 8) == 4


@pytest.mark.parametrize("kind", ["kriging", "windows", "gaussian"])
def test_a_map_is_the_same_in_any_window(slide, fit, kind):
    posterior = fit(slide, config=CONFIGS[kind]).given("all")
    s = posterior.stride
    whole, part = posterior.maps(Window(0, 0, 64, 64)), posterior.maps(Window(16, 32, 48, 64))
    assert whole.shape == (4, 64 // s, 64 // s)
    assert (whole > 0).all()
    np.testing.assert_allclose(part, whole[:, 16 // s : 48 // s, 32 // s :], rtol=1e-4)


def test_pixels_are_interpolated_between_the_points_of_maps(slide, fit):
    posterior = fit(slide, config=FieldConfig(use_stain=False)).given("all")
    s, window = posterior.stride, Window(16, 24, 48, 64)
    y, x = np.array([0, 5, 20]), np.array([3, 11, 30])
    maps = posterior.maps(Window(0, 0, 80, 96))
    at = (np.stack([y + 16.5, x + 24.5]) / s) - 0.5
    low = np.floor(at).astype(int)
    (b, a), expected = at - low, 0
    for i, j, weight in ((0, 0, (1 - b) * (1 - a)), (1, 0, b * (1 - a)), (0, 1, (1 - b) * a), (1, 1, b * a)):
        expected = expected + maps[:, low[0] + i, low[1] + j] * weight
    np.testing.assert_allclose(posterior.at_pixels(window, y, x), expected, rtol=1e-4)


def everything_of(field, model, known="all"):
    """All that can be read from a field, somewhere near spots and far from them."""
    window, some = Window(0, 0, 64, 96), model.of(list(model.genes[:3]))
    posterior, expression = field.given(known), np.ones((3, *window.shape), dtype=np.float32)
    return [
        posterior.mean, posterior.maps(window), posterior.maps(window.moved(400, 400)),
        posterior.sd(window, some, expression), *field.leave_one_out(some),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("nobody", [False, True])
def test_counts_of_spots_that_are_not_known_change_nothing(slide, fit, kind, nobody):
    """To the last bit; those of spots that are known do."""
    n = len(slide.spots.centers)
    known = np.arange(n) % 3 > 0
    model = fit_factors(slide.spots, known, GeneModelConfig(n_factors=4), 0)

    def read(changed):
        counts = slide.spots.values.toarray()
        counts[changed] += np.arange(counts.shape[1]) % 7 * 50
        section = replace(slide, measured=replace(slide.spots, values=sparse.csr_array(counts)))
        field = fit(section, known, model, CONFIGS[kind])
        return everything_of(field, model, np.zeros(known.sum(), bool) if nobody else "all")

    usual = read(np.zeros(n, dtype=bool))
    for one, other in zip(usual, read(~known), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(usual[0], read(known)[0])


@pytest.mark.parametrize("kind", ["kriging", "gaussian"])
def test_what_hidden_observations_measured_is_not_in_the_posterior(slide, fit, rng, kind):
    """Once the free numbers are chosen, whatever they measured."""
    field = fit(slide, config=CONFIGS[kind])
    known = rng.random(len(field.observations)) < 0.7
    if kind == "kriging":
        kriging = field.solver.kriging
        loud, solved = kriging.components.copy(), kriging.solved.copy()
        loud[~known] += 10
        solved[:, ~known] += 10
        solver = replace(field.solver, kriging=replace(kriging, components=loud, solved=solved))
    else:
        loud = field.solver.densities.copy()
        loud[~known] += 1000
        solver = replace(field.solver, densities=loud)
    other, window = replace(field, solver=solver), Window(0, 0, 64, 64)
    for one, two in (
        (other.given(known), field.given(known)),
        (other.around(window).given(known), field.around(window).given(known)),
    ):
        np.testing.assert_allclose(one.maps(window), two.maps(window), rtol=0.02, atol=0.01)
    assert not np.allclose(other.given("all").maps(window), field.given("all").maps(window), rtol=0.02, atol=0.01)


def test_around_a_window_are_the_observations_that_matter_for_it(slide, fit):
    field = fit(slide, config=FieldConfig(halo=2.0))
    window = Window(0, 0, 16, 16)
    around = field.around(window)
    reach, centers = 2 * field.observations.pitch, field.observations.centers
    np.testing.assert_array_equal(around.rows, np.flatnonzero((centers <= 16 + reach).all(axis=1)))
    assert 0 < len(around.rows) < len(field.observations)
    assert len(field.around(window, section=1).rows) == 0
    nothing = around.given(np.zeros(len(around.rows), dtype=bool))
    np.testing.assert_array_equal(nothing.maps(window)[:, 0, 0], field.mean.astype(np.float32))


def test_around_a_window_the_field_is_that_of_the_whole_section(slide, fit):
    field, window = fit(slide), Window(16, 16, 64, 64)
    around = field.around(window)
    known = np.arange(len(around.rows)) % 2 == 0
    every = np.ones(len(field.observations), dtype=bool)
    every[around.rows] = known
    np.testing.assert_allclose(around.given(known).maps(window), field.given(every).maps(window), rtol=1e-3)


def test_where_nothing_is_known_the_mean_holds_and_no_deviation_is_known(slide, fit):
    field = fit(slide)
    nothing = field.given(np.zeros(len(field.observations), dtype=bool))
    found = nothing.maps(Window(0, 0, 16, 16))
    np.testing.assert_allclose(found, np.broadcast_to(field.mean[:, None, None], found.shape), rtol=1e-5)
    two = GeneModel(("a", "b"), np.eye(4, dtype=np.float32)[:2])
    assert np.isnan(nothing.sd(Window(0, 0, 16, 16), two, np.ones((2, 16, 16), np.float32))).all()
    assert np.isnan(nothing.variance_at(np.full((3, 2), 8.0), two, np.ones((3, 2)), np.zeros(2))).all()


def test_standard_deviations_are_the_same_in_any_window_and_follow_the_expression(slide, fit):
    model = fit_factors(slide.spots, np.ones(len(slide.spots.centers), bool), GeneModelConfig(n_factors=4), 0)
    posterior, two = fit(slide, model=model).given("all"), model.of(list(model.genes[:2]))
    told = np.random.default_rng(0).gamma(1, 1, (2, 64, 64)).astype(np.float32)
    whole = posterior.sd(Window(0, 0, 64, 64), two, told)
    part = posterior.sd(Window(16, 24, 48, 64), two, told[:, 16:48, 24:64])
    np.testing.assert_allclose(part, whole[:, 16:48, 24:64], rtol=1e-3)
    assert whole.shape == (2, 64, 64)
    nothing, usual, much = (posterior.sd(Window(0, 0, 64, 64), two, np.full_like(told, v)) for v in (0, 1, 100))
    assert (nothing > 0).all()  # where nothing is expected, that is not certain
    assert ((usual >= nothing) & (much <= 10 * usual)).all()  # variance grows like the expression, at most


@pytest.mark.parametrize("kind", ["kriging", "windows"])
def test_variances_at_points_are_those_of_the_maps_there(slide, fit, kind, monkeypatch):
    model = fit_factors(slide.spots, np.ones(len(slide.spots.centers), bool), GeneModelConfig(n_factors=4), 0)
    posterior, two = fit(slide, config=CONFIGS[kind], model=model).given("all"), model.of(list(model.genes[:2]))
    told, scatter = np.random.default_rng(0).gamma(1, 1, (2, 64, 64)).astype(np.float32), np.array([0.3, 0.0])
    sd = posterior.sd(Window(0, 0, 64, 64), two, told, scatter)
    y, x = np.random.default_rng(1).integers(0, 64, (2, 200))
    points = np.stack([y, x], axis=1) + 0.5
    found = posterior.variance_at(points, two, told[:, y, x].T, scatter)
    np.testing.assert_allclose(np.sqrt(found), sd[:, y, x].T, rtol=1e-4)
    monkeypatch.setattr("sphisto.field.posterior._VALUES", 56)  # seven points at a time
    np.testing.assert_allclose(posterior.variance_at(points, two, told[:, y, x].T, scatter), found, rtol=1e-5)


@pytest.mark.parametrize("kind", ["kriging", "windows", "gaussian"])
def test_observations_are_predicted_from_the_others(slide, fit, kind):
    field = fit(slide, config=CONFIGS[kind])
    density = field.observations.density
    found = field.leave_one_out(GeneModel(tuple("abcd"), np.eye(4, dtype=np.float32)))
    np.testing.assert_array_equal(found.rows, np.arange(len(density)))
    assert (found.variance >= 0).all()
    assert np.square(found.density - density).mean() < 1.2 * np.square(density - density.mean(axis=0)).mean()
    y, x = (int(c) // 8 * 8 for c in slide.spots.centers[5])
    without = field.given(np.arange(len(density)) != 5).maps(Window(y, x, y + 8, x + 8)).mean(axis=(1, 2))
    np.testing.assert_allclose(found.density[5], without, rtol=0.5, atol=0.2 * density.mean())


def test_of_very_many_observations_some_are_left_out(slide, fit):
    field = fit(slide, config=FieldConfig(left_out=10))
    found = field.leave_one_out(GeneModel(tuple("abcd"), np.eye(4, dtype=np.float32)))
    np.testing.assert_array_equal(found.rows, np.linspace(0, len(field.observations) - 1, 10).astype(int))


def test_a_posterior_that_is_sent_gives_the_same_and_leaves_behind_what_is_made_again(slide, fit):
    posterior, window = fit(slide).given("all"), Window(0, 16, 64, 96)
    before = len(pickle.dumps(posterior))
    maps = posterior.maps(window)
    sent = pickle.dumps(posterior)
    assert len(sent) == pytest.approx(before, rel=0.2)  # trees of places may be sent
    np.testing.assert_array_equal(pickle.loads(sent).maps(window), maps)


def test_an_image_that_does_not_help_is_not_used(slide, fit):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    assert fit(slide).uses_features
    assert not fit(blank).uses_features
    assert np.isfinite(fit(blank).given("all").maps(Window(0, 0, 32, 32))).all()


def test_features_can_be_left_out_by_settings(slide, fit):
    field = fit(slide, config=FieldConfig(use_features=False))
    assert not field.uses_features
    position = Field.fit(field.observations, None, FieldConfig())
    window = Window(0, 0, 64, 64)
    np.testing.assert_array_equal(position.given("all").maps(window), field.given("all").maps(window))


def test_glass_around_the_tissue_is_not_described_and_changes_nothing(slide):
    (height, width), pad, side = slide.grid.shape, (1024, 700), 3000
    place = Window(*pad, pad[0] + height, pad[1] + width)
    image, tissue = np.full((3, side, side), 242, dtype=np.uint8), np.zeros((side, side), dtype=bool)
    image[:, *place.slices], tissue[place.slices] = slide.image, slide.tissue
    around = replace(
        slide, image=image, tissue=tissue, grid=replace(slide.grid, height=side, width=side),
        measured=replace(slide.measured, centers=slide.spots.centers + pad),
    )  # fmt: skip
    everywhere = replace(around, tissue=np.ones((side, side), dtype=bool))
    known = np.ones(len(slide.spots.centers), bool)
    observations = observe(
        around, fit_factors(slide.spots, known, GeneModelConfig(n_factors=4), 0), known, GeneModelConfig()
    )
    features = [SectionFeatures(each, (Texture(),)) for each in (around, everywhere)]
    found, expected = (Field.fit(observations, each, FieldConfig(use_stain=False)).given("all") for each in features)
    assert features[0].maps.values.nbytes < features[1].maps.values.nbytes / 4
    tile = Window(1024, 512, 1536, 1024)
    np.testing.assert_allclose(found.maps(tile), expected.maps(tile), rtol=0.01)
