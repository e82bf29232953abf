from __future__ import annotations

import logging
import shutil
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from sphisto.io.image import whole_file as decoded
from sphisto.io.image.config import FileConfig
from sphisto.io.image.open import open_image, read_image
from sphisto.io.image.whole_file import FileLevel

RGB = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def decode(path, config=FileConfig()):
    """The only level."""
    return decoded.decode(path, config=config).levels[0]


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_reads_what_was_written(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    assert (decode(tmp_path / name) == RGB).all()


def test_reads_jpg(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - smooth).max() < 12


@pytest.mark.parametrize("mode", ["RGBA", "L", "1", "P", "LA", "CMYK"])
@pytest.mark.parametrize("strip", [2**22, 50], ids=["in one", "in strips"])
def test_pillow_modes_become_grey_rgb_or_rgba(tmp_path, mode, strip):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(RGB).convert(mode).save(path)
    plain = {"1": "1", "L": "L", "RGBA": "RGBA", "LA": "RGBA"}.get(mode, "RGB")
    with Image.open(path) as picture:
        np.testing.assert_array_equal(decode(path, FileConfig(strip_px=strip)), np.atleast_3d(picture.convert(plain)))
    assert open_image(path).rgb().shape == (3, 23, 31)


def test_sixteen_bits_survive(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert (decode(tmp_path / "a.png")[..., 0] == deep).all()


def test_large_pictures_go_to_a_temporary_file_and_it_is_said(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with caplog.at_level(logging.INFO, logger="sphisto"):
        found = decode(tmp_path / "a.png", FileConfig(in_memory=1000, strip_px=100))
    assert isinstance(found, FileLevel)
    assert found.shape == RGB.shape
    np.testing.assert_array_equal(found[3:20, 5:9], RGB[3:20, 5:9])
    assert "a.png can only be decoded whole: its 0.0 GB are kept in a temporary file" in caplog.text
    assert list(folder.iterdir()) == []  # it has no name, and goes with the array


def test_no_room_for_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 5))
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(OSError, match=r"a.png' can only be decoded whole, .* GB free. Free some space, set TMPDIR"):
        decode(tmp_path / "a.png", FileConfig(in_memory=1000))


def test_whole_slides_are_no_decompression_bombs(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(tmp_path / "a.png").shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 10


def png_of(width, height):
    """A png whose header declares that size and which holds next to nothing."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_files_that_declare_far_more_than_they_hold(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_of(100_000, 50_000))
    with pytest.raises(
        ValueError, match=r"bomb.png' declares 50000 x 100000 x 3 values, 15.0 GB, in a file of \d+ bytes; exp"
    ):
        open_image(tmp_path / "bomb.png")


def test_a_jpg_that_declares_far_more_than_it_holds(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "bomb.jpg")
    content = (tmp_path / "bomb.jpg").read_bytes()
    frame = content.index(b"\xff\xc0") + 5
    (tmp_path / "bomb.jpg").write_bytes(content[:frame] + struct.pack(">HH", 60_000, 60_000) + content[frame + 4 :])
    with pytest.raises(ValueError, match=r"bomb.jpg' declares 60000 x 60000 x 3 values, 10.8 GB, in a file of"):
        open_image(tmp_path / "bomb.jpg")


def test_pictures_of_the_size_of_a_slide_are_no_bombs(tmp_path):
    file = tmp_path / "a.svs"
    file.write_bytes(b"\0" * 10**6)
    # 80,000 x 60,000 px of a scanner, 20 to 1: 0.7 GB
    monkeypatched = type(
        "Large", (), {"stat": lambda _: type("Stat", (), {"st_size": 720_000_000}), "__str__": lambda _: "a"}
    )()
    decoded.refuse_bomb(monkeypatched, (80_000, 60_000, 3), 1)
    decoded.refuse_bomb(file, (18_000, 18_000, 3), 1)  # below 1 GB nothing is doubted
    with pytest.raises(ValueError, match="made to fill the memory"):
        decoded.refuse_bomb(file, (80_000, 60_000, 3), 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_truncated_files(tmp_path, name):
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        ValueError, match=rf"{name}' is not an image that can be read \(.*truncated.*Expected a whole tif"
    ):
        read_image(path)


def test_files_that_are_no_image(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(
        ValueError, match=r"text.png' is not an image that can be read .* Expected a whole tif, png or jpg"
    ):
        decode(tmp_path / "text.png")


# --- what the note tells ----------------------------------------------------------------------------------------------


def read(path):
    """The picture as (y, x, 3), and what was said of it."""
    opened = open_image(path)
    return np.moveaxis(opened.rgb(), 0, -1), opened.conversion.note or ""


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_orientation_is_told_and_not_applied(tmp_path, name):
    picture = Image.fromarray(RGB)
    exif = picture.getexif()
    exif[274] = 6
    picture.save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    found, note = read(tmp_path / name)
    assert found.shape == RGB.shape
    assert name == "a.jpg" or (found == RGB).all()
    assert "orientation tag (6) was not applied, as spot positions count in stored pixels" in note


def write_deep_png(path, values):
    """Write (y, x, 3) 16-bit colours, as Pillow cannot."""
    height, width = values.shape[:2]
    lines = np.concatenate(
        [np.zeros((height, 1), np.uint8), values.astype(">u2").view(np.uint8).reshape(height, -1)], 1
    )
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes())),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_sixteen_bits_of_colour_are_cut_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    write_deep_png(tmp_path / "a.png", RGB.astype(np.uint16) * 257)
    found, note = read(tmp_path / "a.png")
    assert (found == RGB).all()
    assert "its 16 bits were cut to 8 in decoding" in note


def test_twelve_of_sixteen_bits_of_colour_are_not_read_as_a_dark_picture(tmp_path, monkeypatch):
    write_deep_png(tmp_path / "a.png", RGB.astype(np.uint16) * 16)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ValueError, match="has 16 bits per sample, which cannot be read rightly here.*or a tif"):
        read(tmp_path / "a.png")


def test_all_bits_of_deep_colours_are_read_where_imagecodecs_is_there(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    deep = RGB.astype(np.uint16) * 257
    for name, values, content in (
        ("full.png", deep, codecs.png_encode(deep)),
        ("twelve.png", RGB.astype(np.uint16) * 16, codecs.png_encode(RGB.astype(np.uint16) * 16)),
        ("a.jp2", deep, codecs.jpeg2k_encode(deep, level=0, reversible=True)),
    ):
        (tmp_path / name).write_bytes(content)
        level = decode(tmp_path / name)
        np.testing.assert_array_equal(level[:, :], values)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_white(tmp_path, mode):
    values = np.array([[0, 5], [200, 5]], np.uint8)
    picture = Image.fromarray(values if mode != "RGB" else np.dstack([values] * 3))
    if mode == "P":
        picture.putpalette(bytes(np.repeat(np.arange(256, dtype=np.uint8), 3)))
    picture.save(tmp_path / "a.png", transparency=(5, 5, 5) if mode == "RGB" else 5)
    found, note = read(tmp_path / "a.png")
    assert found[..., 0].tolist() == [[0, 255], [200, 255]]
    assert "the alpha channel was put on white" in note


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.mpo"])
def test_of_several_frames_the_first_of_the_largest_is_taken(tmp_path, name):
    frames = [Image.fromarray(np.full((8, 9, 3), shade, np.uint8)) for shade in (50, 200)]
    kinds = {"a.webp": {"lossless": True}, "a.mpo": {"format": "MPO"}}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **kinds.get(name, {}))
    found, note = read(tmp_path / name)
    assert np.abs(found.astype(int) - 50).max() <= 2
    assert "of its 2 frames the first was taken" in note


def test_inks_of_a_jpg_as_image_editors_write_them(tmp_path):
    """They are stored inverted."""
    inks = np.broadcast_to(np.array([20, 180, 90, 30], np.uint8), (16, 24, 4))
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=100)
    found, note = read(tmp_path / "a.jpg")
    assert np.abs(found.astype(int) - np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))).max() <= 3
    assert "Pillow's mode CMYK was converted to RGB" in note
