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
    all_seen = 200 * 130 / (len(tiles) * 224**2)
    assert all_seen < useful / work < 1.5 * all_seen  # the finest layers do not look at all of the halo
    weights = sum(p.numel() for p in module.parameters() if p.ndim == 4)
    assert useful < 2 * weights * 200 * 130  # most layers are coarser than the image


def test_a_large_image_is_written_as_it_is_drawn(tmp_path):
    import tifffile
    from benchmarks.performance.drawn import TILE, image, write_image

    side = 6 * TILE - 100
    write_image(tmp_path / "image.tif", side, 4)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "image.tif"), image(slice(0, side), slice(0, side), 4))


@pytest.mark.slow
@linux
def test_memory_does_not_grow_with_the_slide():
    from benchmarks.performance.memory import of_drawn

    sides = (5120, 10240)  # smaller images are held in memory
    # what other programs do adds to a peak, and never takes from it: the lower one of two
    small, large = (
        min((of_drawn(side, 1, n_factors=8, n_genes=2) for _ in range(2)), key=lambda found: found["mb"])
        for side in sides
    )
    assert small["tiles"] == large["tiles"] == 1
    assert large["of"] == 4 * small["of"]
    assert 50 < small["mb"] < 2000
    assert large["mb"] - small["mb"] < (sides[1] ** 2 - sides[0] ** 2) / 1e6  # not a byte for each pixel more


def test_steps_are_timed_and_windows_are_the_spots():
    from benchmarks.performance import training

    batch, windows = training.spots(64, 5, "cpu")
    assert all(window[0].stop - window[0].start == 13 for window in windows)
    assert len(batch.values) == len(windows) == 5
    found = training.steps("cpu", 64, 5, rounds=1)
    assert all(value > 0 for times in found.values() for value in times)


@pytest.mark.slow
def test_genes_and_windows_are_read(tmp_path):
    from benchmarks.performance import reading

    reading.prepare(tmp_path / "a.zarr", 300, 4, 30)
    found = reading.times_of(tmp_path / "a.zarr", 128, 2)
    assert len(found) == 5
    assert all(0 < value < 60 for values in found.values() for value in values)


@pytest.mark.slow
def test_sections_of_several_sizes_are_evaluated(monkeypatch):
    from benchmarks.performance import scale

    found = scale.sized(200, pitch_um=24)
    assert found["n"] > 100
    assert found["seconds"] > 0
    assert -1 < found["gaussian"] < found["prior"] < 1
    monkeypatch.setattr(scale, "STEPS", 1)
    monkeypatch.setattr(scale, "MANY", 6_000)
    assert scale.crop_seconds()["ratio"] > 0


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


@pytest.mark.slow
@linux
def test_a_window_of_bins_takes_little_of_a_table_in_its_file():
    from benchmarks.performance.memory import of_window

    found = of_window(700, genes=400, per_bin=150)  # 73 million counts, 590 MB of them
    assert 250 < found["bins"] < 350  # 17 x 17
    assert found["mb"] < 400


@pytest.mark.slow
@linux
def test_a_window_is_fitted_at_the_level_that_was_drawn():
    from benchmarks.performance.window import fitted_window

    found = fitted_window(640, 60, 512, max_epochs=1)
    assert found["bins"] == 128**2
    assert found["level"] == pytest.approx(1, abs=0.03)
    assert found["pearson"] > 0.5


def test_bins_of_both_sizes_are_drawn_from_one_truth():
    from benchmarks.performance.bins import drawn

    (large, truth), (small, same) = (drawn(160, um) for um in (16.0, 8.0))
    np.testing.assert_allclose(same * 4, truth, rtol=1e-5)
    assert len(small.spots.centers) == 4 * len(large.spots.centers)
    assert small.spots.values.sum() == pytest.approx(large.spots.values.sum(), rel=0.02)
    assert large.spots.values.sum() == pytest.approx(truth.sum() / large.spot_area, rel=0.02)
