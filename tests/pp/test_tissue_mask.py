from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp


def test_the_mask_is_the_tissue_that_was_drawn(small_toy):
    mask = sp.pp.tissue_mask(small_toy)
    drawn = sp.datasets.toy_truth(small_toy, "noise_a").values[0] > 0
    assert mask.shape == drawn.shape
    assert (mask & drawn).sum() / (mask | drawn).sum() > 0.85
    share = small_toy.obs["tissue_share"]
    assert share.between(0, 1).all()
    assert share.mean() > 0.9


def test_a_picture_alone_needs_its_scale(small_toy):
    picture = small_toy.uns["spatial"]["toy"]["images"]["hires"]
    with pytest.raises(ValueError, match="has no known scale; give"):
        sp.pp.tissue_mask(picture)
    np.testing.assert_array_equal(sp.pp.tissue_mask(picture, um_per_px=100 / 12), sp.pp.tissue_mask(small_toy))
