"""Chunks that are not there: outside tissue they hold nothing, on tissue they were lost."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

import sphisto as sp
from sphisto.core.tiles import Window
from sphisto.io.store import read as stores


@pytest.fixture
def copied(large, tmp_path):
    return shutil.copytree(large, tmp_path / "copy.zarr")


def chunk_files(store, element):
    return sorted(path for path in (store / element).rglob("c/**/*") if path.is_file())


def test_a_lost_chunk_of_the_maps_is_no_tissue_without_genes(copied):
    raster = stores.raster(copied, "projection_factors")
    whole = sp.get.gene_raster(copied, "class0_a")
    lost = next(path for path in chunk_files(copied, "images/projection_factors/s0"))
    lost.unlink()
    with pytest.raises(ValueError, match=r"projection_factors.* is damaged: .* it holds none\. A file is missing"):
        sp.get.gene_raster(copied, "class0_a")
    with pytest.raises(ValueError, match=r"is damaged: where its mask of the tissue holds values"):
        sp.tl.aggregate(copied, square_um=100)
    coarser = sp.get.gene_raster(copied, "class0_a", scale=1)  # a level of its own, which is whole
    assert np.isfinite(coarser).any()
    assert len(raster.shapes) > 1
    assert np.isfinite(whole).any()


def test_a_lost_chunk_of_the_mask_is_no_glass(copied):
    masks = chunk_files(copied, "labels/projection_tissue/s0")
    masks[len(masks) // 2].unlink()
    with pytest.raises(ValueError, match=r"where it holds values, .* its mask of the tissue holds none"):
        sp.get.gene_raster(copied, "class0_a")


def test_a_lost_chunk_of_the_loadings_is_no_gene_without_any(copied):
    chunk_files(copied, "tables/table/varm/projection_loadings")[0].unlink()
    with pytest.raises(
        ValueError, match=r"copy\.zarr is damaged: loadings of \d+ genes, such as 'class0_a', are missing"
    ):
        sp.get.gene_raster(copied, "class0_a")


def test_loadings_that_a_user_gave_may_be_0(small_toy, tmp_path):
    genes, store = list(small_toy.var_names), tmp_path / "a.zarr"
    loadings = pd.DataFrame({"a": np.arange(len(genes)) % 2, "b": 1.0}, index=genes)
    sp.tl.fit_projection(small_toy, store=store, genes=genes[0], loadings=loadings, max_epochs=1, device="cpu")
    assert (stores.factors(store, "projection").loadings == 0).any()
    assert np.isfinite(sp.get.gene_raster(store, genes[2])).any()


def test_windows_that_cut_chunks_are_read_as_the_whole_is(large):
    raster = stores.raster(large, "projection_factors")
    height, width = raster.shapes[0]
    whole = raster.read(0, Window(0, 0, height, width))
    for window in (Window(3, 5, height // 2, width - 7), Window(130, 1, 131, 300), Window(0, 0, 128, 128)):
        np.testing.assert_array_equal(raster.read(0, window, slice(0, 2)), whole[:2, *window.slices])
    assert np.isnan(whole).any()
    assert np.isfinite(whole).any()
