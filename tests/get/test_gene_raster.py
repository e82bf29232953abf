from __future__ import annotations

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.store.chunks import cut


def test_any_gene_is_loadings_times_factors(fitted, store):
    factors = sp.get.raster(store, "projection_factors").values
    for gene in fitted.var_names:
        expected = np.tensordot(fitted[:, gene].varm["projection_loadings"][0], factors, axes=1)
        found = sp.get.gene_raster(store, gene)
        np.testing.assert_allclose(found.values[0], expected, rtol=1e-4, atol=1e-6)
        assert list(found.gene.values) == [gene]
    assert found.attrs["unit"] == "counts per spot area"
    assert found.attrs["um_per_px"] == pytest.approx(fitted.uns["projection"]["params"]["um_per_px"])


def test_a_box_is_a_part_of_the_whole(store):
    whole = sp.get.gene_raster(store, ["nuclei_a", "noise_a"])
    part = sp.get.gene_raster(store, ["nuclei_a", "noise_a"], bbox=(10, 20, 30.5, 50))
    assert part.shape == (2, 30, 21)
    np.testing.assert_array_equal(part.values, whole.values[:, 20:50, 10:31])
    np.testing.assert_allclose(part.x[[0, -1]], [10.5, 30.5])
    np.testing.assert_allclose(part.y[[0, -1]], [20.5, 49.5])


@pytest.mark.parametrize("opened", [False, True])
def test_reading_chunk_by_chunk_changes_nothing(store, monkeypatch, opened):
    import spatialdata as sd

    source = sd.read_zarr(store) if opened else store
    whole = sp.get.gene_raster(source, ["nuclei_a", "noise_a"], bbox=(5, 3, 112, 90))
    monkeypatch.setattr("sphisto.io.store.chunks.cut", lambda window, _: cut(window, (32, 32)))
    parts = sp.get.gene_raster(source, ["nuclei_a", "noise_a"], bbox=(5, 3, 112, 90))
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    np.testing.assert_array_equal(parts.x, whole.x)


def test_maps_without_loadings_are_not_needed(fitted, store, tmp_path):
    import shutil

    import zarr

    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    loadings = fitted.varm["projection_loadings"].copy()
    kept = np.arange(loadings.shape[1]) % 3 == 1
    zarr.open_array(copy / "tables" / "table" / "varm" / "projection_loadings", mode="r+")[:] = loadings * kept
    factors = sp.get.raster(copy, "projection_factors").values
    row = fitted.var_names.get_loc("nuclei_a")
    expected = np.tensordot(loadings[row, kept], factors[kept], axes=1)
    np.testing.assert_allclose(sp.get.gene_raster(copy, "nuclei_a").values[0], expected, rtol=1e-4, atol=1e-6)


def test_boxes_beside_the_raster_and_levels_that_are_not_there(store):
    with pytest.raises(
        ValueError, match=r"holds no pixel; expected \(x_min, y_min, x_max, y_max\) within \(0, 0, 112, 96\)"
    ):
        sp.get.gene_raster(store, "nuclei_a", bbox=(500, 500, 600, 600))
    with pytest.raises(ValueError, match="expected `scale` from 0 to 0"):
        sp.get.gene_raster(store, "nuclei_a", scale=3)
    with pytest.raises(KeyError, match="Found no gene 'nucleus'"):
        sp.get.gene_raster(store, "nucleus")
    with pytest.raises(KeyError, match="Found no projection 'other' in the store"):
        sp.get.gene_raster(store, "nuclei_a", key="other")
