from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import sphisto as sp
from sphisto import _keys
from sphisto.io.slides import make_slide
from sphisto.io.store.space import check_rest, check_space


def wide(small_toy, tissue):
    """Return a slide of 20,000 x 20,000 px of which some hold tissue; nothing of it is in memory."""
    slide = make_slide(sp.io.section(small_toy))
    grid = replace(slide.grid, height=20_000, width=20_000)
    mask = np.broadcast_to(np.array(tissue == "everywhere"), grid.shape)
    image = np.broadcast_to(np.zeros(1, dtype=np.uint8), (3, *grid.shape))
    return replace(slide, grid=grid, tissue=mask, image=image)


@pytest.mark.parametrize(
    ("tissue", "free_gb", "found"),
    [
        ("everywhere", 10, "refused"),  # 50 maps have 80 GB, of which at least a quarter is kept
        ("everywhere", 40, "warned"),
        ("everywhere", 60, "nothing"),
        ("nowhere", 1, "nothing"),  # but the image
    ],
)
def test_a_disk_that_cannot_hold_the_tissue_is_told_before(
    small_toy, tmp_path, monkeypatch, caplog, tissue, free_gb, found
):
    slide = wide(small_toy, tissue)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, free_gb * 1e9))
    told = r"need some 20\.3 to 56\.8 GB and .* has .* GB free\. .*`um_per_px`"
    if found == "refused":
        with pytest.raises(OSError, match=told):
            check_space(tmp_path, slide, 50)
    else:
        check_space(tmp_path, slide, 50)
        assert bool(re.search(told, caplog.text)) == (found == "warned")


@pytest.mark.parametrize(("free_gb", "found"), [(0.005, "refused"), (0.008, "warned"), (0.02, "nothing")])
def test_the_rest_is_judged_by_what_the_first_rasters_took(tmp_path, monkeypatch, caplog, free_gb, found):
    """A quarter took 3 MB, so that the rest takes 9 MB, more or less."""
    staging = tmp_path / "staging"
    for name in _keys.elements("projection")[:3]:
        (staging / "images" / name / "s0").mkdir(parents=True)
        (staging / "images" / name / "s0" / "chunk").write_bytes(bytes(1_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, free_gb * 1e9))
    told = r"The rest of the rasters needs some \d+ to \d+ MB and \S+ has \d+ MB free\. .*`um_per_px`; after .* `resume=True` goes on"
    if found == "refused":
        with pytest.raises(OSError, match=told):
            check_rest(staging, "projection", 0.25)
    else:
        check_rest(staging, "projection", 0.25)
        assert bool(re.search(told, caplog.text)) == (found == "warned")


def test_nothing_is_left_to_judge_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    check_rest(tmp_path, "projection", 1.0)
