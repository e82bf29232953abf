"""The rules of OME-TIFF with sub-resolutions, and bounded memory; made of arrays, without a store."""

from __future__ import annotations

import re
import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from sphisto.core.tiles import Window
from sphisto.io.export.ome_tiff import Planes, write_ome_tiff

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def halved(level):
    height, width = (side // 2 * 2 for side in level.shape[:2])
    parts = level[:height, :width].reshape(height // 2, 2, width // 2, 2, *level.shape[2:])
    return parts.mean(axis=(1, 3)).astype(level.dtype)


def pyramid(finest, n):
    levels = [finest]
    for _ in range(n - 1):
        levels.append(halved(levels[-1]))
    return levels


def planes_of(channels, n_levels=3, **given):
    """Planes of (y, x) or (y, x, 3) arrays by name, and the levels of each."""
    levels = {name: pyramid(array, n_levels) for name, array in channels.items()}
    first = next(iter(levels.values()))

    def read(level, channel, window):
        return list(levels.values())[channel][level][window.slices]

    shapes = tuple(level.shape[:2] for level in first)
    return Planes(tuple(levels), shapes, given.pop("um", (0.5, 0.25)), first[0].dtype, read, **given), levels


@pytest.fixture
def genes(rng):
    channels = {name: rng.gamma(2.0, 3.0, (1050, 1301)).astype(np.float32) for name in ("Mbp", 'a<"&>\u00b5/..')}
    for values in channels.values():
        values[:300, :700] = np.nan
    return channels


def write(path, planes):
    write_ome_tiff(path, planes, name="a name", description="what it is", about={"unit": "counts per spot area"})
    return path


def test_a_pyramid_is_read_back_as_it_was_with_0_where_nothing_is(genes, tmp_path):
    planes, levels = planes_of(genes)
    with tifffile.TiffFile(write(tmp_path / "x.ome.tif", planes)) as tif:
        [series] = tif.series
        assert (series.kind, series.axes, len(series.levels)) == ("ome", "CYX", 3)
        for i, level in enumerate(series.levels):
            expected = np.nan_to_num(np.stack([of[i] for of in levels.values()]), nan=0)
            np.testing.assert_array_equal(level.asarray(), expected)
            assert level.dtype == np.float32


def test_the_pages_are_as_the_specification_wants_them(genes, tmp_path):
    """Of sub-resolutions: https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html."""
    planes, _ = planes_of(genes)
    with tifffile.TiffFile(write(tmp_path / "x.ome.tif", planes)) as tif:
        assert len(tif.pages) == len(genes)  # the chain of pages holds the finest level only
        for i, page in enumerate(tif.pages):
            page = page.aspage()
            assert page.is_tiled
            assert page.tilelength % 16 == page.tilewidth % 16 == 0
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert (page.sampleformat, page.bitspersample) == (tifffile.SAMPLEFORMAT.IEEEFP, 32)
            assert page.subfiletype == 0
            assert len(page.subifds) == len(planes.shapes) - 1
            assert [sub.shape for sub in page.pages] == list(planes.shapes[1:])  # largest first
            assert all(sub.aspage().subfiletype == 1 for sub in page.pages)
            assert all(sub.aspage().is_tiled for sub in page.pages)
            assert ("ImageDescription" in page.tags) == (i == 0)
        assert tif.pages[0].description.startswith("<?xml")
        page = tif.pages[0]
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        assert page.get_resolution("MICROMETER") == pytest.approx((4, 2), rel=1e-6)  # x, y


def test_ome_xml_states_names_sizes_and_unit(genes, tmp_path):
    planes, _ = planes_of(genes)
    xml = tifffile.tiffcomment(write(tmp_path / "x.ome.tif", planes))
    root = ElementTree.fromstring(xml.encode())
    pixels = root.find(f"{OME}Image/{OME}Pixels")
    assert [channel.get("Name") for channel in pixels.iter(f"{OME}Channel")] == list(genes)
    sizes = {name: pixels.get(name) for name in ("SizeX", "SizeY", "SizeC", "SizeZ", "SizeT", "Type")}
    assert sizes == {"SizeX": "1301", "SizeY": "1050", "SizeC": "2", "SizeZ": "1", "SizeT": "1", "Type": "float"}
    assert (float(pixels.get("PhysicalSizeY")), float(pixels.get("PhysicalSizeX"))) == (0.5, 0.25)
    assert {pixels.get("PhysicalSizeYUnit"), pixels.get("PhysicalSizeXUnit")} == {"\u00b5m"}
    [note] = root.iter(f"{OME}MapAnnotation")
    assert [(m.get("K"), m.text) for m in note.iter(f"{OME}M")] == [("unit", "counts per spot area")]
    assert root.find(f"{OME}Image").get("Name") == "a name"
    assert root.find(f"{OME}Image/{OME}Description").text == "what it is"


def test_ome_xml_is_valid(genes, tmp_path):
    ome_types = pytest.importorskip("ome_types")
    planes, _ = planes_of(genes)
    ome = ome_types.from_tiff(write(tmp_path / "x.ome.tif", planes), validate=False)
    [image] = ome.images
    assert [channel.name for channel in image.pixels.channels] == list(genes)
    assert (image.pixels.physical_size_x, image.pixels.physical_size_x_unit.value) == (0.25, "\u00b5m")
    [note] = ome.structured_annotations
    assert note.value["unit"] == "counts per spot area"


def test_an_image_in_colours_is_one_channel(rng, tmp_path):
    planes, levels = planes_of({"he": rng.integers(0, 256, (600, 530, 3), dtype=np.uint8)}, 2, is_rgb=True)
    with tifffile.TiffFile(write(tmp_path / "x.ome.tif", planes)) as tif:
        [series] = tif.series
        assert series.axes == "YXS"
        assert tif.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        for found, expected in zip(series.levels, levels["he"], strict=True):
            np.testing.assert_array_equal(found.asarray(), expected)
        assert re.search(r'<Channel ID="[^"]*" Name="he" SamplesPerPixel="3" ?/>', tif.ome_metadata)


def test_control_characters_in_names_are_replaced_in_xml_and_told(tmp_path, caplog):
    caplog.set_level("INFO", logger="sphisto")
    planes, _ = planes_of({"a\x01b": np.ones((5, 7), np.float32)}, 1)
    root = ElementTree.fromstring(tifffile.tiffcomment(write(tmp_path / "x.ome.tif", planes)).encode())
    [channel] = root.iter(f"{OME}Channel")
    assert channel.get("Name") == "a\ufffdb"
    assert "'a\\x01b' is called 'a\ufffdb' in the OME-XML" in caplog.text


@pytest.mark.parametrize(("side", "is_big"), [(32_000, False), (33_000, True)])
def test_a_large_file_has_64_bit_offsets(tmp_path, side, is_big, monkeypatch):
    planes = Planes(("a",), ((64, 64),), (1.0, 1.0), np.dtype(np.float32), lambda *_: np.ones((64, 64), np.float32))
    monkeypatch.setattr(Planes, "n_bytes", side**2 * 4)
    with tifffile.TiffFile(write(tmp_path / "x.ome.tif", planes)) as tif:
        assert tif.is_bigtiff == is_big


def test_memory_does_not_grow_with_the_image(tmp_path):
    """Neither with its height nor with its channels."""
    peaks = []
    for height, n in ((1024, 1), (4096, 4)):

        def read(level, channel, window: Window):
            return np.full(window.shape, channel, dtype=np.float32)

        planes = Planes(tuple("abcd"[:n]), ((height, 4096), (height // 2, 2048)), (1.0, 1.0), np.dtype("f4"), read)
        tracemalloc.start()
        write(tmp_path / f"{n}.ome.tif", planes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert planes.n_bytes > 16e6 * n
    assert max(peaks) < 100e6
    assert peaks[1] < 1.5 * peaks[0] + 10e6
