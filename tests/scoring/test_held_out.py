from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.scoring.held_out import hold_out, some_of, without


def test_empty_spots_are_not_held_out(small_toy):
    counts = small_toy.X.toarray()
    counts[:20] = 0
    small_toy.X = counts
    held_out = hold_out(make_slide(sp.io.section(small_toy)), "random", 0.5, np.random.default_rng(0))
    assert not held_out[:20].any()
    assert held_out.sum() == round(0.5 * (small_toy.n_obs - 20))


def test_blocks_are_held_out_with_their_neighbours():
    slide = make_slide(sp.io.section(sp.datasets.toy(256, 256, pitch_um=24, rng=1)))
    near = np.linalg.norm(slide.spots.centers[:, None] - slide.spots.centers, axis=-1) < 1.2 * slide.spots.pitch
    together = {}
    for split in ("random", "blocks"):
        held_out = hold_out(slide, split, 0.2, np.random.default_rng(0))
        assert held_out.mean() == pytest.approx(0.2, abs=0.08)
        together[split] = near[held_out][:, held_out].sum() / near[held_out].sum()
    assert together["blocks"] > together["random"] + 0.3


def test_what_is_left_is_the_slide_of_the_other_spots(small_toy, toy_slide, held_out):
    left = without(toy_slide, held_out)
    alone = make_slide(sp.io.section(small_toy[~held_out].copy()))
    np.testing.assert_allclose(left.spots.centers, alone.spots.centers)
    np.testing.assert_array_equal(left.spots.values.toarray(), alone.spots.values.toarray())
    assert left.spots.pitch == pytest.approx(alone.spots.pitch)


def test_of_very_many_spots_some_are_scored(held_out):
    assert some_of(held_out, np.random.default_rng(0)).tolist() == np.flatnonzero(held_out).tolist()
    some = some_of(held_out, np.random.default_rng(0), most=4)
    assert len(some) == 4
    assert held_out[some].all()


@pytest.mark.parametrize("split", ["random", "blocks"])
def test_too_few_spots_are_said(toy_slide, split):
    few = without(toy_slide, np.arange(len(toy_slide.spots.centers)) >= 12)
    with pytest.raises(ValueError, match=r"12 spots with counts, of which share=0.2 holds out .*at least 5 held out"):
        hold_out(few, split, 0.2, np.random.default_rng(0))
