"""What ``python -m benchmarks.performance`` counts and measures, at tiny sizes."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux only")


def test_useful_work_is_that_of_the_cores():
    import torch
    from benchmarks.performance.inference import work_of

    from sphisto.core.tiles import plan_tiles
    from sphisto.networks.registry import network

    module = network("unet").build(torch.ones(3))
    tiles = plan_tiles((200, 130), size=96, halo=64, multiple=8)
    useful, work = work_of(module, tiles)
    assert useful / work == pytest.approx(200 * 130 / (len(tiles) * 224**2))
    weights = sum(p.numel() for p in module.parameters() if p.ndim == 4)
    assert useful < 2 * weights * 200 * 130  # most layers are coarser than the image


@pytest.mark.slow
@linux
def test_the_peak_is_what_was_held_and_given_back():
    from benchmarks.performance.measuring import apart

    low, high = apart(_peaks)
    assert low < 60
    assert 195 < high < 260


def _peaks():
    from benchmarks.performance.measuring import peak

    return peak(lambda: None), peak(lambda: np.ones(25_000_000).sum())


def test_a_large_image_is_written_as_it_is_drawn(tmp_path):
    import tifffile
    from benchmarks.performance.drawn import TILE, image, write_image

    side = 6 * TILE - 100
    write_image(tmp_path / "image.tif", side, 4)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "image.tif"), image(slice(0, side), slice(0, side), 4))


def test_spots_of_a_large_section_have_the_pitch_and_lie_on_tissue():
    from benchmarks.performance import drawn
    from scipy.spatial import cKDTree

    import sphisto as sp
    from sphisto.io.slides import make_slide

    adata = drawn.spots(2, n_genes=50)
    xy = adata.obsm["spatial"] * drawn.UM_PER_PX
    np.testing.assert_allclose(cKDTree(xy).query(xy, k=2)[0][:, 1], drawn.PITCH_UM)
    image = drawn.image(slice(0, 2048), slice(0, 2048), 2)
    slide = make_slide(sp.io.section(adata, image=image, image_scale=1.0))
    assert slide.grid.um_per_px == pytest.approx(drawn.UM_PER_PX, rel=1e-3)
    assert slide.spot.um == 55
    y, x = slide.spots.centers.astype(int).T
    assert slide.tissue[y, x].all()
    assert not slide.tissue[:512, :].any()
    assert not slide.tissue[1536:, :].any()


@pytest.mark.slow
@linux
def test_memory_does_not_grow_with_the_slide():
    from benchmarks.performance.memory import of_drawn

    sides = (5120, 10240)  # smaller images are held in memory
    small, large = (of_drawn(side, 1, n_factors=8, n_genes=2) for side in sides)
    assert small["tiles"] == large["tiles"] == 1
    assert large["of"] == 4 * small["of"]
    assert 50 < small["mb"] < 2000
    assert large["mb"] - small["mb"] < (sides[1] ** 2 - sides[0] ** 2) / 1e6  # not a byte for each pixel more


@pytest.mark.slow
def test_inference_is_compared_with_one_convolution():
    from benchmarks.performance.inference import speed

    found = speed("cpu", 1, rounds=1, side=64)
    assert found["tiles"] == 1
    assert found["pixels"] == 512**2
    assert 0 < found["useful"] / found["work"] == pytest.approx((512 / 640) ** 2)
    assert all(found[name][0] > 0 for name in ("convolution", "predict", "write"))


def test_steps_are_timed_and_windows_are_the_spots():
    import torch
    from benchmarks.performance import training

    batch, windows = training.spots(64, 5, "cpu")
    maps = torch.rand(1, 2, 64, 64)
    assert all(window[0].stop - window[0].start == 13 for window in windows)
    expected = maps[0][:, *windows[0]].flatten(1).mean(1)
    torch.testing.assert_close(training.window_mean(maps, windows[0]), expected)
    found = training.steps("cpu", 64, 5, rounds=1)
    assert all(value > 0 for times in found.values() for value in times)


@pytest.mark.slow
def test_genes_and_windows_are_read(tmp_path):
    from benchmarks.performance import reading

    reading.prepare(tmp_path / "a.zarr", 300, 4, 30)
    found = reading.times_of(tmp_path / "a.zarr", 128, 2)
    assert len(found) == 5
    assert all(0 < value < 60 for values in found.values() for value in values)


def test_fits_of_two_trees_are_compared(tmp_path, monkeypatch):
    from benchmarks.performance import fits

    monkeypatch.setattr(fits, "FIT", "import os; print('seconds', 2 if 'new' in os.environ['PYTHONPATH'] else 1)")
    whole, ratio = fits.compare(tmp_path, [tmp_path / "old", tmp_path / "new"])
    assert (whole["value"], ratio["value"]) == (2, 2)


def test_results_are_kept_and_shown(tmp_path):
    from benchmarks.performance.__main__ import keep, tables
    from benchmarks.performance.measuring import row

    for value in (9, 1.25):
        rows = [row("a ratio", value, "", "5 of 4", most=1.1), row("seconds", 0.25, "s", most=0.3), row("plain", 3)]
        keep("memory", "cpu", rows, "python -m x", tmp_path)
    assert len(pd.read_csv(tmp_path / "performance.csv")) == 3
    shown = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:5]]
        for line in tables(tmp_path).splitlines()
        if "|" in line
    }
    assert shown["a ratio"] == ["1.25", "at most 1.1", "short"]
    assert shown["seconds"] == ["0.25 s", "at most 0.3 s", "pass"]
    assert shown["plain"] == ["3", "", ""]


def test_unknown_names_are_refused_before_anything_runs():
    from benchmarks.performance.__main__ import chosen

    with pytest.raises(SystemExit, match="Unknown: speed. Known: memory, inference, training, reading"):
        chosen("memory,speed", "cpu")
    assert chosen("", "cuda") == ["inference", "training"]
