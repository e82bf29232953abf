from __future__ import annotations

import shutil

import numpy as np

import sphisto as sp
from sphisto.io.registration import own_system, write_transformations


def test_a_store_is_read_as_before_once_its_section_was_registered(store, tmp_path):
    import spatialdata as sd
    from spatialdata.transformations import get_transformation

    path = shutil.copytree(store, tmp_path / "toy.zarr")
    before = sp.get.gene_raster(path, "class1_a")
    sdata = sd.read_zarr(path)
    section = sp.io.section(sdata)
    turned = np.array([[0.8, -0.6, 5], [0.6, 0.8, -2], [0, 0, 1]])
    write_transformations(sdata, own_system(section, "other"), turned, "other")
    read = sd.read_zarr(path)
    assert set(read.coordinate_systems) == {"global", "other"}
    for _, name, _ in read.gen_spatial_elements():
        to_global, to_other = (
            get_transformation(read[name], system).to_affine_matrix(("x", "y"), ("x", "y"))
            for system in ("global", "other")
        )
        np.testing.assert_allclose(to_other, turned @ to_global, atol=1e-9)
    np.testing.assert_array_equal(sp.get.gene_raster(path, "class1_a"), before)
    np.testing.assert_array_equal(sp.io.section(read).measured.centers, section.measured.centers)
    assert sp.tl.aggregate(path, square_um=40).n_obs == sp.tl.aggregate(store, square_um=40).n_obs
    assert sp.io.section(sd.read_zarr(path)).library_id == section.library_id
