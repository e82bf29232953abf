from __future__ import annotations

import re

import dask.array as da
import numpy as np
import pytest
import tifffile
from PIL import Image

from sphisto.io import images
from sphisto.io.images import read_image, to_rgb8

RGB = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
GREY = RGB[..., 0]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_reads_what_was_written(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    assert (read_image(tmp_path / name) == RGB).all()
    assert (read_image(str(tmp_path / name)) == RGB).all()


def test_reads_jpg(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "L", "1", "P", "LA", "CMYK"])
def test_pillow_modes_become_grey_rgb_or_rgba(tmp_path, mode):
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(RGB).convert(mode).save(name)
    image = read_image(name)
    assert image.shape in {(23, 31), (23, 31, 3), (23, 31, 4)}
    rgb, _ = to_rgb8(image)
    assert rgb.shape == (23, 31, 3)


def test_sixteen_bits_survive(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", deep)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.tif") == deep).all()
    assert (read_image(tmp_path / "a.png") == deep).all()


@pytest.mark.parametrize("kind", ["sub-levels", "pages"])
def test_of_a_pyramid_the_full_resolution_is_read(tmp_path, kind):
    full = np.random.default_rng(1).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as tif:
        if kind == "sub-levels":
            tif.write(full, subifds=1, tile=(32, 32), photometric="rgb")
            tif.write(full[::2, ::2], subfiletype=1, tile=(32, 32), photometric="rgb")
        else:  # the overview comes first
            tif.write(full[::2, ::2], photometric="rgb")
            tif.write(full, photometric="rgb")
    assert (read_image(tmp_path / "a.tif") == full).all()


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 32)},
        {"rowsperstrip": 5},
        {"rowsperstrip": 150},
        {"rowsperstrip": 5, "compression": "zlib", "predictor": 2},
    ],
    ids=["tiles", "strips", "one piece", "compressed"],
)
def test_large_tifs_are_lazy(tmp_path, monkeypatch, options):
    full = np.random.default_rng(1).integers(0, 256, (150, 97, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", full, photometric="rgb", **options)
    monkeypatch.setattr(images, "_LAZY_FROM", 1000)
    monkeypatch.setattr(images, "_BLOCK", 64)
    image = read_image(tmp_path / "a.tif")
    assert isinstance(image, da.Array)
    assert max(image.chunks[0]) <= 64
    assert (image.compute() == full).all()
    rgb, note = to_rgb8(image)
    assert isinstance(rgb, da.Array)
    assert note is None


def test_planar_tifs_come_with_channels_last(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
    assert (read_image(tmp_path / "a.tif") == RGB).all()
    monkeypatch.setattr(images, "_LAZY_FROM", 10)
    assert (read_image(tmp_path / "a.tif").compute() == RGB).all()


def test_compressions_that_tifffile_lacks_are_left_to_pillow(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    monkeypatch.setattr(images, "_decodes", lambda *_: False)
    assert (read_image(tmp_path / "a.tif") == RGB).all()


def test_whole_slides_are_no_decompression_bombs(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(tmp_path / "a.png").shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 10


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file at .*gone.png"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ValueError, match=r"text.png' is not an image that can be read"):
        read_image(tmp_path / "text.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0broken")
    with pytest.raises(ValueError, match=r"broken.tif' is not a tif image that can be read"):
        read_image(tmp_path / "broken.tif")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((7, 8, 9), dtype=np.uint8), metadata={"axes": "ZYX"})
    with pytest.raises(ValueError, match=r"stack.tif' has shape \(7, 8, 9\) along axes ZYX; expected one plane"):
        read_image(tmp_path / "stack.tif")


def lazy(array):
    return da.from_array(array, chunks=10)


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("image", "expected", "said"),
    [
        (RGB, RGB, None),
        (np.moveaxis(RGB, -1, 0), RGB, r"channels were moved last, from shape \(3, 23, 31\)"),
        (GREY, np.dstack([GREY] * 3), "grey was repeated"),
        (GREY[..., None], np.dstack([GREY] * 3), "grey was repeated"),
        (GREY > 99, np.dstack([GREY > 99] * 3) * 255, "true and false became 255 and 0"),
        (RGB / np.float32(255), RGB, "values from 0 to 1 were multiplied by 255"),
        (RGB.astype(np.float64), RGB, "float64 values from 0 to 255 were rounded"),
        (RGB.astype(np.int64), RGB, "int64 values from 0 to 255 were rounded"),
        (RGB.astype(np.uint16) * 257, RGB, "values up to 65535 were taken for 16 bits and divided by 257"),
    ],
    ids=["rgb", "first", "grey", "grey3", "bool", "float1", "float255", "int64", "uint16"],
)
def test_all_forms_become_rgb(image, expected, said, wrap):
    rgb, note = to_rgb8(wrap(image))
    assert isinstance(rgb, da.Array) == (wrap is lazy)
    assert rgb.dtype == np.uint8
    assert rgb.shape == expected.shape
    assert (np.asarray(rgb) == expected).all()
    assert (note is None) if said is None else re.search(said, note)


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
def test_transparent_parts_become_white(wrap):
    alpha = np.full((23, 31, 1), 255, dtype=np.uint8)
    alpha[:5] = 0
    alpha[5:10] = 51
    rgb, note = to_rgb8(wrap(np.concatenate([RGB, alpha], axis=2)))
    rgb = np.asarray(rgb)
    assert (rgb[:5] == 255).all()
    assert (rgb[5:10] == np.rint(RGB[5:10] * 0.2 + 255 * 0.8)).all()
    assert (rgb[10:] == RGB[10:]).all()
    assert "the alpha channel was put on white" in note


def test_small_images_with_two_channel_axes_keep_the_last():
    image = np.zeros((3, 5, 4), dtype=np.uint8)
    assert to_rgb8(image)[0].shape == (3, 5, 3)


@pytest.mark.parametrize("shape", [(5,), (5, 5, 2), (7, 8, 9), (2, 5, 5, 3), (0, 5, 3)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(ValueError, match=rf"An image of shape \({', '.join(map(str, shape))},?\) is not a picture"):
        to_rgb8(np.zeros(shape))


@pytest.mark.parametrize("wrap", [np.asarray, lazy], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "Found 1 NaN or infinite values"),
        (np.inf, "Found 1 NaN or infinite values"),
        (-0.5, "Found image values from -0.5 to"),
        (1e6, r"to 1e\+06. Expected 0 to 1, 0 to 255 or 0 to 65535"),
    ],
)
def test_impossible_values_are_refused(wrap, value, message):
    image = RGB / 255
    image[11, 7, 1] = value
    with pytest.raises(ValueError, match=message):
        to_rgb8(wrap(image))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="An image of type complex128 is not a picture"):
        to_rgb8(np.zeros((4, 4), dtype=complex))


def test_lazy_images_are_judged_by_a_sample_and_checked_when_computed(monkeypatch):
    monkeypatch.setattr(images, "_SAMPLE", 2)
    monkeypatch.setattr(images, "_SAMPLES", 2)
    image = RGB / 255
    rgb, note = to_rgb8(lazy(image))
    assert "judged by a sample" in note
    assert (rgb.compute() == RGB).all()
    image[11, 7] = np.nan
    with pytest.raises(ValueError, match="Found 3 NaN"):
        to_rgb8(lazy(image))[0].compute()
    image[11, 7] = 200
    with pytest.raises(ValueError, match=r"values up to 200 where a sample .* promised at most 1"):
        to_rgb8(lazy(image))[0].compute()


def test_the_given_image_is_left_as_it_is():
    image = RGB / 255
    before = image.copy()
    to_rgb8(image)
    assert (image == before).all()
