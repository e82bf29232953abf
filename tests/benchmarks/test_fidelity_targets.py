"""What the benchmark is to show, in small: sections drawn by rule, told by the prior, which needs no training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sphisto as sp

SIDE = 700  # px of 2 um


@pytest.fixture(scope="module")
def finer():
    """Some 130 spots; truth in bins of 8 um."""
    from benchmarks.fidelity.sets import toy

    return toy.make(None, "finer", 1, side=SIDE)


@pytest.fixture(scope="module")
def held_out(spots_case):
    """A fifth of some 370 spots, all genes scored."""
    from benchmarks.fidelity.cases import Regions, training

    from sphisto.core.splits import random_spots
    from sphisto.datasets import toy
    from sphisto.io.slides import make_slide

    adata = toy(SIDE, SIDE, pitch_um=60, mean_counts=3, rng=1)
    whole, genes = make_slide(sp.io.section(adata)), np.arange(adata.n_vars)
    out = random_spots(adata.n_obs, 0.2, np.random.default_rng(0))
    return replace(
        spots_case,
        adata=adata[~out].copy(),
        slide=training(whole, ~out, genes),
        regions=Regions(whole.spot, whole.spots.centers[out], np.ones(int(out.sum()))),
        truth=whole.spots.values[out].toarray().astype(np.float64),
        options={"tissue": whole.tissue},
    )


def predicted(case, method):
    from benchmarks.fidelity.methods import EVERY

    return EVERY[method](case)


def test_pixels_are_told_better_than_by_the_best_interpolation(finer):
    from sphisto.scoring import metrics

    prior, gaussian = (predicted(finer, method).counts for method in ("prior", "gaussian"))
    flat = finer.counts[:, finer.scored].mean(axis=0) * finer.regions.size[:, None]
    ours, theirs = (metrics.deviance_explained(counts, finer.truth, flat) for counts in (prior, gaussian))
    assert (ours > theirs).mean() >= 0.8
    names = np.asarray(finer.slide.spots.genes)[finer.scored]
    shown = ~np.char.startswith(names, "gradient")  # the picture does not show these
    ours, theirs = (np.median(metrics.pearson(counts, finer.truth)[shown]) for counts in (prior, gaussian))
    assert ours >= 1.05 * theirs
    ours, theirs = (metrics.min_max_rmse(counts, finer.truth)[shown].mean() for counts in (prior, gaussian))
    assert ours <= 0.9 * theirs


def test_held_out_spots_are_told_no_worse_than_by_any_baseline_and_intervals_hold_them(held_out):
    from benchmarks.fidelity.scores import headline

    ours = predicted(held_out, "prior")
    for baseline in ("gaussian", "kriging", "cokriging", "cokriging_roots"):
        assert headline(held_out, ours, free=False) >= headline(held_out, predicted(held_out, baseline)) - 0.005
    assert 0.87 <= ours.inside.mean() <= 0.93
    fifths = np.array_split(np.argsort(held_out.truth.sum(axis=0)), 5)
    assert all(0.8 <= ours.inside[:, fifth].mean() <= 0.97 for fifth in fifths)


def test_genes_shuffled_among_spots_fall_to_chance(held_out):
    """At spots wholly on tissue: how much of a spot lies on tissue is told by the picture, and tells of its counts."""
    from benchmarks.fidelity.cases import Regions
    from benchmarks.fidelity.scores import headline

    footprint = held_out.regions.spot.footprint(
        held_out.slide.grid.shape, held_out.regions.centers, held_out.slide.grid.um_per_px
    )
    inner = footprint.mean(np.asarray(held_out.slide.tissue))[:, 0] > 0.99
    regions = Regions(held_out.regions.spot, held_out.regions.centers[inner], np.ones(int(inner.sum())))
    case = replace(held_out, regions=regions, truth=held_out.truth[inner])
    scores = [headline(case, predicted(replace(case, seed=seed), "shuffled_genes"), free=False) for seed in range(6)]
    assert abs(np.mean(scores)) <= 0.02


def test_other_colours_change_expression_by_less_than_its_standard_deviation(held_out):
    changed = predicted(held_out, "other_colours")
    assert changed.inside.mean() > 0.95
    assert not np.allclose(changed.counts, predicted(held_out, "prior").counts, rtol=1e-6)


def test_other_colours_change_rasters_by_less_than_their_standard_deviation(held_out):
    """At every point of the maps, also where no spot lies."""
    from benchmarks.fidelity.methods.controls import recoloured
    from benchmarks.fidelity.methods.networks import kriged

    from sphisto.core.tiles import Window
    from sphisto.genes.model import rates

    window = Window(0, 0, SIDE // 8 * 8, SIDE // 8 * 8)
    told, factors = kriged(held_out)
    image = recoloured(np.asarray(held_out.slide.image))
    other, _ = kriged(replace(held_out, slide=replace(held_out.slide, image=image)), factors)
    told, other = (field.given("all") for field in (told, other))
    maps, changed = (posterior.maps(window) for posterior in (told, other))
    before, after = (
        rates(m.reshape(len(m), -1).T, factors.loadings, factors.n_contrasts).T.reshape(-1, *m.shape[1:])
        for m in (maps, changed)
    )
    step = told.stride
    drawn = before.repeat(step, axis=1).repeat(step, axis=2)
    sd = told.sd(window, factors, drawn)[:, step // 2 :: step, step // 2 :: step]
    change = np.abs(after - before)
    assert (change < sd).mean() > 0.95
    assert np.median(change / sd) < 0.3
