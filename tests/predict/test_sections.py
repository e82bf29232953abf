from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

import sphisto as sp
from sphisto.config import FitConfig, GeneModelConfig
from sphisto.core.tiles import plan_tiles
from sphisto.core.upsample import COARSEST
from sphisto.datasets import toy
from sphisto.features.texture import Texture
from sphisto.field.posterior import prior_mean
from sphisto.field.regress import regress
from sphisto.genes.factorize import fit_factors
from sphisto.genes.model import rates
from sphisto.genes.observations import observe
from sphisto.io.slides import make_slide
from sphisto.predict import sections
from sphisto.predict.conditioning import features_of, fit_field
from sphisto.predict.regression_content import as_content, from_content
from sphisto.predict.sections import (
    field_of,
    fit_together,
    of_common_genes,
    shared_model,
    uses_neighbours,
    warn_if_nothing_followed,
)
from sphisto.scoring import metrics
from sphisto.scoring.at_spots import pool_posterior
from sphisto.slide.frames import frames_of

SOURCES, CONFIG = [Texture()], FitConfig()


@pytest.fixture(scope="module")
def slides():
    """Two sections of one tissue, some 150 spots each."""
    drawn = [toy(500, 500, pitch_um=60, rng=seed) for seed in (1, 2)]
    return [replace(make_slide(sp.io.section(each)), name=f"toy{i}") for i, each in enumerate(drawn)]


def kept_of(slides, share):
    """All spots of the first section, and of the second a share at random."""
    n = len(slides[1].spots.centers)
    known = np.zeros(n, dtype=bool)
    known[np.random.default_rng(0).permutation(n)[: round(share * n)]] = True
    return [np.ones(len(slides[0].spots.centers), dtype=bool), known]


def score(slide, known, posterior, model):
    """Mean Pearson correlation, and deviance explained, of predictions at the hidden spots."""
    tiles = plan_tiles(slide.grid.shape, size=256, multiple=posterior.stride)
    density = pool_posterior(posterior, slide, slide.footprint().select(np.flatnonzero(~known)), tiles)
    predicted = rates(density, model.loadings.astype(np.float64), model.n_contrasts)
    truth = slide.spots.values[np.flatnonzero(~known)].toarray().astype(np.float64)
    by_gene = metrics.pearson(metrics.expected_log_normalised(predicted), metrics.log_normalised(truth))
    return np.nanmean(by_gene), deviance(predicted, truth)


def deviance(predicted, truth):
    return float(metrics.poisson_deviance(np.broadcast_to(predicted, truth.shape), truth).mean())


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_a_section_without_spots_is_predicted_better_than_by_the_mean_profile(slides, scaling):
    kept = kept_of(slides, 0)
    shared = fit_together(slides, kept, SOURCES, CONFIG, scaling, 0)
    drift = shared.drift(1)
    assert drift.regression.sections == ("toy0",)
    posterior = prior_mean(shared.regression.roots.mean, COARSEST, drift)
    pearson, found = score(slides[1], kept[1], posterior, shared.model.of(1))
    truth = slides[1].spots.values.toarray().astype(np.float64)
    assert pearson > 0.3  # the mean profile has none
    assert found < 0.9 * deviance(slides[0].spots.values.toarray().mean(axis=0), truth)
    # its spots have no part in it
    other = replace(slides[1], measured=replace(slides[1].spots, values=slides[1].spots.values * 7))
    again = fit_together([slides[0], other], kept, SOURCES, CONFIG, scaling, 0)
    np.testing.assert_array_equal(again.model.shared.loadings, shared.model.shared.loadings)
    points = slides[1].spots.centers
    np.testing.assert_array_equal(again.drift(1).at(points), drift.at(points))
    # and nobody is left to tell the first section anything
    assert shared.drift(0) is None


def test_a_section_with_a_fifth_of_its_spots_is_predicted_better_than_alone(slides):
    kept, slide = kept_of(slides, 0.2), slides[1]
    shared, features = fit_together(slides, kept, SOURCES, CONFIG, "section", 0), features_of(slide, SOURCES, CONFIG)
    together = field_of(slide, shared, 1, kept[1], features, CONFIG).given("all")
    model = fit_factors(slide.spots, kept[1], CONFIG.genes, 0)
    alone = fit_field(slide, model, kept[1], features, CONFIG).given("all")
    (more, less_missed), (less, more_missed) = (
        score(slide, kept[1], *each) for each in ((together, shared.model.of(1)), (alone, model))
    )
    assert more > less + 0.01
    assert less_missed < more_missed
    # where none of its spots may be used, the other section still tells
    field = field_of(slide, shared, 1, kept[1], features, CONFIG)
    nothing = field.given(np.zeros(kept[1].sum(), dtype=bool))
    assert np.ptp(nothing.solution.density(slide.spots.centers), axis=0).max() > 0


def test_a_section_that_follows_nothing_is_warned_of(slides, caplog):
    """Of the second section spots have changed their places, so that its image leads to expect what is not there."""
    order = np.random.default_rng(0).permutation(len(slides[1].spots.centers))
    moved = replace(slides[1], measured=replace(slides[1].spots, values=slides[1].spots.values[order]))
    kept = kept_of(slides, 1)
    for pair, followed in ((slides, 1), ([slides[0], moved], 0)):
        shared, features = (
            fit_together(pair, kept, SOURCES, CONFIG, "section", 0),
            features_of(pair[1], SOURCES, CONFIG),
        )
        field = field_of(pair[1], shared, 1, kept[1], features, CONFIG)
        caplog.clear()
        warn_if_nothing_followed(field, pair[1])
        assert (field.followed == 0) == (followed == 0) == ("fit it by itself" in caplog.text)


def with_genes(slide, genes):
    return replace(slide, measured=replace(slide.spots, genes=tuple(genes)))


def test_common_genes_are_used_in_the_order_of_the_first_and_the_others_are_told(slides, caplog):
    first, second = slides
    genes, n = list(second.spots.genes), len(second.spots.genes)
    order = np.random.default_rng(0).permutation(n)[: n - 2]
    values = sparse.csr_array(second.spots.values[:, order])
    other = replace(second, measured=replace(second.spots, values=values, genes=tuple(genes[i] for i in order)))
    with caplog.at_level(logging.INFO, "sphisto"):
        found = of_common_genes([first, other])
    expected = [gene for gene in first.spots.genes if gene in other.spots.genes]
    assert [list(each.spots.genes) for each in found] == [expected, expected]
    for each, whole in zip(found, slides, strict=True):
        columns = [whole.spots.genes.index(gene) for gene in expected]
        np.testing.assert_array_equal(each.spots.values.toarray(), whole.spots.values[:, columns].toarray())
    assert f"toy0: {n - 2} of {n} genes are in all sections" in caplog.text
    assert "toy1" not in caplog.text


def test_symbols_against_ids_are_refused_with_the_mend(slides):
    ids = with_genes(slides[1], (f"ENSG{i:011d}" for i in range(len(slides[1].spots.genes))))
    with pytest.raises(ValueError, match=r"0 genes in common.*0% of the counts of 'toy0'") as found:
        of_common_genes([slides[0], ids])
    for word in ("symbols or to ids", "adata.var_names = adata.var['gene_ids']", "at least 50%"):
        assert word in str(found.value)


def test_a_small_panel_is_not_taken_for_names_of_another_kind(slides):
    """Its names are all found in the other section, of which its genes carry a small share of the counts."""
    counts = np.asarray(slides[0].spots.values.sum(axis=0)).ravel()
    rare = [slides[0].spots.genes[i] for i in np.argsort(counts)[:4]]
    panel = replace(slides[1], measured=slides[1].spots.of(rare))
    said = r"4 genes in common, .* of 'toy0'.*'toy1' has only 4 of its \d+ genes, by the same names: leave 'toy1' out, or cut"
    with pytest.raises(ValueError, match=said) as found:
        of_common_genes([slides[0], panel])
    assert "symbols" not in str(found.value)
    cut = replace(slides[0], measured=slides[0].spots.of(rare))
    assert [each.spots.genes for each in of_common_genes([cut, panel])] == [tuple(rare)] * 2


def test_sections_that_share_few_counts_are_refused(slides):
    genes = slides[1].spots.genes
    some = with_genes(slides[1], [*genes[:2], *(f"other{i}" for i in range(len(genes) - 2))])
    with pytest.raises(ValueError, match="The sections have 2 genes in common"):
        of_common_genes([slides[0], some])


@pytest.fixture(scope="module")
def halves():
    """One section twice, each with half of the molecules and an image of noise: places are all that they share."""
    adata = toy(500, 500, pitch_um=60, rng=4)
    counts = adata.X.toarray().astype(int)
    half = np.random.default_rng(0).binomial(counts, 0.5)
    slides, rng = [], np.random.default_rng(1)
    for number, values in enumerate((half, counts - half)):
        each = adata.copy()
        each.X = values.astype(np.float32)
        slide = make_slide(sp.io.section(each))
        noise = rng.integers(100, 200, slide.image.shape).astype(np.uint8)
        slides.append(replace(slide, name=f"half{number}", image=noise))
    return slides


@pytest.fixture(scope="module")
def laid(registration):
    """Lay the second of two upon the first, off by a shift in x, y of full-resolution px."""

    def lay(slides, shift=(0.0, 0.0), **about):
        um = slides[0].grid.fullres_um_per_px
        found = registration("half1", "half0", 0, shift, (um, um), **about)
        frames = frames_of({"half0": None, "half1": found})
        return [replace(slide, frame=frames[slide.name]) for slide in slides]

    return lay


def test_registered_sections_tell_what_they_measured_at_the_same_place(halves, laid):
    kept = kept_of(halves, 0)
    found = {}
    for name, slides in {"apart": halves, "laid": laid(halves), "not trusted": laid(halves, weight=0.0)}.items():
        shared = fit_together(slides, kept, SOURCES, CONFIG, "section", 0)
        posterior = prior_mean(shared.regression.roots.mean, COARSEST, shared.drift(1))
        found[name] = score(halves[1], kept[1], posterior, shared.model.of(1))
    assert found["laid"][0] > found["apart"][0] + 0.02
    assert found["laid"][1] < found["apart"][1]
    assert found["not trusted"] == found["apart"]


def test_a_registration_that_left_out_spots_speak_against_is_not_used(halves, laid, caplog):
    """A trusted one that is off by eight pitches: with some spots of its own the section is no worse than without."""
    pitch, kept, found = halves[0].pitch * halves[0].grid.fullres_per_px[0], kept_of(halves, 0.4), {}
    features = features_of(halves[1], SOURCES, CONFIG)
    for name, slides in {"apart": halves, "off": laid(halves, (0, 8 * pitch)), "laid": laid(halves)}.items():
        caplog.clear()
        shared = fit_together(slides, kept, SOURCES, CONFIG, "section", 0)
        field = field_of(slides[1], shared, 1, kept[1], features, CONFIG)
        found[name] = score(halves[1], kept[1], field.given("all"), shared.model.of(1))
        assert uses_neighbours(field, slides[1]) is {"apart": None, "off": False, "laid": True}[name]
        assert ("predicted better without the sections that it is registered to" in caplog.text) == (name == "off")
    assert found["off"] == found["apart"] != found["laid"]


def test_what_was_measured_is_kept_only_where_sections_are_registered_or_it_is_asked_for(halves, laid):
    kept = kept_of(halves, 1)
    keeping = replace(CONFIG, drift=replace(CONFIG.drift, keep_spots=True))
    for slides, config, n in ((halves, CONFIG, 0), (halves, keeping, 2), (laid(halves), CONFIG, 2)):
        regression = fit_together(slides, kept, SOURCES, config, "section", 0).regression
        assert len(regression.neighbours) == n
        assert len(regression.without("half0").neighbours) == n // 2
        again = from_content(as_content(regression))
        assert len(again.neighbours) == n
        for one, other in zip(regression.neighbours, again.neighbours, strict=True):
            np.testing.assert_array_equal(one.components, other.components)
            np.testing.assert_array_equal(one.frame.matrix, other.frame.matrix)
            assert (one.frame.group, one.frame.step, one.pitch_um) == (
                other.frame.group,
                other.frame.step,
                other.pitch_um,
            )


def test_features_of_bins_that_are_summed_to_squares_are_those_of_the_squares(monkeypatch):
    drawn = [toy(160, 160, um_per_px=4.0, bin_um=8.0, mean_counts=2, min_tissue=0.5, rng=seed) for seed in (1, 2)]
    bins = [replace(make_slide(sp.io.section(each)), name=f"bins{i}") for i, each in enumerate(drawn)]
    kept, given = [np.ones(len(slide.spots.centers), dtype=bool) for slide in bins], []
    monkeypatch.setattr(sections, "regress", lambda *args, **kw: given.append(args[1]) or regress(*args, **kw))
    shared = fit_together(bins, kept, SOURCES, CONFIG, "section", 0)
    field = field_of(bins[0], shared, 0, kept[0], features_of(bins[0], SOURCES, CONFIG), CONFIG)
    observed = field.observations
    whole = observed.members.sum(axis=1) == observed.area
    assert observed.area > 1
    assert whole.sum() > 100
    single = shared.bound[0].maps.at_spots(bins[0].spots.centers)
    for features in (given[0][0][2], field.solver.drift.features):
        found = features.maps.at_spots(observed.centers)
        np.testing.assert_allclose(found[whole], observed.of_spots(single)[whole], rtol=1e-4, atol=1e-5)


# ---- what differs between sections, by how they were measured and by what they are made of

GENES = tuple(f"gene{i}" for i in range(200))


def made(profile, *, yields, seed, more=1.0):
    """A drawn section: (n, G) true rates by the classes of its tissue, of which one yields ``more``, and counts by these times ``yields``."""
    drawn = toy(400, 400, pitch_um=60, rng=1)
    slide = make_slide(sp.io.section(drawn))
    classes = sp.datasets.toy_truth(drawn, [f"class{i}_a" for i in range(4)]).values
    centers, reach = slide.spots.centers.round().astype(int), round(slide.spot.um / slide.grid.um_per_px / 3)
    side = np.arange(-reach, reach + 1)
    share = classes[:, centers[:, 0, None, None] + side[:, None], centers[:, 1, None, None] + side].mean(axis=(2, 3)).T
    share[:, np.argsort(share.mean(axis=0))[-2]] *= more
    rate = share / classes.max() @ profile
    counts = np.random.default_rng(seed).poisson(rate * yields).astype(np.float32)
    spots = replace(slide.spots, values=sparse.csr_array(counts), genes=GENES)
    return replace(slide, name=f"made{seed}", measured=spots), rate


def differences(slides, model):
    """(G,) log ratio of the first section over the second: by composition at usual levels, and by levels; without depth."""
    usual = model.shared.loadings.astype(np.float64)
    density = [
        observe(s, model.of(i), np.ones(len(s.spots.centers), bool), CONFIG.genes).density for i, s in enumerate(slides)
    ]
    first, second = (rates(each, usual, model.shared.n_contrasts).mean(axis=0) for each in density)
    found = np.log(first / second), model.levels[0] - model.levels[1]
    return [each - each.mean() for each in found]


@pytest.fixture
def profile(rng):
    return rng.gamma(0.5, 8, (4, len(GENES))) + 0.5


@pytest.fixture
def yields(rng):
    return np.exp(rng.normal(0, 0.2, (2, len(GENES))))


@pytest.mark.parametrize("scaling", ["section", "pooled"])
def test_a_batch_and_a_difference_in_tissue_are_both_found(profile, yields, scaling):
    """One class of the second section has three times the transcripts, which no image shows; each gene has yields of its own."""
    (one, first), (two, second) = (made(profile, yields=y, seed=i, more=1 + 2 * i) for i, y in enumerate(yields))
    shared = fit_together([one, two], kept_of([one, two], 1), SOURCES, CONFIG, scaling, 0)
    found = differences([one, two], shared.model)
    drawn = np.log(first.mean(axis=0) / second.mean(axis=0)), np.log(yields[0] / yields[1])
    for each, true in zip(found, drawn, strict=True):
        assert 0.6 < np.polyfit(true, each, 1)[0] < 1.1
        assert np.corrcoef(each, true)[0, 1] > 0.9


def test_of_a_batch_that_looks_like_composition_less_is_taken_for_it(profile, yields):
    """The same tissue twice; in the second section yields are also higher for genes of one class."""
    yields[1] *= np.sqrt(profile[0] / profile.mean(axis=0))
    slides = [made(profile, yields=y, seed=i)[0] for i, y in enumerate(yields)]
    kept = kept_of(slides, 1)
    first = shared_model(slides, kept, CONFIG, 0, None)
    shared = fit_together(slides, kept, SOURCES, CONFIG, "section", 0, model=first)
    (before, _), (after, _) = differences(slides, first), differences(slides, shared.model)
    assert after.std() < 0.9 * before.std()
    settled = fit_together(slides, kept, SOURCES, CONFIG, "section", 0, model=shared.model, settled=True)
    np.testing.assert_array_equal(settled.model.levels, shared.model.levels)
    unshifted = FitConfig(genes=GeneModelConfig(level_shift=0))
    found = fit_together(slides, kept, SOURCES, unshifted, "section", 0, model=first)
    np.testing.assert_array_equal(found.model.levels, first.levels)
