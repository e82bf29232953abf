from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

import sphisto as sp
from sphisto.io.intake import make_slide
from sphisto.model.config import FitConfig
from sphisto.model.fit import fit, informative


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
