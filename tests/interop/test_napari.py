"""All that a store holds becomes layers of napari, where full-resolution pixels say."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip(
    "napari_spatialdata", reason="napari-spatialdata is not installed: it brings Qt and some hundred packages"
)

# in a process of its own, which ends without closing: Qt and its threads stay out of the tests
LAYERS = """
import json, os, sys, time
import napari, numpy as np, spatialdata as sd
from napari_spatialdata import Interactive
from qtpy.QtWidgets import QApplication

sdata = sd.read_zarr(sys.argv[1])
viewer = napari.Viewer(show=False)
opened, found = Interactive(sdata, headless=True), {}
for kind in ("images", "labels", "shapes", "points"):
    for name in getattr(sdata, kind):
        opened.add_element(name, "global")
        until = time.monotonic() + 60
        while name not in viewer.layers and time.monotonic() < until:  # it is read by a thread
            QApplication.processEvents()
            time.sleep(0.01)
        layer = viewer.layers[name]
        levels = layer.data if getattr(layer, "multiscale", False) else [layer.data]
        low, high = layer.extent.world[:, -2:].tolist()
        found[name] = {
            "kind": type(layer).__name__,
            "shapes": [list(np.shape(level)) for level in levels],
            "low": low,
            "high": high,
            "rgb": bool(getattr(layer, "rgb", False)),
        }
print("\\n" + json.dumps(found), flush=True)
os._exit(0)
"""


def test_images_labels_and_spots_become_layers(large):
    done = subprocess.run(
        [sys.executable, "-c", LAYERS, str(large)],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    images = {"projection", "projection_factors", "projection_reconstruction", "projection_sd", "toy_image"}
    assert set(found) == images | {"projection_tissue", "toy_tissue", "toy_spots"}
    assert {name for name, layer in found.items() if layer["kind"] == "Image"} == images
    assert found["projection_factors"]["shapes"] == [[12, 1536, 1792], [12, 768, 896], [12, 384, 448]]
    assert found["projection_tissue"]["shapes"] == [[1536, 1792], [768, 896], [384, 448]]
    assert found["toy_image"]["rgb"]
    assert (found["toy_spots"]["kind"], found["projection_tissue"]["kind"]) == ("Points", "Labels")
    for name in {*images, "projection_tissue", "toy_tissue"}:
        # middles of the first and last pixel: 96 x 112 full-resolution px, of which the maps have 16 a side
        half = 0.5 / (16 if name in ("projection_factors", "projection_tissue") else 1)
        assert found[name]["low"] == pytest.approx([half, half])
        assert found[name]["high"] == pytest.approx([96 - half, 112 - half])
