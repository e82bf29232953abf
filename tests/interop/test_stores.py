"""What sphisto writes, opened by the libraries that people use: as it is, without preparation."""

from __future__ import annotations

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import spatialdata as sd

import sphisto as sp

GENE = "class1_a"


@pytest.fixture
def opened(store):
    """The store as SpatialData opens it."""
    return sd.read_zarr(store)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def drawn(ax):
    """(y, x) numbers or (y, x, c) colours of the only image in axes."""
    [image] = ax.get_images()
    return np.asarray(image.get_array())


@pytest.mark.parametrize("element", ["projection", "projection_sd"])
def test_spatialdata_plot_draws_genes_and_their_deviations(opened, store, element):
    pytest.importorskip("spatialdata_plot")
    channel = str(opened[element].c.values[0])
    _, ax = plt.subplots()
    opened.pl.render_images(element, channel=channel).pl.show(ax=ax)
    expected = sp.get.raster(store, element).sel(c=channel).values
    tissue = np.isfinite(expected)
    assert (drawn(ax)[~tissue] == 0).all()
    np.testing.assert_allclose(drawn(ax)[tissue], expected[tissue], rtol=1e-3)


def test_spatialdata_plot_draws_picture_mask_and_spots(opened, store):
    pytest.importorskip("spatialdata_plot")
    _, axes = plt.subplots(1, 2)
    opened.pl.render_images("toy_image").pl.render_shapes("toy_spots", color=GENE).pl.show(ax=axes[0])
    assert drawn(axes[0]).shape[:2] == (96, 112)
    assert sum(len(c.get_paths()) for c in axes[0].collections) >= opened["table"].n_obs
    opened.pl.render_labels("projection_tissue").pl.show(ax=axes[1])
    tissue = np.isfinite(sp.get.raster(store, "projection").values[0])
    shades = drawn(axes[1])
    assert (shades[~tissue][:, -1] == 0).all()
    assert (shades[tissue][:, -1] > 0).all()


@pytest.mark.parametrize("draw", ["squidpy", "scanpy"])
def test_spots_of_the_table_are_drawn_over_its_picture(opened, draw):
    table = opened["table"]
    if draw == "squidpy":
        sq = pytest.importorskip("squidpy")
        sq.pl.spatial_scatter(table, color=GENE)
    else:
        sc.pl.spatial(table, color=GENE, show=False)
    ax = plt.gcf().axes[0]
    picture = table.uns["spatial"]["toy"]["images"]["hires"]
    assert drawn(ax).shape[:2] == picture.shape[:2]
    assert max(picture.shape) <= 1_000
    [spots] = [c for c in ax.collections if len(c.get_array()) == table.n_obs]
    np.testing.assert_allclose(np.sort(spots.get_array()), np.sort(table[:, GENE].X.toarray().ravel()))


def test_squidpy_computes_on_the_table_and_on_aggregated_ones(opened, store):
    sq = pytest.importorskip("squidpy")
    x, y = np.meshgrid(np.arange(6, 112, 12.0), np.arange(6, 96, 12.0))
    regions = sp.tl.aggregate(store, np.column_stack([x.ravel(), y.ravel()]), radius=6)
    for table in (opened["table"], regions[regions.obs["coverage"] > 0].copy()):
        sq.gr.spatial_neighbors(table, coord_type="generic", n_neighs=4)
        sq.gr.spatial_autocorr(table, mode="moran", genes=[GENE])
        assert table.uns["moranI"].loc[GENE, "I"] > 0.3
    sq.pl.spatial_scatter(regions, color=GENE, shape=None)
    dots = plt.gcf().axes[0].collections[0]
    np.testing.assert_allclose(np.sort(dots.get_array()), np.sort(regions[:, GENE].X.ravel()), rtol=1e-6)


def test_scanpy_computes_on_aggregated_tables(store):
    x, y = np.meshgrid(np.arange(6, 112, 12.0), np.arange(6, 96, 12.0))
    regions = sp.tl.aggregate(store, np.column_stack([x.ravel(), y.ravel()]), radius=6)
    regions = regions[regions.obs["coverage"] > 0].copy()
    sc.pp.normalize_total(regions)
    sc.pp.log1p(regions)
    sc.pp.pca(regions, n_comps=3)
    assert np.isfinite(regions.obsm["X_pca"]).all()


def test_elements_added_to_the_open_store_are_found(opened):
    cells = np.kron(np.arange(1, 43).reshape(6, 7), np.ones((16, 16), dtype=np.int32))
    opened["cells"] = sd.models.Labels2DModel.parse(cells.astype(np.int32), dims=("y", "x"))
    found = sp.tl.aggregate(opened, "cells", genes=GENE)
    assert found.n_obs == 42
    whole = np.nansum(sp.get.gene_raster(opened, GENE).values)
    area = 3.141592653589793 / 4 * (55 / sp.get.raster(opened, "projection").um_per_px) ** 2
    assert found.X.sum() == pytest.approx(whole / area, rel=1e-3)


def test_of_one_name_in_memory_and_on_disk_the_one_in_memory_counts(store, tmp_path):
    path = Path(shutil.copytree(store, tmp_path / "toy.zarr"))
    whole = sd.read_zarr(path)
    half = np.zeros((96, 112), dtype=np.int32)
    half[:, :56] = 1
    whole["cells"] = sd.models.Labels2DModel.parse(np.ones((96, 112), dtype=np.int32), dims=("y", "x"))
    whole.write_element("cells")
    opened = sd.read_zarr(path)
    del opened["cells"]
    opened["cells"] = sd.models.Labels2DModel.parse(half, dims=("y", "x"))
    counts = [sp.tl.aggregate(source, "cells", genes=GENE).obs["area_um2"].item() for source in (opened, path)]
    assert counts[0] == pytest.approx(counts[1] / 2)
