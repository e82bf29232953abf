from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection

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
        assert ax.get_title().partition("  ")[0] == str(raster["gene"].values)
    axes = pl.projection(store, ["class1_a", "noise_a"], vmin=1, vmax=7, cmap="magma")
    assert [ax.images[0].get_clim() for ax in axes] == [(1, 7), (1, 7)]
    assert {ax.images[0].get_cmap().name for ax in axes} == {"magma"}


@pytest.fixture
def skilled(fitted):
    """Three genes: good, without skill, not judged."""
    fitted.var["projection_pearson"] = np.float32(np.nan)
    fitted.var.loc[["class1_a", "noise_a"], "projection_pearson"] = np.float32([0.624, 0.04])
    return fitted


def test_skill_stands_in_the_title_and_genes_without_it_are_dimmed(skilled):
    good, none, unknown = pl.projection(skilled, ["class1_a", "noise_a", "nuclei_a"])
    assert [ax.get_title() for ax in (good, none, unknown)] == ["class1_a  r = 0.62", "noise_a  no skill", "nuclei_a"]
    assert good.images[0].get_alpha() is unknown.images[0].get_alpha() is None
    assert none.images[0].get_alpha() < 0.5


def test_skill_is_read_from_the_store(skilled, store, tmp_path):
    import shutil

    import zarr
    from anndata.io import write_elem
    from spatialdata import read_zarr

    shutil.copytree(store, tmp_path / "toy.zarr")
    var = zarr.open_group(tmp_path / "toy.zarr" / "tables" / "table" / "var", mode="a", use_consolidated=False)
    write_elem(var, "projection_pearson", skilled.var["projection_pearson"].to_numpy())
    sdata = read_zarr(store)
    sdata["table"].var["projection_pearson"] = skilled.var["projection_pearson"]
    del skilled.var["projection_pearson"]
    skilled.uns["projection"]["store"] = str(tmp_path / "toy.zarr")
    for data in (tmp_path / "toy.zarr", sdata, skilled):
        titles = [ax.get_title() for ax in pl.projection(data, ["class1_a", "noise_a"])]
        assert titles == ["class1_a  r = 0.62", "noise_a  no skill"]


def test_nothing_is_said_where_skill_was_not_found(store):
    from spatialdata import read_zarr

    sdata = read_zarr(store)
    sdata["table"].var.drop(columns="projection_pearson", errors="ignore", inplace=True)
    [ax] = pl.projection(sdata, "class1_a")
    assert ax.get_title() == "class1_a"
    assert ax.images[0].get_alpha() is None


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


def test_standard_deviations_are_those_of_the_store(store):
    [ax] = pl.projection(store, "nuclei_a", layer="sd")
    raster = get.raster(store, "projection_sd").sel(c="nuclei_a")
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), raster.values)
    assert ax.images[0].colorbar.ax.get_ylabel() == "sd, counts per spot area"
    box = (20, 30, 60, 50)
    [ax] = pl.projection(store, "nuclei_a", layer="sd", bbox=box)
    assert ax.images[0].get_array().shape == (20, 40)


def test_standard_deviations_that_are_not_there_are_refused(store):
    with pytest.raises(KeyError, match="Found no standard deviation of 'noise_a'; there are those of .* class1_a"):
        pl.projection(store, ["class1_a", "noise_a"], layer="sd")
    with pytest.raises(ValueError, match="layer='variance'; expected 'mean' or 'sd'"):
        pl.projection(store, "class1_a", layer="variance")


@pytest.mark.parametrize("of", ["store", "fitted"])
def test_spots_are_outlined_in_their_true_size_and_place(store, fitted, of):
    [ax] = pl.projection(store if of == "store" else fitted, "class1_a", spots=True)
    [spots] = [drawn for drawn in ax.collections if isinstance(drawn, EllipseCollection)]
    np.testing.assert_allclose(spots.get_offsets(), fitted.obsm["spatial"])
    params = fitted.uns["projection"]["params"]
    np.testing.assert_allclose(spots.get_widths(), params["spot_um"] / params["fullres_um_per_px"])
    assert len(spots.get_facecolor()) == 0
    [plain] = pl.projection(store, "class1_a")
    assert (plain.get_xlim(), plain.get_ylim()) == (ax.get_xlim(), ax.get_ylim())
    assert not any(isinstance(drawn, EllipseCollection) for drawn in plain.collections)
