from __future__ import annotations

import numpy as np
import pytest

from sphisto import pl


def test_discs_have_their_true_size_place_and_value(section):
    [ax] = pl.measured(section, "A")
    [discs] = ax.collections
    assert discs.get_array().tolist() == list(range(64))
    np.testing.assert_array_equal(discs.get_offsets(), section.obsm["spatial"])
    np.testing.assert_allclose(discs.get_widths(), 2 * 27.5 / 0.5)
    np.testing.assert_allclose(discs.get_heights(), discs.get_widths())


def test_discs_are_drawn_that_large(section):
    from matplotlib import pyplot as plt

    # 10 px of the picture for each 110 px of the disc: its area on the canvas is known
    figure = plt.figure(figsize=(4, 4), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    one = section[[27]].copy()
    one.uns["projection"] = {"params": {"library_id": "lib", "fullres_um_per_px": 0.5, "spot_um": 55.0}}
    one.uns["spatial"]["lib"]["images"] = {}
    x, y = one.obsm["spatial"][0]
    pl.measured(one, "A", ax=ax, bbox=(x - 100, y - 100, x + 100, y + 100), vmin=0, vmax=27, cmap="gray_r")
    figure.canvas.draw()
    dark = np.asarray(figure.canvas.buffer_rgba())[..., 0] < 128
    assert dark.sum() == pytest.approx(np.pi * (55 * 400 / 200) ** 2, rel=0.01)
    assert np.argwhere(dark).mean(axis=0) == pytest.approx([199.5, 199.5], abs=0.6)


def test_squares_for_bins(section):
    params = {"library_id": "lib", "fullres_um_per_px": 0.5, "spot_um": 16.0, "spot_shape": "square"}
    section.uns["projection"] = {"params": params}
    [ax] = pl.measured(section, "A")
    corners = ax.collections[0].get_paths()[3].vertices
    np.testing.assert_allclose(corners.min(axis=0), section.obsm["spatial"][3] - 16)
    np.testing.assert_allclose(corners.max(axis=0), section.obsm["spatial"][3] + 16)


def test_picture_lies_faded_below_in_full_resolution_px(section):
    [ax] = pl.measured(section, "A")
    [picture] = ax.images
    assert picture.get_extent() == pytest.approx((0, 2000, 1800, 0))
    assert picture.get_alpha() < 0.6
    assert picture.get_zorder() <= ax.collections[0].get_zorder()
    left, right = ax.get_xlim()
    assert 0 <= left < section.obsm["spatial"][:, 0].min() - 55
    assert section.obsm["spatial"][:, 0].max() + 55 < right <= 2000


def test_section_without_picture_is_drawn_all_the_same(section):
    section.uns["spatial"]["lib"]["images"] = {}
    [ax] = pl.measured(section, "A")
    assert len(ax.images) == 0


def test_colours_start_at_zero_and_say_their_unit(section):
    many, none = pl.measured(section, ["A", "Zero"])
    assert many.collections[0].get_clim() == (0, pytest.approx(np.percentile(np.arange(64), 99.5)))
    assert none.collections[0].get_clim() == (0, 1)
    assert [ax.get_title() for ax in (many, none)] == ["A", "Zero"]
    assert many.collections[0].colorbar.ax.get_ylabel() == "counts per spot"


def test_counts_layer_comes_first(section):
    section.layers["counts"] = section.X.copy()
    section.X = section.X * 0.1
    [ax] = pl.measured(section, "A")
    assert ax.collections[0].get_array().max() == 63
    [ax] = pl.measured(section, "One", layer="counts", vmin=-1, vmax=2)
    assert ax.collections[0].get_clim() == (-1, 2)


def test_bbox_is_what_is_shown(section):
    [ax] = pl.measured(section, "A", bbox=(100, 200, 700, 600))
    assert ax.get_xlim() == (100, 700)
    assert ax.get_ylim() == (600, 200)


def test_given_axes_and_file(section, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots(1, 2)
    assert pl.measured(section, ["A", "One"], ax=given, save=tmp_path / "m.png") == list(given)
    assert (tmp_path / "m.png").stat().st_size > 1000
    assert len(plt.get_fignums()) == 1


def test_wrong_gene(section):
    with pytest.raises(KeyError, match="Found no gene 'B'"):
        pl.measured(section, "B")


def test_store_shows_what_its_adata_shows(fitted, store):
    gene = fitted.var_names[0]
    [there], [here] = pl.measured(store, gene), pl.measured(fitted, gene)
    assert there.collections[0].get_array().tolist() == here.collections[0].get_array().tolist()
    np.testing.assert_allclose(there.collections[0].get_offsets(), here.collections[0].get_offsets())
    np.testing.assert_allclose(there.collections[0].get_widths(), here.collections[0].get_widths())
    assert there.images[0].get_extent() == pytest.approx(here.images[0].get_extent())
    np.testing.assert_allclose(there.images[0].get_array(), here.images[0].get_array(), atol=1 / 255)


def test_columns_of_obs_are_drawn_as_numbers_or_groups(section):
    section.obs["total"] = np.arange(64) * 10
    section.obs["side"] = np.where(section.obsm["spatial"][:, 0] < 900, "left", "right")
    section.obs["A"] = "a gene's name"
    number, groups, gene = pl.measured(section, ["total", "side", "A"])
    assert number.collections[0].get_array().tolist() == section.obs["total"].tolist()
    assert gene.collections[0].get_array().tolist() == list(range(64))
    colours = groups.collections[0].get_facecolor()
    left = (section.obs["side"] == "left").to_numpy()
    assert len(np.unique(colours[left], axis=0)) == len(np.unique(colours[~left], axis=0)) == 1
    assert [text.get_text() for text in groups.get_legend().get_texts()] == ["left", "right"]
    section.uns["side_colors"] = ["#ff0000", "#0000ff"]
    [ax] = pl.measured(section, "side")
    np.testing.assert_array_equal(ax.collections[0].get_facecolor()[left][0], [1, 0, 0, 1])


def test_spots_in_no_group_are_grey(section):
    section.obs["side"] = [None, *["left"] * 63]
    [ax] = pl.measured(section, "side")
    from matplotlib.colors import to_rgba

    np.testing.assert_array_equal(ax.collections[0].get_facecolor()[0], to_rgba("lightgrey"))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["left"]
