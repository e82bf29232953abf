from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from sphisto.io.store import transaction
from sphisto.io.store.lock import lock_file, locked, refuse_held
from sphisto.io.store.transaction import clone, recover, replacing


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
    with replacing(path) as work:
        write(work.staging, "old")
    return path


def test_a_new_version_takes_the_place_of_the_old(store):
    with replacing(store) as work:
        assert read(work.staging) == ("old", "old")
        write(work.staging, "new")
        assert read(store) == ("old", "old")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_version(store, error):
    def fail(staging):
        write(staging, "new")
        raise error

    with pytest.raises(error), replacing(store) as work:
        fail(work.staging)
    assert read(store) == ("old", "old")
    assert leftovers(store) == []


def test_without_an_atomic_exchange_the_result_is_the_same(store, monkeypatch):
    monkeypatch.setattr(transaction, "_exchange", lambda _a, _b: False)
    with replacing(store) as work:
        write(work.staging, "new")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


def test_a_version_caught_between_two_renames_comes_back(store):
    store.rename(store.parent / f".{store.name}.old.sphisto")
    recover(store)
    assert read(store) == ("old", "old")


KILLED = """
import sys, time
from pathlib import Path
from sphisto.io.store.transaction import replacing
with replacing(Path(sys.argv[1]), call={"key": "a"}) as work:
    for name in ("zarr.json", "images/c0"):
        (work.staging / name).unlink()
        (work.staging / name).write_text("new")
        work.journal.note(name)
        work.draft(Path("x/model.pt")).write_text(name)
        print("wrote", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def start(store, wait=30.0):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(store), str(wait)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "wrote\n"
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_kill_9_leaves_the_old_version_and_the_next_run_clears_up(store):
    kill(start(store))
    assert read(store) == ("old", "old")
    assert sorted(leftovers(store)) == [".a.zarr.lock", ".a.zarr.new.sphisto"]
    with replacing(store) as work:
        assert not work.journal.done
        assert not work.draft(store.with_name("model.pt")).exists()
        write(work.staging, "new")
    assert read(store) == ("new", "new")
    assert leftovers(store) == []


def test_another_run_goes_on_where_the_killed_one_stopped(store):
    kill(start(store))
    with replacing(store, call={"key": "a"}, resume=True) as work:
        assert list(work.journal.done) == ["zarr.json"]
        assert read(work.staging) == ("new", "old")
        assert work.draft(store.with_name("model.pt")).read_text() == "zarr.json"
        write(work.staging, "new")
    assert read(store) == ("new", "new")
    assert leftovers(store) == ["model.pt"]


def test_an_unfinished_version_of_another_call_is_said_and_stays(store):
    kill(start(store))
    with (
        pytest.raises(ValueError, match=r"is of another call: key \(there a, here b\)\. .*resume=False"),
        replacing(store, call={"key": "b"}, resume=True),
    ):
        pass
    with replacing(store, call={"key": "a"}, resume=True) as work:
        assert "zarr.json" in work.journal


def test_a_version_begun_before_the_store_changed_is_not_gone_on_with(store):
    kill(start(store))
    with replacing(store) as work:
        write(work.staging, "newer")
    kill(start(store))
    (store / "zarr.json").write_text("by another program")
    with replacing(store, call={"key": "a"}, resume=True) as work:
        assert not work.journal.done
        assert read(work.staging) == ("by another program", "newer")
        assert work.draft(store.with_name("model.pt")).exists(), "what does not depend on the store is kept"


def test_a_store_that_is_changed_meanwhile_is_left_alone(store):
    def change(work):
        write(work.staging, "new")
        (store / "zarr.json").write_text("by another program")

    with (
        pytest.raises(RuntimeError, match=r"was changed by something else .*zarr\.json.*resume=True"),
        replacing(store) as work,
    ):
        change(work)
    assert read(store) == ("by another program", "old")


def test_killed_right_after_the_exchange_drafts_still_come_to_their_place(store, monkeypatch):
    folder = store.with_name(f".{store.name}.new.sphisto")

    def stop(*_):
        raise SystemExit

    monkeypatch.setattr(transaction, "_place_drafts", stop)
    monkeypatch.setattr(transaction, "_keep_what_took_long", lambda *_, **__: True)

    def build(work):
        write(work.staging, "new")
        work.draft(store.with_name("model.pt")).write_text("fitted")

    with pytest.raises(SystemExit), replacing(store, call={"key": "a"}) as work:
        build(work)
    monkeypatch.undo()
    assert read(store) == ("new", "new")
    assert folder.exists()
    recover(store, keep=True)
    assert store.with_name("model.pt").read_text() == "fitted"
    assert read(store) == ("new", "new")
    assert not folder.exists()


def test_what_took_long_outlives_an_error(store, caplog):
    def fail(work):
        work.journal.note("slide")
        work.journal.note_region(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(store, call={"key": "a"}) as work:
        fail(work)
    assert "the same call with resume=True goes on from it" in caplog.text
    with replacing(store, call={"key": "a"}, resume=True) as work:
        assert work.journal.regions == {3}


def test_of_two_writers_the_second_is_told_of_the_first(store):
    process = start(store)
    with (
        pytest.raises(BlockingIOError, match=rf"is being written by process {process.pid} on .* since .*Wait until"),
        replacing(store),
    ):
        pass
    assert read(store) == ("old", "old")
    kill(process)
    with replacing(store) as work:  # its lock is stale by now
        write(work.staging, "new")
    assert leftovers(store) == []


def test_several_versions_in_a_row_under_one_lock(store):
    with locked(store):
        for text in ("first", "second"):
            with replacing(store, held=True) as work:
                write(work.staging, text)
            with pytest.raises(BlockingIOError, match="is being written"), replacing(store):
                pass
            with pytest.raises(BlockingIOError, match="is being written"):
                refuse_held(store)
            assert read(store) == (text, text)
    refuse_held(store)
    assert leftovers(store) == []


def test_without_locks_of_the_system_the_file_alone_counts(store, monkeypatch):
    monkeypatch.setattr("sphisto.io.store.lock.fcntl", None)
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": "2020"}
    lock_file(store).write_text(json.dumps(about))
    with pytest.raises(BlockingIOError, match=f"written by process {os.getpid()} on"), replacing(store):
        pass
    lock_file(store).write_text(json.dumps({**about, "host": "elsewhere"}))
    with (
        pytest.raises(BlockingIOError, match=r"on elsewhere since 2020\. .*remove .*\.a\.zarr\.lock"),
        replacing(store),
    ):
        pass
    lock_file(store).write_text(json.dumps({**about, "pid": 999_999_999}))
    with replacing(store) as work:
        write(work.staging, "new")
    assert leftovers(store) == []


def test_a_broken_line_of_the_journal_counts_for_nothing(store):
    kill(start(store))
    with (store.with_name(f".{store.name}.new.sphisto") / "journal").open("a") as file:
        file.write('"region 7')

    def fail(work):
        work.journal.note_region(8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), replacing(store, call={"key": "a"}, resume=True) as work:
        fail(work)
    with replacing(store, call={"key": "a"}, resume=True) as work:
        assert list(work.journal.done) == ["zarr.json", "region 8"]


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
        with replacing(store) as work:
            write(work.staging, "old")
        with (
            pytest.raises(OSError, match="The disk filled up while .* was written.*unchanged"),
            replacing(store) as work,
        ):
            (work.staging / "big").write_bytes(b"0" * 2_000_000)
        assert read(store) == ("old", "old")
        assert leftovers(store) == []

        def fill(work):
            work.draft(disk / "model.pt").write_text("fitted")
            (work.staging / "big").write_bytes(b"0" * 2_000_000)

        with (
            pytest.raises(OSError, match=r"unchanged; the fitted model is kept for resume=True\. Free some space"),
            replacing(store, call={"key": "a"}) as work,
        ):
            fill(work)
        with replacing(store, call={"key": "a"}, resume=True) as work:
            assert work.draft(disk / "model.pt").read_text() == "fitted"
            assert not (work.staging / "big").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_new_version_takes_away_what_workers_of_another_go_on_by(store):
    """Files beside the journal name what others may still be doing for a call that was killed."""
    folder = store.with_name(f".{store.name}.new.sphisto")
    folder.mkdir()
    (folder / "sent-1").write_text("")
    with replacing(store, call={"a": 1}) as work:
        assert not (folder / "sent-1").exists()
        assert work.staging.is_dir()
