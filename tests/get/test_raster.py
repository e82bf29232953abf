from __future__ import annotations

import numpy as np

import sphisto as sp


def test_pictures_and_masks_by_name(fitted, store):
    image = sp.get.raster(store, "toy_image")
    np.testing.assert_array_equal(image.values, np.moveaxis(fitted.uns["spatial"]["toy"]["images"]["hires"], -1, 0))
    assert list(image.c.values) == ["r", "g", "b"]
    mask = sp.get.raster(store, "toy_tissue", bbox=(0, 0, 10, 20))
    assert mask.dims == ("y", "x")
    assert mask.shape == (20, 10)
    assert set(np.unique(sp.get.raster(store, "toy_tissue"))) == {0, 1}
