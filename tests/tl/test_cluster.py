"""Rasters written by the processes of a cluster: the same as here, whoever is killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import sphisto as sp

pytestmark = pytest.mark.slow  # whole fits

SIDES = 64, 4700  # px: three regions
RASTERS = ("projection_factors", "projection", "projection_sd", "projection_reconstruction")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Workers compute with one thread each; sums by more of them differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def strip():
    """Make a section long enough for three regions, with few spots."""
    adata = sp.datasets.toy(*SIDES, pitch_um=24, rng=1)
    library = adata.uns["spatial"]["toy"]
    factor = round(1 / library["scalefactors"]["tissue_hires_scalef"])
    full = np.pad(library["images"]["hires"].repeat(factor, 0).repeat(factor, 1), ((0, 3), (0, 3), (0, 0)), mode="edge")
    library["images"]["hires"], library["scalefactors"]["tissue_hires_scalef"] = full[: SIDES[0], : SIDES[1]], 1.0
    return adata[::7].copy()


@pytest.fixture(scope="module")
def model(fitted_once):
    return sp.tl.load(fitted_once)


@pytest.fixture(scope="module")
def client():
    """Connect to two worker processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def predict(model, adata, store, **options):
    adata = adata.copy()
    sp.tl.predict(model, adata, store=store, device="cpu", **options)
    return adata.obsm["projection_fitted"]


@pytest.fixture(scope="module")
def here(model, strip, tmp_path_factory):
    """Write the same without a cluster."""
    path = tmp_path_factory.mktemp("here") / "strip.zarr"
    return path, predict(model, strip, path)


def contents(store):
    """Bytes of every file of the rasters."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for name in RASTERS
        for path in (store / "images" / name).rglob("*")
        if path.is_file()
    }


def assert_same(store, spots, here):
    expected, expected_spots = here
    found, expected = contents(store), contents(expected)
    assert found.keys() == expected.keys()
    assert [name for name, content in expected.items() if found[name] != content] == []
    np.testing.assert_array_equal(spots, expected_spots)
    assert not list(store.parent.glob(".*")), "something was left behind"


def test_a_cluster_writes_what_is_written_here(model, strip, here, client, tmp_path):
    spots = predict(model, strip, tmp_path / "strip.zarr", client=client)
    assert_same(tmp_path / "strip.zarr", spots, here)


def test_a_fit_whose_tiles_are_written_by_a_cluster_is_the_same(small_toy, client, tmp_path):
    found = []
    for name, options in (("here", {}), ("there", {"client": client})):
        (tmp_path / name).mkdir()
        adata, path = small_toy.copy(), tmp_path / name / "toy.zarr"
        sp.tl.fit_projection(adata, store=path, max_epochs=4, device="cpu", **options)
        found.append((path, adata.obsm["projection_fitted"]))
    assert_same(*found[1], found[0])


def test_slides_are_tasks_of_their_own(small_toy, client, tmp_path):
    stores = [tmp_path / f"{i}.zarr" for i in range(2)]
    fits = [
        client.submit(
            sp.tl.fit_projection, small_toy, store=path, max_epochs=1, device="cpu", rng=i, copy=True, pure=False
        )
        for i, path in enumerate(stores)
    ]
    for path, adata in zip(stores, client.gather(fits), strict=True):
        assert adata.uns["projection"]["store"] == str(path)
        assert np.isfinite(sp.get.gene_raster(path, "noise_a").values).any()


RUN = """
import os
import pickle
import signal
import sys
import sphisto as sp
from distributed import Client
from sphisto.io.store.journal import Journal
note = Journal.note_region
def note_and_die(*args):
    note(*args)
    os.kill(os.getpid(), signal.SIGKILL)
Journal.note_region = note_and_die
model, adata, store = pickle.load(open(sys.argv[1], "rb"))
sp.tl.predict(model, adata, store=store, device="cpu", client=Client(sys.argv[2]))
"""


@pytest.mark.slow
def test_regions_that_a_killed_caller_noted_are_not_written_again(model, strip, here, client, tmp_path, monkeypatch):
    from sphisto.tl import _project

    path = tmp_path / "strip.zarr"
    (tmp_path / "given").write_bytes(pickle.dumps((model, strip, path)))
    address = client.scheduler.address
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path / "given"), address], timeout=600)
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "given").unlink()
    write_on, asked = _project.write_on, []

    def spied(client, writing, regions, *args):
        asked.extend(regions)
        return write_on(client, writing, regions, *args)

    monkeypatch.setattr(_project, "write_on", spied)
    spots = predict(model, strip, path, client=client, resume=True)
    assert len(asked) == 2
    assert_same(path, spots, here)


def test_a_caller_that_gives_up_leaves_nobody_writing(model, strip, client, tmp_path, monkeypatch):
    from sphisto.io.store.journal import Journal

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "note_region", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(model, strip, tmp_path / "strip.zarr", client=client)
    assert not any(client.processing().values())
    assert not list(tmp_path.rglob("sent-*"))
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_a_worker_killed_on_the_way_changes_nothing(model, strip, here, client, tmp_path, monkeypatch):
    from sphisto.io.store.journal import Journal

    pids, note, killed = client.run(os.getpid), Journal.note_region, []

    def note_and_kill(journal, number):
        note(journal, number)
        busy = [worker for worker, tasks in client.processing().items() if tasks]
        if busy and not killed:
            killed.append(pids[busy[0]])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(Journal, "note_region", note_and_kill)
    spots = predict(model, strip, tmp_path / "strip.zarr", client=client)
    assert killed
    assert killed[0] not in client.run(os.getpid).values()
    assert_same(tmp_path / "strip.zarr", spots, here)


def test_what_goes_wrong_on_a_worker_is_raised_here(model, strip, client, tmp_path, monkeypatch):
    from pathlib import Path

    from sphisto.tl import _cluster

    submit = client.submit
    monkeypatch.setattr(
        client,
        "submit",
        lambda task, *args, **options: submit(
            task, *((Path("/elsewhere/sent-1"),) if task is _cluster._received else args), **options
        ),
    )
    with pytest.raises(FileNotFoundError, match="a folder that this machine does not share: expected one"):
        predict(model, strip, tmp_path / "strip.zarr", client=client)


def test_what_is_no_client_is_refused_before_anything_is_written(model, strip, client, tmp_path, monkeypatch):
    from distributed import Client

    with pytest.raises(TypeError, match=r"Found client='tcp://a:1'; expected a `distributed.Client`"):
        predict(model, strip, tmp_path / "a.zarr", client="tcp://a:1")
    closed = Client(client.scheduler.address)
    closed.close()
    with pytest.raises(ValueError, match="a client that is closed; expected one that is connected"):
        predict(model, strip, tmp_path / "a.zarr", client=closed)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r'pip install "sphisto\[cluster\]"'):
        predict(model, strip, tmp_path / "a.zarr", client=client)
    assert not list(tmp_path.iterdir())
