from __future__ import annotations

from pathlib import Path

import pytest

from sphisto.io import paths
from sphisto.io.store.lock import lock_file
from sphisto.io.store.transaction import replacing


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


@pytest.mark.parametrize(
    "name", ["x.zarr", "x", "x.zarr/", "with blanks ä 组织.zarr", "a.b/x.zarr", "up/../x.zarr", "~x"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_left_as_it_was_written(tmp_path, name, kind):
    assert paths.store_path(kind(tmp_path / name)) == tmp_path / name
    assert paths.store_path(kind(name)) == Path(name)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_home_folder_has_a_short_name(home, kind):
    assert paths.user_path(kind("~/x.zarr")) == home / "x.zarr"
    assert paths.store_path(kind("~/x.zarr")) == home / "x.zarr"
    assert paths.located(kind("~/x.zarr")) == home / "x.zarr"


def test_folders_without_a_name_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert paths.store_path("") == paths.store_path(".") == paths.store_path("a/..") == tmp_path


def linked(link: Path, target: str | Path) -> Path:
    link.symlink_to(target, target_is_directory=True)
    return link


@pytest.mark.parametrize("target", ["large/x.zarr", "../{here}/large/x.zarr", "{folder}/large/x.zarr", "second"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_to_the_store(tmp_path, target, there):
    """Relative, absolute, by way of another link; to a store that is there, or is not there yet."""
    real = tmp_path / "large" / "x.zarr"
    real.mkdir(parents=True) if there else real.parent.mkdir()
    linked(tmp_path / "second", "large/x.zarr")
    link = linked(tmp_path / "link", target.format(here=tmp_path.name, folder=tmp_path))
    assert paths.store_path(link) == real.resolve()
    assert paths.store_path(f"{link}/") == real.resolve()


def test_a_link_among_the_folders_above_stays_in_the_path(tmp_path):
    (tmp_path / "large").mkdir()
    folder = linked(tmp_path / "link", "large")
    assert paths.store_path(folder / "x.zarr") == folder / "x.zarr"


def test_links_that_lead_nowhere(tmp_path):
    lost = linked(tmp_path / "lost.zarr", tmp_path / "not_mounted" / "x.zarr")
    with pytest.raises(FileNotFoundError, match=r"lost.zarr is a link to .*there is no folder .*Is its disk mounted\?"):
        paths.store_path(lost)
    round_trip = linked(tmp_path / "a", "b")
    linked(tmp_path / "b", "a")
    with pytest.raises(OSError, match="is a link that leads back to itself"):
        paths.store_path(round_trip)


@pytest.mark.parametrize("address", ["s3://bucket/x.zarr", "https://example.org/x.zarr", "gs://b/x"])
def test_addresses_are_no_paths(address):
    with pytest.raises(ValueError, match="Found the address .*expected a path on this machine"):
        paths.store_path(address)


@pytest.mark.parametrize("wrong", [None, 3, b"x.zarr"])
def test_what_is_no_path(wrong):
    with pytest.raises(TypeError, match="path|bytes"):
        paths.store_path(wrong)


def test_files_beside_a_store_are_named_after_it():
    assert paths.beside(Path("a/x.zarr"), "first", "pt") == Path("a/x.first.pt")
    assert paths.beside(Path("x"), "first", "ckpt") == Path("x.first.ckpt")
    with pytest.raises(ValueError, match="is too long for a file; expected at most 250 bytes"):
        paths.beside(Path("ä" * 120), "projection", "pt")


def test_all_that_is_hidden_lies_beside_the_real_store(tmp_path):
    """Hard links, renames and the lock need one file system, and two names of one store one lock."""
    real = tmp_path / "large" / "x.zarr"
    real.parent.mkdir()
    link = linked(tmp_path / "link.zarr", real)
    with replacing(paths.store_path(link)) as work:
        assert work.folder.parent == real.parent.resolve()
        assert lock_file(real).exists()
        with pytest.raises(BlockingIOError, match="is being written by process"), replacing(paths.store_path(real)):
            pass
        (work.staging / "zarr.json").write_text("new")
        draft = work.draft(paths.beside(paths.store_path(link), "first", "pt"))
        draft.write_text("model")
    assert link.is_symlink()
    assert (real / "zarr.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "link.zarr"]
    assert sorted(path.name for path in real.parent.iterdir()) == ["x.first.pt", "x.zarr"]


def test_a_user_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"path '~nosuchuser/x.zarr', and neither a user 'nosuchuser' nor a folder.*`~/`"
    ):
        paths.user_path("~nosuchuser/x.zarr")
    (tmp_path / "~nosuchuser").mkdir()
    assert paths.user_path("~nosuchuser/x.zarr") == Path("~nosuchuser/x.zarr")
