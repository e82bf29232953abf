"""Stores by the paths that people write, and terminals that cannot show them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

import sphisto as sp


def test_a_store_behind_a_link_in_the_home_folder(small_toy, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    disk = tmp_path / "large disk"
    disk.mkdir()
    link = tmp_path / "Gewebe ä组.zarr"
    link.symlink_to("large disk/x ä组.zarr", target_is_directory=True)  # of a store that is not there yet
    real = disk / "x ä组.zarr"

    sp.tl.fit_projection(small_toy, store=f"~/{link.name}/", max_epochs=1, genes=["class0_a"], device="cpu")
    assert link.is_symlink()
    assert Path(small_toy.uns["projection"]["store"]) == real
    assert Path(small_toy.uns["projection"]["model"]) == disk / "x ä组.projection.pt"
    assert b"x \\xe4\\u7ec4.zarr" in terminal.buffer.getvalue()

    fitted = sp.tl.load(small_toy)
    sp.tl.predict(fitted, small_toy.copy(), store=f"~/{link.name}", key_added="second", device="cpu")
    assert link.is_symlink()
    first, second = (sp.get.raster(real, name).values for name in ("projection", "second"))
    np.testing.assert_allclose(second, first, rtol=1e-3)
    assert sorted(path.name for path in disk.iterdir()) == ["x ä组.projection.pt", "x ä组.zarr"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [link.name, disk.name]


def test_a_link_to_a_disk_that_is_not_mounted_is_refused_before_anything_is_written(small_toy, tmp_path):
    link = tmp_path / "x.zarr"
    link.symlink_to(tmp_path / "not_mounted" / "x.zarr", target_is_directory=True)
    with pytest.raises(FileNotFoundError, match=r"Is its disk mounted\?"):
        sp.tl.fit_projection(small_toy, store=link, max_epochs=1, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    assert "projection" not in small_toy.uns
