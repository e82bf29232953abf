"""Several slides fitted by several processes at a time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.store import read as stores

RUN = """
import sys
import sphisto as sp
name, key, path = sys.argv[1:]
adata = sp.datasets.toy(96, 112, pitch_um=24, rng=1)
adata.uns["spatial"] = {name: adata.uns["spatial"]["toy"]}
sp.tl.fit_projection(adata, store=path, key_added=key, max_epochs=1, device="cpu", genes=["noise_a"])
"""
WHO = (("first", "a"), ("second", "b"))  # library and key


def fit_side_by_side(paths):
    """Fit two sections in two processes at the same time; return exit statuses and what they said."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RUN, *who, str(path)], stderr=subprocess.PIPE, text=True
        )
        for who, path in zip(WHO, paths, strict=True)
    ]
    said = [process.communicate(timeout=600)[1] for process in begun]
    return [process.returncode for process in begun], said


@pytest.mark.slow
def test_slides_with_a_store_each_do_not_know_of_each_other(tmp_path):
    paths = [tmp_path / "first.zarr", tmp_path / "second.zarr"]
    statuses, said = fit_side_by_side(paths)
    assert statuses == [0, 0], said
    first, second = (sp.get.raster(path, key).values for path, (_, key) in zip(paths, WHO, strict=True))
    np.testing.assert_allclose(first, second, rtol=2e-3)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_of_two_writers_of_one_store_both_succeed_or_one_is_told_of_the_other(tmp_path):
    path = tmp_path / "both.zarr"
    statuses, said = fit_side_by_side([path, path])
    assert 0 in statuses, said
    for status, text, (name, key) in zip(statuses, said, WHO, strict=True):
        if status == 0:
            assert stores.library_id(path, key) == name
        else:
            assert "BlockingIOError" in text
            assert "both.zarr is being written by process" in text
            subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, name, key, str(path)], check=True, timeout=600)
    for name, key in WHO:
        assert stores.library_id(path, key) == name
        assert np.isfinite(sp.get.raster(path, key).values).any()
    assert not list(tmp_path.glob(".*"))
