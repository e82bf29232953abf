from __future__ import annotations

import numpy as np
import pytest

from sphisto import get, pl


def test_both_sides_have_one_scale_one_window_and_one_bar(fitted):
    axes = pl.comparison(fitted, ["class1_a", "noise_a"])
    assert [ax.get_title() for ax in axes] == [
        "class1_a, measured",
        "class1_a, projected",
        "noise_a, measured",
        "noise_a, projected",
    ]
    for left, right in zip(axes[::2], axes[1::2], strict=True):
        discs, raster = left.collections[0], right.images[0]
        assert discs.get_clim() == raster.get_clim()
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()
        assert raster.colorbar.ax.get_ylabel() == "counts per spot area"
        assert discs.colorbar is None


def test_scale_holds_counts_and_raster(fitted, store):
    [left, _] = pl.comparison(store, "class1_a", vmax="p100")
    counts = fitted[:, "class1_a"].X.toarray()
    raster = get.gene_raster(store, "class1_a").values
    assert left.collections[0].get_clim() == (0, pytest.approx(max(counts.max(), np.nanmax(raster))))
    left, right = pl.comparison(store, "class1_a", vmax=3)
    assert left.collections[0].get_clim() == right.images[0].get_clim() == (0, 3)


def test_shows_what_the_plots_of_each_side_show(fitted):
    left, right = pl.comparison(fitted, "nuclei_a")
    [spots], [raster] = pl.measured(fitted, "nuclei_a"), pl.projection(fitted, "nuclei_a")
    np.testing.assert_array_equal(left.collections[0].get_array(), spots.collections[0].get_array())
    np.testing.assert_allclose(left.collections[0].get_offsets(), spots.collections[0].get_offsets())
    np.testing.assert_allclose(left.collections[0].get_widths(), spots.collections[0].get_widths())
    np.testing.assert_array_equal(right.images[0].get_array(), raster.images[0].get_array())


def test_spots_lie_where_the_raster_was_fitted_to_them(fitted, store):
    """The mean of the raster under each drawn disc is the fitted count of its spot."""
    from sphisto.core.footprint import Footprint

    left, right = pl.comparison(fitted, "class1_a")
    discs, image = left.collections[0], right.images[0]
    centers = np.asarray(discs.get_offsets())[:, ::-1]
    under = Footprint.from_discs(image.get_array().shape, centers, discs.get_widths()[0] / 2)
    drawn = under.mean(image.get_array().filled(0)[None])[:, 0]
    gene = list(fitted.var_names).index("class1_a")
    fitted_counts = fitted.obsm["projection_fitted"] @ fitted.varm["projection_loadings"][gene]
    np.testing.assert_allclose(drawn, fitted_counts, rtol=2e-3, atol=1e-3)


def test_percentiles_are_those_of_the_box(fitted):
    gene = fitted[:, "class1_a"].X.toarray().ravel()
    x, y = fitted.obsm["spatial"].T
    box = (20.0, 20.0, 60.0, 60.0)
    inside = (x >= 20) & (x <= 60) & (y >= 20) & (y <= 60)
    left, _ = pl.comparison(fitted, "class1_a", bbox=box, vmax="p100")
    raster = get.gene_raster(fitted.uns["projection"]["store"], "class1_a", bbox=box).values
    assert left.collections[0].get_clim()[1] == pytest.approx(max(gene[inside].max(), np.nanmax(raster)))


def test_normalised_adata_is_compared_by_its_counts(fitted):
    raw = pl.comparison(fitted, "class1_a")[0].collections[0].get_array()
    fitted.layers["counts"] = fitted.X.copy()
    fitted.X = fitted.X * 0.01
    np.testing.assert_array_equal(pl.comparison(fitted, "class1_a")[0].collections[0].get_array(), raw)


def test_given_axes_and_file(store, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(1, 2)
    assert pl.comparison(store, "class1_a", ax=given, save=tmp_path / "c.pdf") == list(given)
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_not_there(section, store):
    with pytest.raises(KeyError, match="Found no gene 'x'"):
        pl.comparison(store, "x")
    with pytest.raises(KeyError, match="Run `sphisto.tl.fit_projection` first"):
        pl.comparison(section, "A")
