"""Interruption and resuming of a fit of several sections; kills are those of real processes."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.store import read as stores

pytestmark = pytest.mark.slow  # whole fits

NAMES = ("one", "two")
RASTERS = ("", "_factors", "_sd", "_reconstruction")

RUN = """
import sys
import time
import sphisto as sp
from sphisto.io.store.journal import Journal
from sphisto.predict import tiles
from sphisto.tl import _project
from sphisto.train import fit
from sphisto.train.trainer import Keeper

def slowly(function):  # so that the signal finds it running
    def wrapped(*args):
        function(*args)
        time.sleep(0.15)
    return wrapped

def toy(name, seed):
    adata = sp.datasets.toy(96, 112, pitch_um=24, rng=seed)
    adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
    return adata

def small_tiles():
    _project.REGION = 32
    _project.tiles_of = lambda fitted, slide: tiles.tiles_of(fitted, slide, tile=32)

def run(store, sections=None, **options):
    fit.fastest = lambda device: "float32"  # what is measured in another process may differ
    small_tiles()
    sections = [toy("one", 1), toy("two", 2)] if sections is None else sections
    config = sp.config.FitConfig(train=sp.config.TrainConfig(max_epochs=6, least_batches=2))
    sp.tl.fit_projection(sections, store=store, config=config, device="cpu", **options)
    return sections

if __name__ == "__main__":
    Keeper.on_train_epoch_end = slowly(Keeper.on_train_epoch_end)
    Journal.note_region = slowly(Journal.note_region)
    run(sys.argv[1])
"""


def runner(patch):
    """Return the fit of the process that is killed, to be run here, at once."""
    from sphisto.tl import _project
    from sphisto.train import fit

    for module, name in ((_project, "REGION"), (_project, "tiles_of"), (fit, "fastest")):
        patch.setattr(module, name, getattr(module, name))  # what it changes is put back
    names = {"__name__": "here"}
    exec(RUN, names)
    return names["run"]


@pytest.fixture
def run(monkeypatch):
    return runner(monkeypatch)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Store and tables of a fit that was not interrupted."""
    store = tmp_path_factory.mktemp("unbroken") / "a.zarr"
    with pytest.MonkeyPatch.context() as patch:
        return store, runner(patch)(store)


def killed(store, reached):
    """Fit in a process of its own, and kill it as soon as something is reached."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", RUN, str(store)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def once_in_training(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    killed(folder / "a.zarr", (folder / "a.projection.ckpt").exists)
    return folder


@pytest.fixture(scope="module")
def once_in_writing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writing")
    state, journal = folder / "a.projection.sections", folder / ".a.zarr.new.sphisto" / "journal"

    def reached():
        first = state.exists() and json.loads(state.read_text())["written"] == ["one"]
        return first and journal.exists() and "region" in journal.read_text()

    killed(folder / "a.zarr", reached)
    return folder


@pytest.fixture
def killed_in_training(once_in_training, tmp_path):
    """Return the store of a fit that was killed in training, with what is left beside it: a copy of its own."""
    return shutil.copytree(once_in_training, tmp_path / "training") / "a.zarr"


@pytest.fixture
def killed_in_writing(once_in_writing, tmp_path):
    """The same, killed while the second section was written."""
    return shutil.copytree(once_in_writing, tmp_path / "writing") / "a.zarr"


def assert_as(store, tables, unbroken):
    other, expected = unbroken
    for name, adata, of in zip(NAMES, tables, expected, strict=True):
        key = f"projection_{name}"
        for which in RASTERS:
            found, wanted = (sp.get.raster(path, f"{key}{which}").values for path in (store, other))
            np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-5, err_msg=f"{name}{which}")
        for table in (adata, stores.table(store, key)):
            np.testing.assert_allclose(table.obsm[f"{key}_fitted"], of.obsm[f"{key}_fitted"], rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(table.varm[f"{key}_loadings"], of.varm[f"{key}_loadings"], rtol=1e-4)
            np.testing.assert_allclose(table.var[f"{key}_pearson"], of.var[f"{key}_pearson"], rtol=1e-3, atol=1e-5)
        assert set(adata.uns[key]) == set(of.uns[key])
        assert set(adata.uns[key]["params"]) == set(of.uns[key]["params"])
        np.testing.assert_allclose(adata.uns[key]["history"]["loss"], of.uns[key]["history"]["loss"], rtol=1e-4)
    assert sorted(path.name for path in store.parent.iterdir()) == ["a.projection.pt", "a.zarr"]


def test_a_fit_that_was_killed_in_training_goes_on(killed_in_training, run, unbroken):
    store = killed_in_training
    assert not store.exists()
    assert_as(store, run(store, resume=True), unbroken)


def test_a_fit_that_was_killed_in_writing_the_second_section_goes_on(killed_in_writing, run, unbroken, monkeypatch):
    import spatialdata as sd

    store = killed_in_writing
    sdata = sd.read_zarr(store)
    assert "projection_one" in sdata.images
    assert "projection_two" not in sdata.images
    assert "projection_one_fitted" in sdata["table"].obsm
    np.testing.assert_array_equal(
        sp.get.gene_raster(store, "class1_a", library_id="one").values,
        sp.get.gene_raster(unbroken[0], "class1_a", library_id="one").values,
    )
    before = {
        path: path.stat().st_mtime_ns for path in store.glob("images/projection_one*/**/c/**/*") if path.is_file()
    }
    monkeypatch.setattr("sphisto.tl._fit_sections.fit_sections", None)  # what was trained is kept
    assert_as(store, run(store, resume=True), unbroken)
    assert before
    assert {path: path.stat().st_mtime_ns for path in before} == before, "the first section was written again"


def test_resuming_another_call_is_refused(killed_in_training, run, unbroken):
    store = killed_in_training
    for options, said in (({"rng": 1}, "rng"), ({"scaling": "pooled"}, "scaling"), ({"genes": ["class1_a"]}, "genes")):
        with pytest.raises(ValueError, match=rf"unfinished fit .*another call: {said} differ.*resume=False"):
            run(store, resume=True, **options)
    with pytest.raises(ValueError, match=r"another call: (genes, )?slides, um_per_px differ"):
        run(store, resume=True, um_per_px=16.7)
    other = [sp.datasets.toy(96, 112, pitch_um=24, rng=seed) for seed in (1, 3)]
    for name, adata in zip(NAMES, other, strict=True):
        adata.uns["spatial"][name] = adata.uns["spatial"].pop("toy")
    with pytest.raises(ValueError, match=r"another call: (genes, )?slides differ"):
        run(store, other, resume=True)
    assert_as(store, run(store, resume=True), unbroken)  # it is still there


def test_a_call_without_resume_starts_anew(killed_in_writing, run, unbroken):
    assert_as(killed_in_writing, run(killed_in_writing), unbroken)


def test_what_was_written_and_taken_away_is_written_again(killed_in_writing, run, unbroken):
    store = killed_in_writing
    shutil.rmtree(store)
    shutil.rmtree(store.parent / ".a.zarr.new.sphisto")
    assert_as(store, run(store, resume=True), unbroken)


def test_a_disk_that_is_full_when_the_model_is_saved_costs_no_training(tmp_path, run, unbroken, monkeypatch):
    from sphisto.tl import _fit_sections

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = tmp_path / "a.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(_fit_sections, "save_fitted", full)
        with pytest.raises(
            OSError, match=r"filled up while .*a\.zarr was written.*unchanged; the training is kept for resume=True"
        ):
            run(store)
    assert_as(store, run(store, resume=True), unbroken)
