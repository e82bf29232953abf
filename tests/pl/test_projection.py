from __future__ import annotations

import numpy as np
import pytest

from sphisto import get, pl
from sphisto.pl import _frame


def test_what_is_drawn_is_the_raster(store):
    [ax] = pl.projection(store, "class1_a")
    raster = get.gene_raster(store, "class1_a")[0]
    [image] = ax.images
    unknown = np.isnan(raster.values)
    assert unknown.any()
    assert image.get_array().mask.tolist() == unknown.tolist()
    np.testing.assert_array_equal(image.get_array()[~unknown], raster.values[~unknown])
    assert image.get_extent() == pytest.approx(_frame.extent_of(raster))
    assert image.origin == "upper"


def test_extent_is_in_full_resolution_px(store):
    [ax] = pl.projection(store, "class1_a")
    assert ax.images[0].get_extent() == pytest.approx((0, 112, 96, 0))
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_box_reads_and_shows_that_part(store):
    box = (20, 30, 60, 50)
    [ax] = pl.projection(store, "class1_a", bbox=box)
    raster = get.gene_raster(store, "class1_a", bbox=box)[0]
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), raster.values)
    assert (*ax.get_xlim(), *ax.get_ylim()) == (20, 60, 50, 30)


def test_level_is_the_users(store, monkeypatch):
    asked = []
    real = get.gene_raster
    monkeypatch.setattr(get, "gene_raster", lambda *args, **words: asked.append(words) or real(*args, **words))
    pl.projection(store, "class1_a", scale=0)
    assert asked[0]["scale"] == 0


def test_colours_are_absolute(store):
    rasters = get.gene_raster(store, ["class1_a", "noise_a"])
    for ax, raster in zip(pl.projection(store, ["class1_a", "noise_a"]), rasters, strict=True):
        assert ax.images[0].get_clim() == (0, pytest.approx(np.nanpercentile(raster.values, 99.5)))
        assert ax.images[0].colorbar.ax.get_ylabel() == "counts per spot area"
        assert ax.get_title() == str(raster["gene"].values)
    axes = pl.projection(store, ["class1_a", "noise_a"], vmin=1, vmax=7, cmap="magma")
    assert [ax.images[0].get_clim() for ax in axes] == [(1, 7), (1, 7)]
    assert {ax.images[0].get_cmap().name for ax in axes} == {"magma"}


def test_scale_bar_in_um_of_the_section(fitted, store):
    [ax] = pl.projection(store, "class1_a")
    um_per_px = fitted.uns["projection"]["params"]["fullres_um_per_px"]
    [bar] = [line for line in ax.lines if line.get_gid() == "scale bar"]
    [label] = [text for text in ax.texts if text.get_gid() == "scale bar"]
    assert label.get_text() == f"{np.ptp(bar.get_xdata()) * um_per_px:.0f} µm"


def test_adata_path_text_and_spatialdata_draw_the_same(fitted, store):
    from spatialdata import read_zarr

    drawn = [pl.projection(data, "nuclei_a")[0].images[0] for data in (fitted, store, str(store), read_zarr(store))]
    for image in drawn[1:]:
        np.testing.assert_array_equal(image.get_array(), drawn[0].get_array())


def test_rows_of_ncols(store):
    axes = pl.projection(store, ["class1_a", "nuclei_a", "noise_a"], ncols=2)
    assert [ax.get_subplotspec().rowspan.start for ax in axes] == [0, 0, 1]


def test_given_axes_and_file(store, tmp_path):
    from matplotlib import pyplot as plt

    _, given = plt.subplots()
    assert pl.projection(store, "class1_a", ax=given, save=tmp_path / "p.svg") == [given]
    assert "<svg" in (tmp_path / "p.svg").read_text()[:2000]
    with pytest.raises(ValueError, match="Found 1 axes in `ax`; expected 2, one for each panel: class1_a, nuclei_a"):
        pl.projection(store, ["class1_a", "nuclei_a"], ax=given)


def test_what_is_not_there(section, store, tmp_path):
    with pytest.raises(KeyError, match="Found no gene 'class1'.*Close to 'class1': class1_"):
        pl.projection(store, "class1")
    with pytest.raises(KeyError, match="no projection 'other' in the store; it holds 'projection'"):
        pl.projection(store, "class1_a", key="other")
    with pytest.raises(KeyError, match="Run `sphisto.tl.fit_projection` first"):
        pl.projection(section, "A")
    with pytest.raises(FileNotFoundError, match="Found no store at"):
        pl.projection(tmp_path / "none.zarr", "class1_a")
