from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.io.intake import make_slide
from sphisto.model.config import FitConfig
from sphisto.model.fit import fit, informative, prior_for


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


def test_spots_off_the_image_tell_nothing(slide):
    centers = slide.spots.centers.copy()
    centers[:3] = ((-1, 5), (5, 112), (1e300, 5))
    moved = replace(slide, measured=replace(slide.spots, centers=centers))
    np.testing.assert_array_equal(informative(moved), np.arange(len(centers)) >= 3)


def test_a_picture_that_does_not_help_is_said_not_to(slide, tmp_path, caplog):
    blank = replace(slide, image=np.full((3, *slide.grid.shape), 255, dtype=np.uint8))
    config = FitConfig(max_epochs=1)
    _, prior = fit(
        blank, name="unet", genes=(), config=config, seed=0, device=torch.device("cpu"), checkpoint=tmp_path / "c",
        progress=False,
    )  # fmt: skip
    assert not prior.sees_texture
    assert caplog.text.count("picture did not help") == 1


@pytest.mark.parametrize("most_kriged", [5_000, 20])
def test_what_the_watched_spots_measured_is_not_in_the_prior_they_judge(slide, tmp_path, monkeypatch, most_kriged):
    """Nor in the one that is trained with, nor in the levels of the network, to the last bit."""
    monkeypatch.setattr("sphisto.model.neighbours._MOST_KRIGED", most_kriged)
    judged = []

    def gated(fitted, slide, prior, watched, device):
        judged.append((fitted, prior, watched))
        return fitted, 1.0

    def train(task, **_):
        assert not (task.learned & task.held_out).any()
        return {}, task.precision

    monkeypatch.setattr("sphisto.model.fit.gated", gated)
    monkeypatch.setattr("sphisto.model.fit.train", train)

    def run(section):
        return fit(
            section, name="unet", genes=(), config=FitConfig(max_epochs=1, held_out=0.2), seed=0, device=torch.device("cpu"),
            checkpoint=tmp_path / "c", progress=False,
        )  # fmt: skip

    everything = [run(slide)[1]]
    watched, counts = judged[0][2], slide.spots.values.toarray()
    assert watched.sum() >= 5
    counts[watched] += np.arange(counts.shape[1]) % 7 * 50
    everything.append(run(with_counts(slide, counts))[1])
    window = Window(0, 0, 96, 112)
    (one, before, _), (other, after, still_watched) = judged
    np.testing.assert_array_equal(still_watched, watched)
    np.testing.assert_array_equal(one.factors.loadings, other.factors.loadings)
    np.testing.assert_array_equal(one.level, other.level)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(before.prior(window), after.prior(window))
    np.testing.assert_array_equal(before.left_out(one.factors).density, after.left_out(one.factors).density)
    assert not set(before.left_out(one.factors).spots) & set(np.flatnonzero(watched))
    assert not np.allclose(everything[0].prior(window), everything[1].prior(window))  # the last one knows them all


def test_the_prior_made_anew_for_a_model_is_that_of_the_fit(slide, tmp_path):
    """As a resumed run makes it, to end in the same rasters."""
    fitted, prior = fit(
        slide, name="unet", genes=(), config=FitConfig(max_epochs=1), seed=0, device=torch.device("cpu"),
        checkpoint=tmp_path / "c", progress=False,
    )  # fmt: skip
    window = Window(0, 0, 96, 112)
    np.testing.assert_array_equal(prior_for(fitted, slide).prior(window), prior.prior(window))
