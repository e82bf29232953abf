"""Stores and models of earlier releases, and of other versions of the libraries, say today what they said then."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sphisto import _keys
from sphisto.io.store import read as stores

GOLDEN = Path(__file__).parent / "golden"
ARCHIVES = [*sorted(GOLDEN.glob("*.tar.xz")), *map(Path, filter(None, [os.environ.get("SPHISTO_GOLDEN")]))]

_spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.fixture(scope="module", params=ARCHIVES, ids=[archive.name for archive in ARCHIVES])
def golden(request, tmp_path_factory):
    """Unpack an archive; return what it says was read, and what is read now."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(request.param) as tar:
        tar.extractall(folder, filter="data")
    expected = json.loads((folder / make.EXPECTED).read_text())
    return folder, expected, make.numbers(folder, tmp_path_factory.mktemp("scratch"))


def test_an_archive_is_small():
    assert ARCHIVES
    assert all(archive.stat().st_size < 200_000 for archive in ARCHIVES)


def test_names_are_the_same(golden):
    _, expected, found = golden
    assert found.keys() == expected.keys()
    assert (found["genes"], found["spots"]) == (expected["genes"], expected["spots"])
    assert found["genes"] == make.GENES


def test_what_was_stored_is_read_to_the_last_digit(golden):
    _, expected, found = golden
    for name in ("counts", "loadings", "fitted", *(name for name in expected if name.startswith("raster "))):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_what_is_computed_is_the_same_within_rounding(golden):
    _, expected, found = golden
    for name in ("gene", "gene of what SpatialData reads", "regions", "coverage", "predicted", "predicted factors"):
        # factor maps hold 12 bits of each value: the last one of what is predicted may fall to either side
        tolerance = 2**-10 if name.startswith("predicted") else 1e-5
        np.testing.assert_allclose(found[name], expected[name], rtol=tolerance, atol=1e-6, err_msg=name)


def test_the_numbers_say_something(golden):
    """Rasters vary, tissue has a border, and the network moves what it predicts away from the stored prior."""
    _, expected, _ = golden
    for name in ("raster projection", "gene", "regions", "predicted", "raster toy_image"):
        assert np.nanstd(expected[name]) > 0.01, name
    assert {0.0, 1.0} == set(np.ravel(expected["raster toy_tissue"]))
    assert not np.allclose(
        expected["predicted factors"], expected["raster projection_factors"], rtol=0.01, equal_nan=True
    )


@pytest.fixture(scope="module")
def upgraded(golden, tmp_path_factory):
    """A copy of it, model and all, whose store was brought to today's format."""
    import sphisto as sp

    folder = tmp_path_factory.mktemp("upgraded") / "golden"
    shutil.copytree(golden[0], folder)
    sp.tl.upgrade(folder / make.STORE)
    assert stores.format_of(stores.mark(folder / make.STORE)) == _keys.FORMAT
    return folder


def test_an_upgraded_store_says_the_same(golden, upgraded, tmp_path):
    _, expected, found = golden
    after = make.numbers(upgraded, tmp_path)
    assert after.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(after[name], found[name], err_msg=name)
    assert [path.name for path in upgraded.glob(".*")] == []


def test_an_upgraded_store_holds_no_nan(upgraded):
    import spatialdata as sd

    sdata = sd.read_zarr(upgraded / make.STORE)
    tissue = sdata["projection_tissue"]
    tissue = tissue["scale0"].image if hasattr(tissue, "children") else tissue
    for name in ("projection", "projection_factors", "projection_sd"):
        element = sdata[name]
        values = (element["scale0"].image if hasattr(element, "children") else element).values
        assert np.isfinite(values).all()
        assert (values[:, tissue.values == 0] == 0).all()


def test_a_model_of_then_uses_the_stain_where_it_did(golden):
    import sphisto as sp

    assert sp.tl.load(golden[0] / make.MODEL).config.field.stain_um_per_px == 1.5


def test_a_store_of_then_takes_another_projection_now(golden, upgraded, tmp_path):
    """It is written on, and what it held stays as it was."""
    import sphisto as sp

    folder, expected, _ = golden
    store = tmp_path / make.STORE
    shutil.copytree(upgraded / make.STORE, store)
    toy = sp.datasets.toy(64, 72, pitch_um=24, rng=1)[:, make.GENES].copy()
    model, section = sp.tl.load(folder / make.MODEL), sp.io.section(toy, tissue=make.TISSUE, check=False)
    sp.tl.predict(model, section, store=store, key_added="again", device="cpu")
    few = (..., slice(None, None, make.STEP), slice(None, None, make.STEP))
    for name in ("projection", "projection_factors"):
        kept = make.rounded(sp.get.raster(store, name).values[few])
        np.testing.assert_array_equal(kept, expected[f"raster {name}"])
    again = sp.get.gene_raster(store, make.GENES, key="again").values[few]
    np.testing.assert_allclose(again, expected["predicted"], rtol=2**-10, atol=1e-6)
