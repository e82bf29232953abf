from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import tifffile

import sphisto as sp
from sphisto.core.grid import Grid
from sphisto.io.image import working_image as module
from sphisto.io.image.config import PyramidConfig
from sphisto.io.image.open import open_image
from sphisto.io.image.pyramid import Pyramid, as_pyramid
from sphisto.io.image.working_image import resized_mask, tissue_in, working_image
from sphisto.io.slides import make_slide


@pytest.fixture(scope="module")
def section():
    """A drawn section whose picture is 384 px wide."""
    return sp.datasets.toy(384, 384, pitch_um=24, rng=3)


def picture_of(adata):
    return adata.uns["spatial"]["toy"]["images"]["hires"]


def lazy_of(image, chunks, **settings):
    """An image that is made block by block, however small it is."""
    return replace(as_pyramid(da.from_array(image, chunks=chunks)), config=PyramidConfig(kept=0, **settings))


def halved(image):
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


@pytest.fixture
def tif(tmp_path, section):
    """The picture as a pyramid."""
    levels = [picture_of(section)]
    levels += [halved(levels[-1])]
    levels += [halved(levels[-1])]
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        for i, level in enumerate(levels):
            options = {"subifds": 2} if i == 0 else {"subfiletype": 1}
            file.write(level, tile=(64, 64), photometric="rgb", compression="zlib", **options)
    return tmp_path / "slide.tif"


def test_the_grid_is_the_same_whatever_levels_there_are():
    image = np.zeros((103, 205, 3), np.uint8)
    native = Grid(103, 205, 0.5, (2.0, 2.0))
    for levels in ((image,), (image, image[::2, ::2]), (image, image[::3, ::3])):
        picture, grid, block = working_image(Pyramid(levels), native, 2.1)
        assert grid == Grid(25, 51, 2.0, (8.0, 8.0))
        assert picture.shape == (3, 25, 51)
        assert block == 4


def test_the_level_that_is_read_is_said(caplog):
    image = np.zeros((100, 100, 3), np.uint8)
    with caplog.at_level(logging.INFO, logger="sphisto"):
        working_image(Pyramid((image, image[::2, ::2], image[::4, ::4])), Grid(100, 100, 0.5), 1.6)
    assert "has 3 resolutions; the one of 50 x 50 px is read" in caplog.text


def test_scales_that_cannot_be(caplog):
    image = as_pyramid(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="um_per_px=20 leaves no pixel of a 10 x 10 px image; choose less"):
        working_image(image, Grid(10, 10, 1.0), 20)
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        assert working_image(image, Grid(10, 10, 1.0), 0.5)[1].shape == (10, 10)
    assert "um_per_px=0.5 is finer than the image's 1; the image's own resolution is used" in caplog.text


def test_a_lazy_section_is_the_section_in_memory(section):
    in_memory = make_slide(sp.io.section(section))
    lazy = make_slide(sp.io.section(section, image=lazy_of(picture_of(section), chunks=50, block=48)))
    assert isinstance(lazy.image, da.Array)
    assert lazy.grid == in_memory.grid
    np.testing.assert_array_equal(lazy.image.compute(), in_memory.image)
    np.testing.assert_array_equal(lazy.tissue, in_memory.tissue)


def test_a_pyramid_gives_nearly_the_section_in_memory(section, tif):
    um = 2 * make_slide(sp.io.section(section)).grid.um_per_px
    in_memory = make_slide(sp.io.section(section), um_per_px=um)
    read = make_slide(sp.io.section(section, image=tif), um_per_px=um)
    assert read.grid == in_memory.grid
    np.testing.assert_array_equal(read.image, in_memory.image)  # the level is the mean of the same blocks
    assert (np.asarray(read.tissue) == np.asarray(in_memory.tissue)).mean() > 0.99


def test_the_tissue_is_found_in_a_coarse_level(section, tif, monkeypatch):
    pyramid = open_image(tif)
    seen = []
    true_find = module.find_tissue
    monkeypatch.setattr(module, "find_tissue", lambda rgb, um: seen.append((rgb.shape, um)) or true_find(rgb, um))
    picture, grid, block = working_image(pyramid, Grid(*pyramid.shape, 2.0), None)
    mask = np.asarray(tissue_in(pyramid, picture, grid, block))
    assert seen == [((96, 96, 3), 8.0)]
    assert mask.shape == grid.shape
    fine = np.asarray(true_find(picture_of(section), 2.0))
    assert (mask & fine).sum() / (mask | fine).sum() > 0.98


def test_a_mask_of_the_grid_is_taken_as_it_is(rng):
    mask = rng.random((40, 60)) < 0.5
    np.testing.assert_array_equal(np.asarray(resized_mask(mask, Grid(40, 60, 1.0))), mask)
    np.testing.assert_array_equal(np.asarray(resized_mask(mask.astype(int), Grid(40, 60, 1.0))), mask)


def test_a_coarser_mask_is_drawn_out(rng):
    """Each px of the grid takes what the mask says at its middle."""
    mask = rng.random((40, 60)) < 0.5
    y, x = np.mgrid[:130, :196] + 0.5
    found = np.asarray(resized_mask(mask, Grid(130, 196, 1.0)))
    np.testing.assert_array_equal(found, mask[(y * 40 / 130).astype(int), (x * 60 / 196).astype(int)])


def test_of_a_finer_mask_most_of_a_pixel_counts(rng):
    mask = rng.random((40, 60)) < 0.5
    share = mask.reshape(10, 4, 15, 4).mean(axis=(1, 3))
    np.testing.assert_array_equal(np.asarray(resized_mask(mask, Grid(10, 15, 1.0))), share >= 0.5)


def test_a_lazy_image_has_the_tissue_of_one_in_memory(section):
    image = picture_of(section)
    whole = sp.pp.tissue_mask(image, um_per_px=2.0)
    lazy = sp.pp.tissue_mask(lazy_of(image, chunks=100), um_per_px=2.0)
    np.testing.assert_array_equal(lazy, whole)


def test_a_lazy_section_is_fitted_as_one_in_memory(small_toy, tmp_path):
    results = []
    for name in ("memory", "lazy"):
        adata = small_toy.copy()
        image = picture_of(adata)
        given = lazy_of(image, chunks=40, block=32) if name == "lazy" else image
        sp.tl.fit_projection(
            adata,
            store=tmp_path / f"{name}.zarr",
            image=given,
            max_epochs=2,
            device="cpu",
            genes=adata.var_names[:2].tolist(),
        )
        results.append(sp.get.gene_raster(tmp_path / f"{name}.zarr", adata.var_names[0]).to_numpy())
    np.testing.assert_array_equal(results[0], results[1])


MEASURE = """
import sys
from dataclasses import replace
from pathlib import Path
import dask.array, scanpy, skimage.transform
import sphisto as sp
from sphisto.io.slides import make_slide
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
adata = sp.io.read_visium(sys.argv[1])
base = peak()
section = sp.io.section(adata, image=Path(sys.argv[1]) / "tissue_image_fullres.jpg", spot_um=100)
slide = make_slide(section, um_per_px=2)
assert slide.image.shape == (3, 3303, 3091), slide.image.shape
print(peak() - base)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are told elsewhere")
def test_the_full_resolution_of_a_real_section_takes_little_memory(real_section):
    """Its 9911 x 9274 px take 276 MB; Pillow needs 368 MB to decode them, once."""
    folder = real_section("her2st_C2")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 600


def test_all_resolutions_of_an_image_of_spatialdata_are_used():
    from spatialdata.models import Image2DModel

    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    element = Image2DModel.parse(np.moveaxis(image, -1, 0), dims=("c", "y", "x"), scale_factors=[2, 2])
    pyramid = as_pyramid(element)
    assert pyramid.factors == ((1, 1), (2, 2), (4, 4))
    np.testing.assert_array_equal(pyramid.rgb(), np.moveaxis(image, -1, 0))
    np.testing.assert_array_equal(pyramid.rgb(4), element["scale2"].image.to_numpy())
    single = Image2DModel.parse(np.moveaxis(image, -1, 0), dims=("c", "y", "x"))
    assert len(as_pyramid(single).levels) == 1
