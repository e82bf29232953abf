"""A window of a section: the oracle is the whole section, cut afterwards."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pytest

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.io.window import sample_of

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


def test_larger_bins_at_its_border_are_whole(bins):
    whole, cut = sp.io.section(bins, bin_um=24), sp.io.section(bins, bin_um=24, bbox=BOX)
    own = in_box(whole.measured.centers[:, ::-1])
    assert cut.adata.obs_names.tolist() == whole.adata.obs_names[own].tolist()
    assert (cut.measured.values != whole.measured.values[np.flatnonzero(own)]).nnz == 0
    np.testing.assert_allclose(cut.measured.centers, whole.measured.centers[own], atol=1e-9)
    assert cut.measured.others.sum() + cut.measured.values.sum() == bins.X.sum()


def test_of_spots_a_window_is_cut_too():
    spots = sp.datasets.toy(256, 256, pitch_um=48)
    section = sp.io.section(spots, bbox=BOX)
    assert section.adata.obs_names.tolist() == spots.obs_names[in_box(spots.obsm["spatial"])].tolist()
    assert section.spot == sp.io.section(spots).spot


def test_of_a_spatialdata_a_window_is_cut_too(bins, tmp_path):
    import spatialdata as sd

    store = tmp_path / "x.zarr"
    sp.tl.fit_projection(bins, store=store, config="fast", genes=["noise_a"], device="cpu", copy=True)
    section = sp.io.section(sd.read_zarr(store), bbox=BOX)
    assert section.adata.n_obs == in_box(bins.obsm["spatial"]).sum()
    assert (section.spot.um, section.spot.shape) == (pytest.approx(8), "square")


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

    image = da.map_blocks(block, chunks=((3,), (512,) * 8, (512,) * 8), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    mask = Mask(np.ones((4096, 4096), bool), (4096, 4096))
    cut, tissue = _window_of((1600.0, 2600.0, 1700.0, 2700.0), image, Grid(4096, 4096, 1.0), mask)
    pixels = cut.compute()
    assert cut.shape == image.shape
    assert set(read) == {(0, y, x) for y in range(4, 7) for x in range(2, 5)}
    assert (pixels[:, 2048:3584, 1024:2560] == 7).all()
    assert pixels.sum() == 7 * 3 * (3 * 512) ** 2
    assert tissue.sum() == 100 * 100


def test_rasters_lie_where_those_of_the_whole_lie_and_genes_are_put_together_by_all_rows(bins, tmp_path):
    store = tmp_path / "x.zarr"
    section = sp.io.section(bins, bbox=BOX)
    sp.tl.fit_projection(section, store=store, config="fast", genes=["class1_a"], device="cpu")
    found = sp.get.gene_raster(store, "class1_a")
    assert found.shape == (1, 256, 256)
    seen = np.argwhere(np.isfinite(found.values[0]))
    assert seen.min(axis=0).tolist() == [60, 40]
    assert seen.max(axis=0).tolist() == [199, 139]
    truth = sp.datasets.toy_truth(bins, "class1_a").values[0]
    known = np.isfinite(found.values[0]) & (truth > 0)
    assert np.corrcoef(found.values[0][known], truth[known])[0, 1] > 0.6
    assert section.adata.obsm["projection_fitted"].shape[0] == section.adata.n_obs


def test_factors_are_also_those_of_rows_outside(bins):
    from sphisto.config import FitConfig
    from sphisto.genes.factorize import fit_factors

    measured, config = sp.io.section(bins, bbox=BOX).measured, FitConfig().genes
    whole = sp.io.section(bins).measured
    kept = np.ones(len(measured.centers), bool)
    found = fit_factors(measured, kept, config, 0)
    assert found.loadings.shape == fit_factors(whole, np.ones(len(whole.centers), bool), config, 0).loadings.shape


@pytest.mark.parametrize("box", [(1, 2, 3), "abcd", (5, 0, 4, 9), (0, 0, np.inf, 4), None])
def test_what_is_no_window_is_refused(bins, box):
    if box is None:
        with pytest.raises(ValueError, match="Found no spot or bin under tissue with its centre in bbox.*reach from x = "):
            sp.io.section(bins, bbox=(5000, 5000, 5010, 5010))
        return
    with pytest.raises(ValueError, match="Found bbox=.*expected .x_min, y_min, x_max, y_max."):
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
