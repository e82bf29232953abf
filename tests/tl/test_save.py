from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest

import sphisto as sp


def test_what_is_loaded_can_be_saved_and_loaded_again(fitted, tmp_path):
    one = sp.tl.load(fitted)
    sp.tl.save(one, tmp_path / "copy.pt")
    assert sp.tl.load(tmp_path / "copy.pt").genes == one.genes
    assert sp.tl.load(str(tmp_path / "copy.pt")).spot == one.spot


def test_an_anndata_without_projection_is_said(small_toy):
    with pytest.raises(KeyError, match=r"Found no projection uns\['projection'\]. Run `sphisto.tl.fit_projection`"):
        sp.tl.load(small_toy)


def test_what_is_no_projection_is_not_saved(small_toy, tmp_path):
    for other in (small_toy, "toy.projection.pt"):
        with pytest.raises(TypeError, match=rf"Found {type(other).__name__} as `fitted`; .*sphisto\.tl\.load\(adata\)"):
            sp.tl.save(other, tmp_path / "copy.pt")
    assert not list(tmp_path.iterdir())


def test_a_projection_that_was_predicted_has_no_model(small_toy):
    small_toy.uns["projection"] = {"params": {}, "model": "", "store": "toy.zarr"}
    with pytest.raises(KeyError, match=r"uns\['projection'\] was predicted and has no model"):
        sp.tl.load(small_toy)


def test_what_is_neither_file_nor_table_is_refused(small_toy):
    with pytest.raises(TypeError, match=r"Found Section as `source`; expected the path.*`section\.adata`"):
        sp.tl.load(sp.io.section(small_toy))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is always full")
def test_a_full_disk_is_an_error_of_the_system_with_path_and_remedy(fitted, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def full(_):
        yield Path("/dev/full")

    monkeypatch.setattr("sphisto.predict.fitted.whole_file", full)
    with pytest.raises(
        OSError, match=r"filled up while .*m\.pt was written.*Nothing of it is kept.*another `path`"
    ) as caught:
        sp.tl.save(sp.tl.load(fitted), tmp_path / "m.pt")
    assert caught.value.errno == errno.ENOSPC


def test_of_another_working_folder_the_model_is_said_to_be_looked_for_there(small_toy, tmp_path, monkeypatch):
    small_toy.uns["projection"] = {"params": {}, "store": "a.zarr", "model": "a.projection.pt"}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no model at a\.projection\.pt from the working folder, .*\['model'\]"
    ):
        sp.tl.load(small_toy)
