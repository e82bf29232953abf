from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr

from sphisto.core.tiles import Window, read_window
from sphisto.io.image.config import PyramidConfig
from sphisto.io.image.open import open_image

FULL = np.random.default_rng(0).integers(0, 256, (80, 64, 3), dtype=np.uint8)


def write(path, version, axes, levels, names=None):
    """Write an OME-Zarr by hand, as the specification says."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    names = names or [str(i) for i in range(len(levels))]
    for name, level in zip(names, levels, strict=True):
        array = group.create_array(
            name, shape=level.shape, chunks=tuple(min(16, n) for n in level.shape), dtype=level.dtype
        )
        array[...] = level
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [2.0**i] * len(axes)}]}
        for i, name in enumerate(names)
    ]
    multiscales = [{"axes": [{"name": axis} for axis in axes], "datasets": datasets}]
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscales[0]}]
    return path


def arranged(image, axes):
    """(y, x, c) as other axes."""
    order = [axis for axis in "yxc" if axis in axes]
    moved = image if "c" in axes else image[..., 0]
    moved = moved.transpose([order.index(axis) for axis in axes if axis in order])
    return moved.reshape(
        [
            dict(
                zip(
                    order, moved.transpose([[a for a in axes if a in order].index(o) for o in order]).shape, strict=True
                )
            ).get(a, 1)
            for a in axes
        ]
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "yx", "tczyx"])
def test_windows_are_those_of_the_whole(tmp_path, version, axes):
    levels = [arranged(image, axes) for image in (FULL, FULL[::2, ::2], FULL[::4, ::4])]
    opened = open_image(write(tmp_path / "a.zarr", version, axes, levels, ["s0", "deep/s1", "s2"]))
    assert opened.shape == (80, 64)
    assert opened.factors == ((1, 1), (2, 2), (4, 4))
    expected = FULL if "c" in axes else FULL[..., :1]
    for level, step in zip(opened.levels, (1, 2, 4), strict=True):
        thinned = expected[::step, ::step]
        assert level.shape == thinned.shape
        np.testing.assert_array_equal(level[3:17, 5:16], thinned[3:17, 5:16])


def test_images_of_a_store_of_spatialdata_are_read(store):
    folder = store / "images" / "toy_image"
    opened = open_image(folder)
    kept = zarr.open_group(folder, mode="r")["s0"][...]
    np.testing.assert_array_equal(opened.rgb(), kept)


def test_other_zarrs_are_told_what_they_hold(tmp_path, store):
    with pytest.raises(ValueError, match=r"no `multiscales` of NGFF 0.4 or 0.5. It holds the groups: .*projection"):
        open_image(store / "images")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"Found a folder at .*folder' that is no zarr group"):
        open_image(tmp_path / "folder")


def test_stacks_and_broken_metadata_are_refused(tmp_path):
    path = write(tmp_path / "a.zarr", "0.5", "zyx", [np.zeros((4, 8, 8), np.uint8)])
    with pytest.raises(ValueError, match=r"a.zarr' has shape \(4, 8, 8\) along axes z, y, x; expected one plane"):
        open_image(path)
    path = write(tmp_path / "b.zarr", "0.4", "cyx", [np.zeros((3, 8, 8), np.uint8)])
    shutil.rmtree(path / "0")
    with pytest.raises(ValueError, match=r"b.zarr' lacks its level '0', which its metadata name"):
        open_image(path)


@pytest.fixture
def lazy(tmp_path):
    path = write(tmp_path / "a.zarr", "0.5", "yxc", [FULL])
    picture = replace(open_image(path), config=PyramidConfig(kept=0, block=16)).rgb()
    read_window(picture, Window(0, 0, 8, 8))
    return path, picture


def test_an_image_that_vanishes_midway(lazy):
    path, picture = lazy
    shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match=r"a.zarr/0' was there and has been removed. .* `resume=True`"):
        read_window(picture, Window(40, 40, 48, 48))


def test_a_damaged_chunk(lazy):
    path, picture = lazy
    for chunk in (path / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    with pytest.raises(ValueError, match=r"a.zarr/0' is damaged: the window .* cannot be read"):
        read_window(picture, Window(40, 40, 48, 48))


def name_channels(path, names, version):
    group = zarr.open_group(path, mode="r+")
    omero = {"channels": [{"label": name, "window": {"start": 0, "end": 9}} for name in names]}
    if version == "0.5":
        group.attrs["ome"] = {**group.attrs["ome"], "omero": omero}
    else:
        group.attrs["omero"] = omero
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_channels_named_after_colours_are_ordered(tmp_path, version):
    path = write(tmp_path / "a.zarr", version, "cyx", [np.moveaxis(FULL[..., ::-1], -1, 0)])
    opened = open_image(name_channels(path, ["Blue", "Green", "Red"], version))
    np.testing.assert_array_equal(np.moveaxis(opened.rgb(), 0, -1), FULL)
    assert "channels Blue, Green, Red were brought to the order" in opened.conversion.note


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("names", [["DAPI", "CD3", "CD8", "PanCK"], ["DAPI", "GFP", "RFP"]])
def test_channels_named_after_dyes_are_refused(tmp_path, version, names):
    path = write(tmp_path / "a.zarr", version, "cyx", [np.zeros((len(names), 8, 8), np.uint16)])
    with pytest.raises(ValueError, match=rf"a.zarr' has {len(names)} channels \(DAPI, .* seems to be a fluorescence"):
        open_image(name_channels(path, names, version))


def test_channels_without_names_are_no_alpha_in_16_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (4, 20, 20), dtype=np.uint16)
    opened = open_image(write(tmp_path / "a.zarr", "0.5", "cyx", [values]))
    with pytest.raises(ValueError, match="Found four channels of uint16"):
        opened.rgb()
    path = write(tmp_path / "b.zarr", "0.5", "cyx", [values[:2]])
    with pytest.raises(ValueError, match=r"b.zarr' has shape \(2, 20, 20\) .* multi-channel"):
        open_image(path)


def test_labels_are_no_picture(tmp_path):
    path = write(tmp_path / "a.zarr", "0.4", "yx", [np.zeros((8, 8), np.int32)])
    zarr.open_group(path, mode="r+").attrs["image-label"] = {"version": "0.4"}
    with pytest.raises(ValueError, match=r"a.zarr' holds labels of objects; expected an image"):
        open_image(path)
