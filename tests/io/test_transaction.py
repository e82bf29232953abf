from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from sphisto.io import transaction
from sphisto.io.transaction import clone, recover, replacing


def write(folder, text):
    (folder / "images").mkdir(exist_ok=True)
    (folder / "zarr.json").write_text(text)
    chunk = folder / "images" / "c0"
    chunk.unlink(missing_ok=True)  # as zarr does: chunks are replaced, not changed
    chunk.write_text(text)


def read(store):
    return (store / "zarr.json").read_text(), (store / "images" / "c0").read_text()


def leftovers(store):
    return [path.name for path in store.parent.iterdir() if path != store]


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "a.zarr"
    with replacing(path) as staging:
        write(staging, "old")
    return path


def test_a_new_version_takes_the_place_of_the_old(store):
    with replacing(store) as staging:
        assert read(staging) == ("old", "old")
        write(staging, "new")
        assert read(store) == ("old", "old")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_version(store, error):
    def fail(staging):
        write(staging, "new")
        raise error

    with pytest.raises(error), replacing(store) as staging:
        fail(staging)
    assert read(store) == ("old", "old")
    assert leftovers(store) == []


def test_without_an_atomic_exchange_the_result_is_the_same(store, monkeypatch):
    monkeypatch.setattr(transaction, "_exchange", lambda _a, _b: False)
    with replacing(store) as staging:
        write(staging, "new")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


def test_a_version_caught_between_two_renames_comes_back(store):
    store.rename(store.parent / f".{store.name}.old-999999999.sphisto")
    recover(store)
    assert read(store) == ("old", "old")


KILLED = """
import sys, time
from pathlib import Path
from sphisto.io.transaction import replacing
with replacing(Path(sys.argv[1])) as staging:
    for name in ("zarr.json", "images/c0"):
        (staging / name).unlink()
        (staging / name).write_text("new")
        print("wrote", flush=True)
        time.sleep(0.2)
"""


@pytest.mark.parametrize("wait", [0, 1])
def test_kill_9_leaves_the_old_version_and_the_next_run_clears_up(store, wait):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store)], stdout=subprocess.PIPE, text=True)
    for _ in range(wait + 1):
        assert process.stdout.readline() == "wrote\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert read(store) == ("old", "old")
    assert len(leftovers(store)) == 1
    with replacing(store) as staging:
        write(staging, "new")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


def test_the_working_folder_of_a_living_process_is_left_alone(store):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    recover(store)
    assert process.wait() == 0
    process.stdout.close()
    assert read(store) == ("new", "new")


def test_chunks_are_shared_and_metadata_is_not(store, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    clone(store, copy)
    assert (copy / "images" / "c0").stat().st_ino == (store / "images" / "c0").stat().st_ino
    assert (copy / "zarr.json").stat().st_ino != (store / "zarr.json").stat().st_ino


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(PermissionError, match="Cannot write in .*file.*Choose another `store`"),
        replacing(tmp_path / "file" / "a.zarr"),
    ):
        pass


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        store = disk / "a.zarr"
        with replacing(store) as staging:
            write(staging, "old")
        with (
            pytest.raises(OSError, match="The disk filled up while .* was written.*unchanged"),
            replacing(store) as staging,
        ):
            (staging / "big").write_bytes(b"0" * 2_000_000)
        assert read(store) == ("old", "old")
        assert leftovers(store) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
