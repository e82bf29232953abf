"""Images and labels of a store are OME-Zarr: what its libraries read of them, and how far they keep to the standard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

import sphisto as sp
from sphisto.io.store import read as stores

ome_reader = pytest.importorskip("ome_zarr.reader")
ome_io = pytest.importorskip("ome_zarr.io")


def rasters(store, kind):
    return sorted(path.parent for path in (store / kind).glob("*/zarr.json"))


def node_of(element):
    """What ome-zarr reads of an element."""
    [node] = ome_reader.Reader(ome_io.parse_url(element))()
    return node


def test_ome_zarr_reads_each_level_with_its_scale(large):
    found = [*rasters(large, "images"), *rasters(large, "labels")]
    assert len(found) == 7
    for element in found:
        node, stored = node_of(element), stores.raster(large, element.name)
        assert [level.shape[-2:] for level in node.data] == [level.shape[-2:] for level in stored.levels]
        assert [axis["name"] for axis in node.metadata["axes"]][-2:] == ["y", "x"]
        for level, steps in enumerate(node.metadata["coordinateTransformations"]):
            by_type = {step["type"]: step[step["type"]] for step in steps}
            assert by_type["scale"][-2:] == [2**level, 2**level]
            # a coarser pixel begins where the finer ones do: its middle lies between theirs; newer ome-zarr says so
            assert by_type.get("translation", [(2**level - 1) / 2] * 2)[-2:] == [(2**level - 1) / 2] * 2
            np.testing.assert_array_equal(np.asarray(node.data[level]), np.asarray(stored.levels[level][:]))
    assert max(len(node_of(element).data) for element in found) == 3


def test_ome_zarr_reads_the_names_of_channels(large):
    for element in rasters(large, "images"):
        assert node_of(element).metadata["channel_names"] == list(stores.raster(large, element.name).channels)
    assert node_of(large / "images" / "toy_image").metadata["channel_names"] == ["r", "g", "b"]


def test_ome_zarr_reads_genes_with_0_outside_tissue(store):
    node = node_of(store / "images" / "projection")
    expected = np.nan_to_num(sp.get.raster(store, "projection").values, nan=0)
    np.testing.assert_array_equal(np.asarray(node.data[0]), expected)


# ---- the standard

# What SpatialData writes otherwise than OME-Zarr 0.5 wants it, in every store. Nothing else deviates.
VERSION = "0.5-dev-spatialdata"  # it calls the version of images and labels so
GROUP_WITHOUT_VERSION = {"labels"}  # the list of labels states none
OWN_ATTRIBUTES = {"spatialdata_attrs"}  # beside "ome"
OWN_IN_TRANSFORMATIONS = {"input", "output"}  # which coordinate systems a transformation is between (a later draft)


def standard(store):
    """Rewrite the versions of a store as the standard has them; return the attributes of each element."""
    attributes = {}
    for element in [*rasters(store, "images"), *rasters(store, "labels"), store / "labels"]:
        about = json.loads((element / "zarr.json").read_text())
        ome = about["attributes"]["ome"]
        assert ome.get("version") == (None if element.name in GROUP_WITHOUT_VERSION else VERSION)
        ome["version"] = "0.5"
        (element / "zarr.json").write_text(json.dumps(about))
        attributes[element] = about["attributes"]
    return attributes


def test_but_for_what_spatialdata_does_all_is_as_the_standard_has_it(large, tmp_path):
    models = pytest.importorskip("ome_zarr_models.v05")
    store = Path(shutil.copytree(large, tmp_path / "toy.zarr"))
    for element, attributes in standard(store).items():
        kind = (
            models.Labels
            if element.name == "labels"
            else models.Image
            if element.parent.name == "images"
            else models.ImageLabel
        )
        group = zarr.open_group(element, mode="r", use_consolidated=False)
        valid = kind.from_zarr(group)  # arrays too: dimensions, names of axes, order of the levels
        if kind is models.Labels:
            assert sorted(valid.ome_attributes.labels) == [path.name for path in rasters(store, "labels")]
            continue
        assert set(attributes) == {"ome"} | OWN_ATTRIBUTES
        assert set(attributes["ome"]) <= {"version", "multiscales", "omero", "image-label"}
        [multiscale] = attributes["ome"]["multiscales"]
        assert set(multiscale) == {"name", "axes", "datasets", "coordinateTransformations"}
        [whole] = multiscale["coordinateTransformations"]
        assert set(whole) == {"type", "scale"} | OWN_IN_TRANSFORMATIONS
        for dataset in multiscale["datasets"]:
            assert set(dataset) == {"path", "coordinateTransformations"}
            steps = [set(step) for step in dataset["coordinateTransformations"]]
            assert steps in ([{"type", "scale"}], [{"type", "scale"}, {"type", "translation"}])
