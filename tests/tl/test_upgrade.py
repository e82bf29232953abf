"""Stores of the first format become those of today at once, whatever happens on the way."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.store import convert
from sphisto.io.store import read as stores

ARCHIVE = Path(__file__).parents[1] / "golden" / "0.1.0.tar.xz"


@pytest.fixture(scope="module")
def first_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.glob("*.zarr"))


@pytest.fixture
def first(first_once, tmp_path):
    """A store of the first format."""
    return Path(shutil.copytree(first_once, tmp_path / "toy.zarr"))


def genes(store):
    return sp.get.gene_raster(store, ["class1_a", "class3_b"]).values


def format_of(store):
    return stores.format_of(stores.mark(store))


def test_values_stay_and_a_second_time_nothing_is_done(first, capsys):
    before, image = genes(first), sp.get.raster(first, "toy_image")
    sp.tl.upgrade(str(first))
    assert capsys.readouterr().out == f"{first} is of format 2 now\n"
    assert format_of(first) == 2
    np.testing.assert_array_equal(genes(first), before)
    table = stores.table(first)
    picture, factors = (table.uns["spatial"]["toy"][name] for name in ("images", "scalefactors"))
    np.testing.assert_array_equal(picture["hires"], np.moveaxis(image.values, 0, -1))
    assert factors["tissue_hires_scalef"] == pytest.approx(1 / float(image.x[1] - image.x[0]))
    changed = (first / "zarr.json").stat().st_mtime_ns
    sp.tl.upgrade(first)
    assert capsys.readouterr().out == f"{first} is of format 2 already; nothing was done\n"
    assert (first / "zarr.json").stat().st_mtime_ns == changed


def test_a_fit_does_not_convert_in_passing(first, small_toy):
    before = genes(first)
    with pytest.raises(ValueError, match=r"is a store of format 1; .*`sphisto\.tl\.upgrade\(.*toy\.zarr'\)`"):
        sp.tl.fit_projection(small_toy, store=first, key_added="b", max_epochs=1)
    assert format_of(first) == 1
    np.testing.assert_array_equal(genes(first), before)


def test_what_is_no_store_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="Found no store at"):
        sp.tl.upgrade(tmp_path / "none.zarr")
    (tmp_path / "other.zarr").mkdir()
    with pytest.raises(ValueError, match="holds no projection of sphisto"):
        sp.tl.upgrade(tmp_path / "other.zarr")


def test_a_name_that_is_taken_is_said_before_anything_is_written(first):
    (first / "labels" / "projection_tissue").mkdir()
    with pytest.raises(FileExistsError, match="holds the element 'projection_tissue'"):
        sp.tl.upgrade(first)
    assert format_of(first) == 1
    assert not list(first.parent.glob(".*"))


def killed_at(step: int, store: Path) -> None:
    """Upgrade a store and kill this process at so many-th of its steps."""
    left = [step]

    def counted(function):
        def call(*args, **words):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **words)

        return call

    for name in ("_copy", "write_mask", "create_raster"):
        setattr(convert, name, counted(getattr(convert, name)))
    for name in ("renew_table", "finish", "marked"):
        setattr(convert.building, name, counted(getattr(convert.building, name)))
    sp.tl.upgrade(store)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_killed_at_any_step_the_old_store_stays_and_the_next_call_converts_it(first):
    before, context, n = genes(first), multiprocessing.get_context("fork"), 0
    while True:
        process = context.Process(target=killed_at, args=(n, first))
        process.start()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert format_of(first) == 1
        np.testing.assert_array_equal(genes(first), before)
        n += 1
    assert n >= 10
    assert format_of(first) == 2
    np.testing.assert_array_equal(genes(first), before)
    assert not list(first.parent.glob(".*"))
