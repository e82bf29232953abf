"""Seeds, interruption and resuming of a fit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import sphisto as sp

pytestmark = pytest.mark.slow  # whole fits

KEY = "projection"


def fit(adata, path, **options):
    sp.tl.fit_projection(adata, store=path, **{"max_epochs": 2, "device": "cpu", **options})
    return adata


def raster(store, name):
    return sp.get.raster(store, name).values


def test_the_same_seed_gives_the_same_rasters_and_another_does_not(small_toy, tmp_path):
    rasters = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        fit(small_toy, tmp_path / f"{name}.zarr", rng=seed)
        rasters.append(raster(tmp_path / f"{name}.zarr", "projection_factors"))
    np.testing.assert_array_equal(rasters[0], rasters[1])
    assert not np.array_equal(rasters[0], rasters[2])


RUN = """
import signal
import sys
import time
import numpy as np
import sphisto as sp
from sphisto.train import fit
from sphisto.train.trainer import Keeper
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
fit.fastest = lambda device: "float32"
keep = Keeper.on_train_epoch_end
def keep_and_wait(*args):  # so that the signal finds it running
    keep(*args)
    time.sleep(0.5)
if len(sys.argv) == 2:
    Keeper.on_train_epoch_end = keep_and_wait
adata = sp.datasets.toy(96, 112, pitch_um=24, rng=1)
sp.tl.fit_projection(adata, store=sys.argv[1], max_epochs=8, device="cpu", resume=len(sys.argv) > 2,
    config=sp.config.FitConfig(train=sp.config.TrainConfig(least_batches=4)))  # as in the tests
"""


def start(path):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN, str(path)], stderr=subprocess.PIPE, text=True
    )
    checkpoint = path.parent / "toy.projection.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.fixture(scope="module")
def unbroken(small_toy_once, tmp_path_factory):
    # another process may place its arrays otherwise in memory, which changes the last bits of sums: of 24, not of 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sphisto.train.fit.fastest", lambda device: "float32")
        return fit(small_toy_once.copy(), tmp_path_factory.mktemp("unbroken") / "toy.zarr", max_epochs=8)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_fit_leaves_the_old_store_and_goes_on_to_the_same_result(small_toy, unbroken, tmp_path, sent):
    path = tmp_path / "toy.zarr"
    fit(small_toy.copy(), path, max_epochs=1, rng=9)
    before = raster(path, "projection_factors")
    process = start(path)
    os.kill(process.pid, sent)
    _, message = process.communicate(timeout=120)
    assert process.returncode != 0
    assert sent == signal.SIGKILL or "KeyboardInterrupt" in message
    np.testing.assert_array_equal(raster(path, "projection_factors"), before)
    with pytest.MonkeyPatch.context() as patch:  # what would be measured now does not count
        patch.setattr("sphisto.train.fit.fastest", lambda device: "bfloat16")
        fit(small_toy, path, max_epochs=8, resume=True)
    assert small_toy.uns[KEY]["params"]["precision"] == "float32"
    np.testing.assert_allclose(
        raster(path, "projection_factors"), raster(unbroken.uns[KEY]["store"], "projection_factors"), rtol=2e-3
    )
    np.testing.assert_allclose(small_toy.uns[KEY]["history"]["loss"], unbroken.uns[KEY]["history"]["loss"], rtol=1e-4)
    assert not list(tmp_path.glob(".*")), "something was left behind"
    assert not (tmp_path / "toy.projection.ckpt").exists()


def test_what_another_call_left_is_refused(small_toy, tmp_path):
    process = start(tmp_path / "toy.zarr")
    process.kill()
    process.communicate()
    with pytest.raises(
        ValueError, match=r"unfinished version .*another call: train\.max_epochs \(there 8, here 7\).*resume=False"
    ):
        fit(small_toy, tmp_path / "toy.zarr", max_epochs=7, resume=True)
    shutil.rmtree(tmp_path / ".toy.zarr.new.sphisto")
    with pytest.raises(ValueError, match=r"checkpoint .*toy.projection.ckpt .*max_epochs.*resume=False"):
        fit(small_toy, tmp_path / "toy.zarr", max_epochs=7, resume=True)
    with pytest.MonkeyPatch.context() as patch:  # as another version would find it
        patch.setattr("sphisto.train.recipe.__version__", "9.9")
        with pytest.raises(ValueError, match=r"checkpoint .*version \(there .*, here 9\.9\).*resume=False"):
            fit(small_toy, tmp_path / "toy.zarr", max_epochs=8, resume=True)
    (tmp_path / "toy.projection.ckpt").write_bytes(b"PK\x03\x04broken")
    with pytest.raises(ValueError, match=r"is no checkpoint, is damaged.*resume=False"):
        fit(small_toy, tmp_path / "toy.zarr", max_epochs=8, resume=True)


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut the small section into 3 x 4 regions of one tile."""
    from sphisto.predict.tiles import tiles_of

    monkeypatch.setattr("sphisto.tl._project.REGION", 32)

    monkeypatch.setattr("sphisto.tl._project.tiles_of", lambda fitted, slide: tiles_of(fitted, slide, tile=32))


def test_an_interrupted_writing_goes_on_to_the_same_store(small_toy, small_tiles, tmp_path, monkeypatch):
    from sphisto.core.tiles import on_tissue, plan_tiles
    from sphisto.io.store.journal import Journal
    from sphisto.tl import _fit_projection, _regions

    fit(small_toy.copy(), tmp_path / "unbroken.zarr", max_epochs=2)
    note, predicted = Journal.note_region, []

    def stop(journal, number):
        note(journal, number)
        if len(journal.regions) == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "note_region", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(small_toy.copy(), tmp_path / "toy.zarr", max_epochs=2)
    assert not (tmp_path / "toy.zarr").exists()
    predict = _regions.predict_tiles
    monkeypatch.setattr(
        _regions, "predict_tiles", lambda *a, tiles, **o: predict(*a, tiles=predicted.extend(tiles) or tiles, **o)
    )
    monkeypatch.setattr(_fit_projection, "fit", None)  # the model is there
    fit(small_toy, tmp_path / "toy.zarr", max_epochs=2, resume=True)
    tissue = raster(tmp_path / "toy.zarr", "toy_tissue").astype(bool)
    assert len(predicted) == len(on_tissue(plan_tiles(tissue.shape, size=32), tissue)) - 5
    for name in ("projection_factors", "projection", "projection_sd", "projection_reconstruction"):
        np.testing.assert_array_equal(raster(tmp_path / "toy.zarr", name), raster(tmp_path / "unbroken.zarr", name))
    np.testing.assert_array_equal(
        small_toy.obsm["projection_fitted"],
        fitted_in(tmp_path / "unbroken.zarr"),
    )
    assert (tmp_path / "toy.projection.pt").exists()
    assert not list(tmp_path.glob(".*")), "something was left behind"


def fitted_in(store):
    from sphisto.io.store import read as stores

    return stores.table(store).obsm["projection_fitted"]
