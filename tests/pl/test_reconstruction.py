from __future__ import annotations

import numpy as np
import pytest

from sphisto import get, pl


def test_picture_and_redrawn_picture_side_by_side(store):
    axes = pl.reconstruction(store)
    assert [ax.get_title() for ax in axes] == ["image", "redrawn"]
    picture, redrawn = (ax.images[0] for ax in axes)
    assert picture.get_extent() == redrawn.get_extent() == pytest.approx((0, 112, 96, 0))
    stored = get.raster(store, "toy_image").transpose("y", "x", "c").values
    np.testing.assert_allclose(picture.get_array()[..., :3], stored / 255, atol=1e-6)
    stored = get.raster(store, "projection_reconstruction").transpose("y", "x", "c").values
    known = np.isfinite(stored).all(axis=-1)
    np.testing.assert_allclose(redrawn.get_array()[known][:, :3], stored[known].clip(0, 1), atol=1e-6)


def test_where_nothing_was_redrawn_is_transparent(store, monkeypatch):
    real = get.raster

    def holed(*args, **words):
        raster = real(*args, **words).astype(np.float32).copy()
        raster[:, :10, :20] = np.nan
        return raster.copy(data=raster.values / (255 if args[1] == "toy_image" else 1))

    monkeypatch.setattr(get, "raster", holed)
    _, redrawn = pl.reconstruction(store)
    alpha = redrawn.images[0].get_array()[..., 3]
    assert not alpha[:10, :20].any()
    assert alpha[10:].all()


def test_box(store):
    for ax in pl.reconstruction(store, bbox=(10, 20, 50, 40)):
        assert ax.images[0].get_array().shape[:2] == (20, 40)
        assert (*ax.get_xlim(), *ax.get_ylim()) == (10, 50, 40, 20)


def test_given_axes_and_file(fitted, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(2, 1)
    assert pl.reconstruction(fitted, ax=given, save=tmp_path / "r.png") == list(given)
    assert (tmp_path / "r.png").exists()
    with pytest.raises(ValueError, match="Found 1 axes in `ax`; expected 2, one for each panel: image, redrawn"):
        pl.reconstruction(fitted, ax=given[0])


def test_unknown_projection_lists_those_there_are(store):
    with pytest.raises(KeyError, match="no projection 'other'.*'projection'"):
        pl.reconstruction(store, key="other")
