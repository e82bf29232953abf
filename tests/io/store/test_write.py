from __future__ import annotations

import os
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
from anndata.io import read_zarr

import sphisto as sp
from sphisto.io.slides import make_slide
from sphisto.io.store import write as building


def test_a_slide_read_from_its_store_is_the_same_and_can_be_sent(small_toy, tmp_path, rng):
    slide = make_slide(sp.io.section(small_toy))
    slide = replace(slide, image=rng.integers(0, 256, slide.image.shape, dtype=np.uint8))
    (tmp_path / "staging").mkdir()
    building.write_slide(tmp_path / "staging", slide, "projection")
    sent = pickle.dumps(building.stored_slide(tmp_path / "staging", slide))
    assert len(sent) < 10_000, "pixels or counts are sent along"
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received.image[...], slide.image)
    np.testing.assert_array_equal(received.tissue[...].astype(bool), slide.tissue)
    np.testing.assert_array_equal(received.spots.centers, slide.spots.centers)
    assert (received.name, received.grid, received.spot) == (slide.name, slide.grid, slide.spot)


def test_the_folder_of_a_new_store_stays_the_one_the_journal_knows(small_toy, tmp_path):
    """Else a fit into a new store could not go on after a kill."""
    staging = tmp_path / "staging"
    staging.mkdir()
    held = os.open(staging, os.O_RDONLY)  # its number cannot be given to another folder
    building.write_slide(staging, make_slide(sp.io.section(small_toy)), "projection")
    assert os.path.samestat(os.fstat(held), staging.stat())
    os.close(held)
    assert [path.name for path in tmp_path.iterdir()] == ["staging"]


def test_a_table_of_pandas_strings_is_written(small_toy, tmp_path):
    """So they are read from a store of pandas 3 by whatever pandas."""
    adata, staging = small_toy, tmp_path / "staging"
    adata.var_names = adata.var_names.astype("string")
    adata.obs_names = adata.obs_names.astype("string")
    adata.obs["said"] = pd.array(["a", None] * (adata.n_obs // 2) + ["b"] * (adata.n_obs % 2), dtype="string")
    staging.mkdir()
    slide = make_slide(sp.io.section(adata))
    building.write_slide(staging, slide, "projection")
    building.write_table(staging, tmp_path / "absent.zarr", slide, adata, "projection")
    found = read_zarr(staging / "tables" / "table")
    assert list(found.var_names) == list(adata.var_names)
    assert list(found.obs_names) == list(adata.obs_names)
    assert list(found.obs["said"].isna()) == list(adata.obs["said"].isna())
    assert list(found.obs["said"].dropna()) == list(adata.obs["said"].dropna())
