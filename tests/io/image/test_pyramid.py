from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from threading import Thread

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from spatialdata.models import Image2DModel
from xarray import DataArray

from sphisto.core.tiles import Window, read_window
from sphisto.io.image import pyramid
from sphisto.io.image.config import PyramidConfig
from sphisto.io.image.pyramid import Blocks, Pyramid, as_pyramid


class Stored:
    """A level that is not in memory and remembers what was asked of it."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.pixels[key]


def halved(image, times):
    height, width = (side >> times << times for side in image.shape[:2])
    step = 2**times
    blocks = image[:height, :width].reshape(height // step, step, width // step, step, -1)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def image_of(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


SMALL_BLOCKS = PyramidConfig(kept=0, block=16, chunk=32)


@pytest.mark.parametrize(
    ("factor", "level"), [(1, 0), (1.9, 0), (2, 1), (3, 1), (3.97, 2), (4, 2), (15, 2), (16, 3), (99, 3)]
)
def test_the_coarsest_level_that_is_fine_enough_is_taken(factor, level):
    image = np.zeros((160, 97, 3), np.uint8)
    levels = tuple(image[::step, ::step] for step in (1, 2, 4, 16))
    assert Pyramid(levels).level_for(factor) == level


@pytest.mark.parametrize(("sides", "expected"), [
    ((2477, 2318), (4, 4)), ((2478, 2319), (4, 4)), ((2478, 2318), (4, 4)),
    ((3000, 2800), (9911 / 3000, 9274 / 2800)),
])  # fmt: skip
def test_levels_that_round_their_sides_have_whole_factors(sides, expected):
    assert pyramid._factors((9911, 9274), sides) == pytest.approx(expected, rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_windows_of_a_lazy_picture_are_those_of_the_whole(data):
    image = image_of(data.draw(st.integers(30, 90)), data.draw(st.integers(30, 90)))
    n_levels = data.draw(st.integers(1, 3))
    factor = data.draw(st.integers(1, 6))
    levels = tuple(image if i == 0 else halved(image, i) for i in range(n_levels))
    block, chunk = data.draw(st.sampled_from([7, 16])), data.draw(st.sampled_from([8, 20]))
    config = PyramidConfig(kept=0, block=block, chunk=chunk)
    whole = Pyramid(levels).rgb(factor)
    lazy = Pyramid(tuple(Stored(level) for level in levels), config=config).rgb(factor)
    assert isinstance(whole, np.ndarray)
    assert isinstance(lazy, da.Array)
    height, width = whole.shape[1:]
    y, x = data.draw(st.integers(-5, height - 1)), data.draw(st.integers(-5, width - 1))
    window = Window(y, x, y + data.draw(st.integers(1, 40)), x + data.draw(st.integers(1, 40)))
    np.testing.assert_array_equal(read_window(lazy, window), read_window(whole, window))
    np.testing.assert_array_equal(np.moveaxis(lazy, 0, -1)[3:9].compute(), np.moveaxis(whole, 0, -1)[3:9])


def test_one_level_is_averaged_over_whole_blocks():
    image = image_of(50, 61)
    expected = image[:48, :60].reshape(16, 3, 20, 3, 3).mean(axis=(1, 3), dtype=np.float32).round()
    np.testing.assert_array_equal(np.moveaxis(as_pyramid(image).rgb(3), 0, -1), expected)


def test_levels_of_exact_means_give_what_the_finest_gives():
    # by design without rounding: blocks of 2 x 2 are of one colour
    image = image_of(32, 24).repeat(2, 0).repeat(2, 1)
    one, two = Pyramid((image,)), Pyramid((image, halved(image, 1)))
    for factor in (2, 4, 6):
        np.testing.assert_array_equal(two.rgb(factor), one.rgb(factor))


def test_levels_that_cut_or_pad_their_sides_stay_in_place():
    ramp = np.broadcast_to(np.arange(203, dtype=np.float64)[:, None, None], (203, 103, 3)).astype(np.uint8)
    cut = halved(ramp, 2)
    padded = halved(np.pad(ramp, ((0, 1), (0, 1), (0, 0)), mode="edge"), 2)
    for level in (cut, padded):
        found = Pyramid((ramp, level)).rgb(5)
        assert found.shape == (3, 40, 20)
        assert np.abs(found[0, :, 0] - (np.arange(40) * 5 + 2)).max() <= 1


def test_of_a_level_only_the_window_is_read():
    stored = Stored(image_of(320, 320))
    lazy = Pyramid((stored,), config=SMALL_BLOCKS).rgb(2)
    assert stored.asked == []
    read_window(lazy, Window(40, 40, 50, 50))
    assert {(r.start, r.stop, c.start, c.stop) for r, c in stored.asked} == {
        (y, y + 32, x, x + 32) for y in (64, 96) for x in (64, 96)
    }


def test_blocks_that_were_made_are_kept_up_to_a_bound():
    made = []

    def make(window):
        made.append(window)
        return np.zeros((*window.shape, 3), np.uint8)

    blocks = Blocks(make, (64, 64), PyramidConfig(block=8, kept_blocks=4 * 3 * 8**2))
    key = (slice(None), slice(0, 16), slice(0, 16))
    for _ in range(3):
        assert blocks[key].shape == (3, 16, 16)
    assert len(made) == 4
    blocks[:, 16:64, 0:16]
    blocks[key]
    assert len(made) == 4 + 12 + 4


def test_several_threads_may_read():
    image = image_of(200, 200)
    lazy = Pyramid((Stored(image),), config=SMALL_BLOCKS).rgb()
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            y, x = rng.integers(0, 150, 2)
            window = Window(y, x, y + 40, x + 40)
            if not (read_window(lazy, window) == np.moveaxis(image[window.slices], -1, 0)).all():
                wrong.append(window)

    threads = [Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_lazy_images_of_others_are_read_by_window():
    image = image_of(90, 70)
    for given_, expected in [
        (da.from_array(image, chunks=13), image),
        (da.from_array(np.moveaxis(image, -1, 0), chunks=13), image),
        (da.from_array(image[..., 0], chunks=13), np.dstack([image[..., 0]] * 3)),
    ]:
        lazy = replace(as_pyramid(given_), config=SMALL_BLOCKS).rgb()
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(np.moveaxis(lazy.compute(), 0, -1), expected)


def test_the_same_picture_has_the_same_name():
    image = Stored(image_of(40, 40))

    def name(token, factor):
        return Pyramid((image,), token, config=SMALL_BLOCKS).rgb(factor).name

    assert name("a", 2) == name("a", 2)
    assert name("a", 2) != name("a", 1)
    assert name("a", 2) != name("b", 2)


def test_a_picture_in_memory_is_not_copied():
    image = image_of(40, 30)
    assert np.shares_memory(as_pyramid(image).rgb(), image)


# --- images of other libraries ----------------------------------------------------------------------------------------


RGB = image_of(40, 56)


def read(image):
    """The picture as (y, x, 3), and what was said of it."""
    taken = as_pyramid(image)
    return np.moveaxis(np.asarray(taken.rgb()), 0, -1), taken.conversion.note


@pytest.mark.parametrize("dims", list(permutations("cyx")))
@pytest.mark.parametrize("wrap", [np.asarray, da.from_array], ids=["numpy", "dask"])
def test_axes_with_names_are_told_by_them(dims, wrap):
    square = image_of(3, 3)  # any axis could be that of channels
    for image in (RGB, square):
        stored = image.transpose(["yxc".index(dim) for dim in dims])
        found, note = read(DataArray(wrap(stored), dims=dims))
        np.testing.assert_array_equal(found, image)
        assert note is None


def test_arrays_without_names_of_axes_say_which_was_taken():
    assert "of shape (3, 3, 3) the last axis was taken" in read(image_of(3, 3))[1]
    np.testing.assert_array_equal(read(DataArray(np.moveaxis(RGB, -1, 0)))[0], RGB)  # xarray calls them dim_0 ...
    np.testing.assert_array_equal(read(DataArray(RGB[..., 0], dims=("Y", "X")))[0], np.dstack([RGB[..., 0]] * 3))
    np.testing.assert_array_equal(read(DataArray(RGB[None], dims=("z", "y", "x", "c")))[0], RGB)


def test_planes_of_a_stack_are_refused_by_the_names_of_axes():
    with pytest.raises(ValueError, match=r"An image of shape \(3, 4, 5\) along z, y, x has not the axes of one"):
        as_pyramid(DataArray(np.zeros((3, 4, 5)), dims=("z", "y", "x")))


@pytest.mark.parametrize("scale_factors", [None, [2, 2]])
def test_image_elements_of_spatialdata(scale_factors):
    image = image_of(64, 96).repeat(4, 0).repeat(4, 1)
    element = Image2DModel.parse(np.moveaxis(image, -1, 0), dims=("c", "y", "x"), scale_factors=scale_factors)
    opened = as_pyramid(element)
    assert len(opened.levels) == (3 if scale_factors else 1)
    np.testing.assert_array_equal(read(element)[0], image)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(opened.rgb(4)), 0, -1), image[::4, ::4])


def test_channels_of_an_element_are_read_by_their_names():
    def element(image, names):
        return Image2DModel.parse(image, dims=("y", "x", "c"), c_coords=names)

    found, note = read(element(RGB[..., ::-1], ["b", "g", "r"]))
    np.testing.assert_array_equal(found, RGB)
    assert "channels b, g, r were brought to the order red, green, blue" in note
    four = np.dstack([RGB, RGB[..., 0]])
    with pytest.raises(ValueError, match=r"has 4 channels \(DAPI, CD3, CD8, autofluorescence\). This seems to be a fl"):
        as_pyramid(element(four.astype(np.uint16), ["DAPI", "CD3", "CD8", "autofluorescence"]))
    with pytest.raises(ValueError, match="has 2 channels"):
        as_pyramid(element(four[..., :2], ["DAPI", "membrane"]))
    opaque = np.dstack([RGB, np.full_like(RGB[..., 0], 255)])
    np.testing.assert_array_equal(read(element(opaque, ["r", "g", "b", "a"]))[0], RGB)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "La", "RGBa", "RGBX", "P", "PA", "1", "CMYK", "YCbCr", "HSV",
                                  "LAB", "I", "F", "I;16", "I;16B"])  # fmt: skip
def test_pictures_of_pillow(mode):
    smooth = np.asarray(Image.fromarray(RGB).resize((8, 6)).resize((56, 40), Image.Resampling.BICUBIC))
    picture = Image.fromarray(smooth)
    grey, expected = smooth[..., 0], smooth
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    elif mode in {"I", "F", "I;16", "I;16B"}:
        dtype = {"I": "i4", "F": "f4", "I;16": "<u2", "I;16B": ">u2"}[mode]
        factor = 257 if "16" in mode else 1
        picture, expected = Image.fromarray(grey.astype(np.uint16) * factor).convert("I"), np.dstack([grey] * 3)
        picture = Image.frombytes(mode, picture.size, (grey.astype(np.uint16) * factor).astype(dtype).tobytes())
    elif mode in {"La", "PA"}:
        picture = picture.convert("LA" if mode == "La" else "P").convert(mode)
    elif mode == "RGBa":
        picture = picture.convert("RGBA").convert(mode)
    else:
        picture = picture.convert(mode)
    if mode in {"L", "LA", "La", "1"}:
        expected = np.dstack(
            [np.asarray(Image.fromarray(smooth).convert("1" if mode == "1" else "L").convert("L"))] * 3
        )
    if mode in {"P", "PA"}:
        expected = np.asarray(Image.fromarray(smooth).convert("P").convert("RGB"))
    found, note = read(picture)
    assert picture.mode == mode
    assert np.abs(found.astype(int) - expected).max() <= {"LAB": 6, "HSV": 8, "YCbCr": 3}.get(mode, 1)
    assert (note is None) == (mode == "RGB")


def test_masked_values_are_refused():
    np.testing.assert_array_equal(read(np.ma.MaskedArray(RGB))[0], RGB)
    with pytest.raises(ValueError, match=r"Found 3 masked values .*`image.filled\(255\)`"):
        as_pyramid(np.ma.MaskedArray(RGB, mask=np.dstack([np.eye(40, 56)] * 3) * (np.arange(40) < 1)[:, None, None]))


def test_paths_and_open_files_are_no_images(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        for given_ in (file, tmp_path / "a.png", str(tmp_path / "a.png")):
            with pytest.raises(TypeError, match=rf"Found {type(given_).__name__} in place of an image"):
                as_pyramid(given_)


def test_a_mask_behind_dask_is_not_dropped():
    import dask.array as da

    values = np.ma.masked_array(np.full((8, 8, 3), 200, np.uint8), mask=False)
    assert (as_pyramid(da.from_array(values, chunks=4, asarray=False)).rgb()[:] == 200).all()
    values[2:4, 2:4] = np.ma.masked
    with pytest.raises(ValueError, match="Found 12 masked values in the image at Window.*dask.array.ma.filled"):
        as_pyramid(da.from_array(values, chunks=4, asarray=False)).rgb()[:]


def test_datasets_of_h5py_and_variables_of_xarray(tmp_path):
    import h5py
    import xarray as xr

    values = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = values
        for image in (file["image"], xr.Variable(("y", "x", "c"), values)):
            np.testing.assert_array_equal(np.moveaxis(np.asarray(as_pyramid(image).rgb()), 0, -1), values)
