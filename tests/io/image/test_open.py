from __future__ import annotations

import builtins

import numpy as np
import pytest
import tifffile
from PIL import Image

from sphisto.io.image import tiff as tiffs
from sphisto.io.image.config import FileConfig
from sphisto.io.image.open import open_image, read_image

RGB = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)


@pytest.fixture
def no_openslide(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name.split(".")[0] == "openslide":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_reads_what_was_written(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    assert (read_image(tmp_path / name) == RGB).all()
    assert (read_image(str(tmp_path / name)) == RGB).all()
    assert (open_image(tmp_path / name).rgb() == np.moveaxis(RGB, -1, 0)).all()


def test_grey_images_have_no_axis_of_channels(tmp_path):
    for name in ("a.png", "a.tif"):
        Image.fromarray(RGB[..., 0]).save(tmp_path / name)
        assert (read_image(tmp_path / name) == RGB[..., 0]).all()


def test_alpha_of_sixteen_bits_is_applied_as_an_array_would_not_state_it(tmp_path):
    alpha = np.full((*RGB.shape[:2], 1), 65535, np.uint16)
    alpha[:5] = 0
    stored = np.dstack([RGB.astype(np.uint16) * 257, alpha])
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unassalpha"])
    found = read_image(tmp_path / "a.tif")
    assert found.dtype == np.uint8
    assert (found[:5] == 255).all()
    assert (found[5:] == RGB[5:]).all()


def test_planar_tifs_come_with_channels_last(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate")
    assert (read_image(tmp_path / "a.tif") == RGB).all()


def test_compressions_that_tifffile_lacks_are_left_to_pillow(tmp_path, monkeypatch, no_openslide):
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    monkeypatch.setattr(tiffs, "_decodes", lambda *_: False)
    assert (read_image(tmp_path / "a.tif") == RGB).all()


def test_large_files_of_such_compressions_name_the_extra(tmp_path, monkeypatch, no_openslide):
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    monkeypatch.setattr(tiffs, "_decodes", lambda *_: False)
    with pytest.raises(
        ValueError, match=r'by window: its 0.0 GB are compressed as LZW. .* `pip install "sphisto\[slides\]"`'
    ):
        open_image(tmp_path / "a.tif", config=FileConfig(largest_whole=10))


@pytest.mark.parametrize("name", ["a.svs", "a.mrxs", "a.BIF"])
def test_formats_of_vendors_name_the_extra(tmp_path, monkeypatch, no_openslide, name):
    Image.fromarray(RGB).save(tmp_path / name, format="tiff", compression="tiff_lzw")
    monkeypatch.setattr(tiffs, "_decodes", lambda *_: False)
    with pytest.raises(
        ValueError, match=r'a scanner vendor\'s format. Install what .* `pip install "sphisto\[slides\]"`'
    ):
        open_image(tmp_path / name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file at .*gone.png"):
        open_image(tmp_path / "gone.png")
