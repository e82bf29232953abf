"""What ``python -m benchmarks.performance`` counts and measures, at tiny sizes."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux only")


@pytest.mark.parametrize("name", ["unet", "seed"])
def test_operations_are_those_that_torch_counts(name):
    import torch
    from benchmarks.performance.inference import operations
    from torch.utils.flop_counter import FlopCounterMode

    from sphisto.networks.registry import network

    module = network(name).build(torch.ones(7))
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, 64, 64), torch.ones(1, 7, 8, 8))
    assert operations(module, 64) == counter.get_total_flops()


def test_useful_work_is_that_of_the_cores():
    import torch
    from benchmarks.performance.inference import operations, work_of

    from sphisto.core.tiles import plan_tiles
    from sphisto.networks.registry import network

    module = network("unet").build(torch.ones(3))
    tiles = plan_tiles((200, 130), size=96, halo=64, multiple=8)
    useful, work = work_of(module, tiles)
    assert useful / work == pytest.approx(200 * 130 / (len(tiles) * 224**2))
    assert work == pytest.approx(len(tiles) * operations(module, 224))


@pytest.mark.slow
@linux
def test_the_peak_is_what_was_held_and_given_back():
    from benchmarks.performance.apart import apart

    low, high = apart(_peaks)
    assert low < 60
    assert 195 < high < 260


def _peaks() -> tuple[float, float]:
    from benchmarks.performance.apart import peak

    low = peak(lambda: None)
    return low, peak(lambda: np.ones(25_000_000).sum())


def test_a_large_picture_is_written_as_it_is_drawn(tmp_path):
    import tifffile
    from benchmarks.performance.slides import TILE, picture, write_picture

    side = 6 * TILE - 100
    write_picture(tmp_path / "picture.tif", side, 4)
    found = tifffile.imread(tmp_path / "picture.tif")
    np.testing.assert_array_equal(found, picture(slice(0, side), slice(0, side), 4))


def test_spots_of_a_large_section_have_the_pitch_and_lie_on_tissue():
    from benchmarks.performance.slides import PITCH_UM, UM_PER_PX, section, slide_of
    from scipy.spatial import cKDTree

    adata = section(2, n_genes=50)
    xy = adata.obsm["spatial"] * UM_PER_PX
    nearest = cKDTree(xy).query(xy, k=2)[0][:, 1]
    np.testing.assert_allclose(nearest, PITCH_UM)
    slide = slide_of(adata, 2048, 2)
    assert slide.grid.um_per_px == pytest.approx(UM_PER_PX, rel=1e-3)
    assert slide.spot.um == 55
    y, x = slide.spots.centers.astype(int).T
    assert slide.tissue[y, x].all()
    assert not slide.tissue[:512, :].any()
    assert not slide.tissue[1536:, :].any()


@pytest.mark.slow
@linux
def test_memory_does_not_grow_with_the_slide():
    from benchmarks.performance.memory import of_toy

    sides = (5120, 10240)  # smaller pictures are held in memory
    small, large = (of_toy(side, 1, "cpu", n_factors=8, n_genes=2) for side in sides)
    assert small["tiles"] == large["tiles"] == 1
    assert large["all_tiles"] == 4 * small["all_tiles"]
    assert 50 < small["mb"] < 2000
    pixels_more = sides[1] ** 2 - sides[0] ** 2
    assert large["mb"] - small["mb"] < pixels_more / 1e6  # not a byte for each: threads leave 50 MB more or less


@pytest.mark.slow
def test_inference_is_compared_with_one_convolution():
    from benchmarks.performance.inference import speed

    found = speed("cpu", 1, rounds=1, side=64)
    assert found["tiles"] == 1
    assert found["pixels"] == 512**2
    assert 0 < found["useful"] / found["work"] == pytest.approx((512 / 640) ** 2)
    assert all(found[name][0] > 0 for name in ("convolution", "predict", "write"))


def test_all_ways_of_pooling_say_the_same():
    import torch
    from benchmarks.performance import training

    from sphisto.train.crops import pool

    batch, windows = training.spots(64, 5, "cpu")
    flat = torch.full((1, 2, 64, 64), 3.0)
    np.testing.assert_allclose(pool(flat, batch), 3, rtol=1e-5)
    maps = torch.rand(1, 2, 64, 64)
    for window in windows:
        assert window[0].stop - window[0].start == 13
        expected = maps[0][:, *window].flatten(1).mean(1)
        torch.testing.assert_close(training.window_mean(maps, window), expected)
        torch.testing.assert_close(training.mask_mean(maps, window), expected)


def test_steps_and_pooling_are_timed():
    from benchmarks.performance import training

    found = training.steps("cpu", 64, 5, rounds=1)
    assert all(value > 0 for times in found.values() for value in times)
    found = training.pooling("cpu", 64, 6, some=2, rounds=1)
    assert all(value > 0 for times in found.values() for value in times)


@pytest.mark.slow
def test_genes_and_windows_are_read(tmp_path):
    from benchmarks.performance import reading

    reading.prepare(tmp_path / "a.zarr", 300, 4, 30)
    found = reading.times(tmp_path / "a.zarr", 128, 2)
    assert len(found) == 5
    assert all(0 < value < 60 for values in found.values() for value in values)


def test_results_are_kept_and_put_into_the_page(tmp_path):
    from benchmarks.performance import table
    from benchmarks.performance.apart import Row, Setting

    rows = [Row("a ratio", 1.25, "", "5 of 4", most=1.1), Row("seconds", 0.25, "s", most=0.3)]
    table.keep("memory", Setting(whole=True), rows, tmp_path)
    kept = json.loads((tmp_path / "memory.cpu.json").read_text())
    assert kept["command"] == "python -m benchmarks.performance --only memory --whole"
    assert [table.is_met(Row(**row)) for row in kept["rows"]] == [False, True]
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\nold\n{table.END}\n\nafter\n")
    table.write(tmp_path, page)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert [line.split("|")[2:5] for line in text.splitlines() if "a ratio" in line or "| seconds" in line] == [
        [" 1.25   ", " at most 1.1   ", " short "],
        [" 0.25 s ", " at most 0.3 s ", " pass  "],
    ]


def test_unknown_names_are_refused_before_anything_runs():
    from benchmarks.performance.__main__ import chosen

    with pytest.raises(SystemExit, match="Unknown: speed. Known: memory, inference, training, reading"):
        chosen("memory,speed", "cpu")
    assert chosen("", "cuda") == ["inference", "training"]


def test_what_is_done_quietly_leaves_logging_as_it_was(caplog):
    from benchmarks.performance.slides import quiet

    def fail():
        logging.getLogger("sphisto").warning("unheard")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - of the function above
        quiet(fail)
    logging.getLogger("sphisto").warning("heard")
    assert caplog.messages == ["heard"]
