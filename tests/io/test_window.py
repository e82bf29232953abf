"""A window of a section: the oracle is the whole section, cut afterwards."""

from __future__ import annotations

import logging
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.io.window import sample_of
from sphisto.slide.slide import Measured

BOX = (40.0, 60.0, 140.0, 200.0)


@pytest.fixture(scope="module")
def bins():
    return sp.datasets.toy(256, 256, bin_um=8.0, mean_counts=300)


def in_box(xy):
    return ((xy >= BOX[:2]) & (xy < BOX[2:])).all(axis=1)


@pytest.mark.parametrize("where", ["memory", "file"])
def test_rows_are_those_with_their_centre_in_it(bins, tmp_path, where):
    table = bins
    if where == "file":
        bins.write_h5ad(tmp_path / "x.h5ad")
        table = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    section, own = sp.io.section(table, bbox=BOX), in_box(bins.obsm["spatial"])
    assert section.bbox == BOX
    assert section.adata.obs_names.tolist() == bins.obs_names[own].tolist()
    assert not section.adata.isbacked
    assert (section.measured.values != bins.X[own]).nnz == 0
    np.testing.assert_array_equal(section.measured.centers, bins.obsm["spatial"][own][:, ::-1])
    others = section.measured.others
    assert others.shape == ((~own).sum(), bins.n_vars)  # so few that all of them are a sample
    assert others.sum() == bins.X[~own].sum()
    assert f"{own.sum()} of these lie in bbox=(40, 60, 140, 200)" in section.about["rows"]


@pytest.mark.parametrize("shift", [0.0, 1e-6])
def test_larger_bins_at_its_border_are_whole(bins, shift):
    """The window's left and upper border go through the centres of bins of 24 um, 12 px wide, at 42 and 66."""
    box = (42.0 - shift, 66.0 - shift, 140.0, 200.0)
    whole, cut = sp.io.section(bins, bin_um=24), sp.io.section(bins, bin_um=24, bbox=box)
    own = whole.adata.obs_names.isin(cut.adata.obs_names)
    inner = (
        (whole.measured.centers[:, ::-1] > np.array(box[:2]) + 0.1) & (whole.measured.centers[:, ::-1] < box[2:])
    ).all(axis=1)
    assert set(whole.adata.obs_names[inner]) <= set(cut.adata.obs_names)
    assert (cut.measured.values != whole.measured.values[np.flatnonzero(own)]).nnz == 0
    np.testing.assert_allclose(cut.measured.centers, whole.measured.centers[own], atol=1e-9)
    assert cut.measured.others.sum() + cut.measured.values.sum() == bins.X.sum()


def test_of_spots_a_window_is_cut_too():
    spots = sp.datasets.toy(256, 256, pitch_um=48)
    section = sp.io.section(spots, bbox=BOX)
    assert section.adata.obs_names.tolist() == spots.obs_names[in_box(spots.obsm["spatial"])].tolist()
    assert section.spot == sp.io.section(spots).spot


def test_of_a_spatialdata_a_window_of_one_bin_size_is_cut(bins):
    import geopandas as gpd
    import shapely
    import spatialdata as sd
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Identity

    here, shapes, tables = {"global": Identity()}, {}, {}
    for um, table in ((8, bins.copy()), (16, sp.io.section(bins, bin_um=16).adata.copy())):
        region, half = f"A_square_{um:03d}um", um / 4
        xy = table.obsm["spatial"]
        boxes = gpd.GeoDataFrame(geometry=shapely.box(*(xy - half).T, *(xy + half).T))
        shapes[region] = ShapesModel.parse(boxes, transformations=here)
        del table.uns["spatial"]
        table.obs["region"], table.obs["id"] = region, np.arange(table.n_obs)
        table.obs["region"] = table.obs["region"].astype("category")
        tables[f"square_{um:03d}um"] = TableModel.parse(table, region=region, region_key="region", instance_key="id")
    picture = np.moveaxis(bins.uns["spatial"]["toy"]["images"]["hires"], -1, 0)
    image = Image2DModel.parse(picture, dims=("c", "y", "x"), transformations=here)
    sdata = sd.SpatialData(images={"A_image": image}, shapes=shapes, tables=tables)
    section = sp.io.section(sdata, bbox=BOX)
    own = in_box(bins.obsm["spatial"])
    assert (section.library_id, section.spot.um, section.spot.shape) == ("A_square_008um", 8, "square")
    assert (section.measured.values != bins.X[own]).nnz == 0
    assert sp.io.section(sdata, bin_um=16).adata is sdata.tables["square_016um"]
    larger = sp.io.section(sdata, bin_um=24)
    assert (larger.library_id, larger.spot.um) == ("A_square_024um", 24)
    assert larger.measured.values.sum() == bins.X.sum()


def test_tissue_ends_at_its_border_and_the_frame_stays(bins):
    whole, cut = make_slide(sp.io.section(bins)), make_slide(sp.io.section(bins, bbox=BOX))
    assert cut.grid == whole.grid
    expected = np.zeros(whole.grid.shape, bool)
    expected[60:200, 40:140] = np.asarray(whole.tissue)[60:200, 40:140]
    np.testing.assert_array_equal(np.asarray(cut.tissue), expected)
    np.testing.assert_array_equal(np.asarray(cut.image)[:, 60:200, 40:140], np.asarray(whole.image)[:, 60:200, 40:140])


def test_the_image_far_beyond_is_not_read():
    import dask.array as da

    from sphisto.core.grid import Grid
    from sphisto.core.mask import Mask
    from sphisto.io.slides import _window_of

    read = []

    def block(block_info=None):
        place = block_info[None]["chunk-location"]
        read.append(place)
        return np.full((3, 512, 512), 7, np.uint8)

    image = da.map_blocks(
        block, chunks=((3,), (512,) * 8, (512,) * 8), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )
    mask = Mask(np.ones((4096, 4096), bool), (4096, 4096))
    cut, tissue = _window_of((1600.0, 2600.0, 1700.0, 2700.0), image, Grid(4096, 4096, 1.0), mask)
    pixels = cut.compute()
    assert cut.shape == image.shape
    assert set(read) == {(0, y, x) for y in range(4, 7) for x in range(2, 5)}
    assert (pixels[:, 2048:3584, 1024:2560] == 7).all()
    assert pixels.sum() == 7 * 3 * (3 * 512) ** 2
    assert tissue.sum() == 100 * 100


def test_rasters_lie_where_those_of_the_whole_lie(tmp_path):
    bins, store = sp.datasets.toy(96, 96, bin_um=8.0, mean_counts=300), tmp_path / "x.zarr"
    section = sp.io.section(bins, bbox=(32, 40, 64, 88))
    sp.tl.fit_projection(section, store=store, config="fast", genes=["total_a"], device="cpu")
    found = sp.get.gene_raster(store, "total_a")
    assert found.shape == (1, 96, 96)
    seen = np.argwhere(np.isfinite(found.values[0]))
    assert seen.min(axis=0).tolist() == [40, 32]
    assert seen.max(axis=0).tolist() == [87, 63]
    truth = sp.datasets.toy_truth(bins, "total_a").values[0]
    known = np.isfinite(found.values[0]) & (truth > 0)
    assert np.corrcoef(found.values[0][known], truth[known])[0, 1] > 0.4
    assert section.adata.obsm["projection_fitted"].shape[0] == section.adata.n_obs


def test_factors_are_also_those_of_rows_outside():
    """A gene that is found outside the window only has loadings of its own."""
    from scipy import sparse

    from sphisto.config import FitConfig
    from sphisto.genes.factorize import fit_factors

    counts = np.random.default_rng(0).poisson(3.0, (60, 8))
    counts[:30, 7] = 0  # in the window the last gene is not found
    counts[30:, 7] = 20
    values = sparse.csr_array(counts.astype(np.float32))
    alone = Measured(np.zeros((30, 2)), values[:30], tuple("ABCDEFGH"), True, 1.0)
    both = replace(alone, others=values[30:])
    config, kept = FitConfig().genes, np.ones(30, bool)
    largest = [fit_factors(each, kept, config, 0).loadings[7].max() for each in (alone, both)]
    assert largest[0] < 1e-3
    assert largest[1] > 0.3


@pytest.mark.parametrize("box", [(1, 2, 3), "abcd", (5, 0, 4, 9), (0, 0, np.inf, 4), None])
def test_what_is_no_window_is_refused(bins, box):
    if box is None:
        with pytest.raises(
            ValueError, match="Found no spot or bin under tissue with its centre in bbox.*reach from x = "
        ):
            sp.io.section(bins, bbox=(5000, 5000, 5010, 5010))
        return
    with pytest.raises(ValueError, match="Found bbox=.*expected .x_min, y_min, x_max, y_max."):
        sp.io.section(bins, bbox=box)


def test_a_window_of_one_bin_is_named(bins):
    x, y = bins.obsm["spatial"][0]
    box = (x - 0.5, y - 0.5, x + 0.5, y + 0.5)
    with pytest.raises(
        ValueError, match=rf"Found 1 spot\(s\) or bin\(s\) in bbox=\({x - 0.5}, .*at least two.*larger window"
    ):
        sp.io.section(bins, bbox=box)


def test_an_image_alone_has_none(bins):
    with pytest.raises(ValueError, match="Found `bin_um` or `bbox` with an image alone"):
        sp.io.section(np.zeros((50, 50, 3), np.uint8), image_um_per_px=1, bbox=BOX)


def test_a_sample_is_made_of_runs():
    keys = np.repeat(np.arange(100_000), 2)
    chosen = np.unique(keys[sample_of(keys)])
    assert len(chosen) == 64 * 64
    assert (np.diff(chosen) == 1).sum() >= 64 * 63
    assert len(sample_of(np.arange(50))) == 50


def test_of_a_table_in_its_file_only_some_is_read(bins, tmp_path, monkeypatch, caplog):
    """Rows far from the window are not read but for the sample."""
    from scipy import sparse

    import sphisto.io.window as window

    caplog.set_level(logging.WARNING)
    bins.write_h5ad(tmp_path / "x.h5ad")
    table = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    read, real = [], window.taken
    monkeypatch.setattr(window, "taken", lambda table, rows: read.append(len(rows)) or real(table, rows))
    monkeypatch.setattr(window, "_RUNS", 2)
    section = sp.io.section(table, bbox=BOX)
    assert read == [in_box(bins.obsm["spatial"]).sum(), 2 * 64]
    assert sparse.issparse(section.adata.X)
