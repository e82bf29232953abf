from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing is forked by default elsewhere")

FIT = """
import multiprocessing, sys
import numpy as np
import spatialdata as sd
import torch
import sphisto as sp

def fit(store):
    adata = sp.datasets.toy(64, 64, pitch_um=24, rng=1)
    sp.tl.fit_projection(adata, store=store, max_epochs=1, genes=["nuclei_a"], device="cpu")

def read(store):
    opened = sd.read_zarr(store)
    spots = sp.tl.aggregate(opened, "toy_spots", genes="nuclei_a").X.sum()
    return float(np.nansum(sp.get.gene_raster(opened, "nuclei_a").values)), float(spots)

def fit_and_read(store):
    fit(store)
    return read(store)

if __name__ == "__main__":
    here, there = sys.argv[1:]
    torch.set_num_threads(2)  # as on any machine with several cores
    torch.ones(400, 400) @ torch.ones(400, 400) + torch.ones(400, 400).exp()
    fit(here)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(read(here), pool.apply_async(read, (here,)).get(60), pool.apply_async(fit_and_read, (there,)).get(90))
"""


@pytest.mark.slow
def test_a_forked_process_can_read_and_fit_as_the_one_before(tmp_path):
    """The pools of dask and OpenMP, which the first fit used, did not survive the fork."""
    stores = [str(tmp_path / name) for name in ("here.zarr", "there.zarr")]
    done = subprocess.run(
        [sys.executable, "-c", FIT, *stores], capture_output=True, text=True, timeout=240, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here, read_there, fitted_there = (part.strip("() ") for part in done.stdout.splitlines()[-1].split(") ("))
    assert here == read_there
    a, b = ([float(value) for value in part.split(",")] for part in (here, fitted_there))
    assert a == pytest.approx(b, rel=1e-3)


POOL = """
import os, sys
import dask, dask.array as da
import sphisto
{before}
da.ones((8, 8), chunks=2).sum().compute()
if os.fork() == 0:
    assert da.ones((8, 8), chunks=2).sum().compute() == 64
    print(dask.config.get("scheduler", None), type(dask.config.get("pool", None)).__name__, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize(
    ("before", "found"),
    [("", "None ThreadPoolExecutor"), ("dask.config.set(scheduler='synchronous')", "synchronous NoneType")],
)
def test_dask_gets_a_pool_unless_it_was_told_where_to_compute(before, found):
    done = subprocess.run(
        [sys.executable, "-c", POOL.format(before=before)], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.strip() == found
