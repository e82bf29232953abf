from __future__ import annotations

import subprocess
import sys
import time
import zlib
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from sphisto.core.tiles import Window, read_window
from sphisto.io.image import tiff as tiffs
from sphisto.io.image.config import FileConfig, PyramidConfig
from sphisto.io.image.open import open_image
from sphisto.io.image.tiff import ContiguousLevel, TiffLevel

MB = 1024**2


def pixels(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def write_pyramid(path, levels, **options):
    with tifffile.TiffWriter(
        path, **{key: options.pop(key) for key in ("bigtiff", "ome", "byteorder") if key in options}
    ) as tif:
        tif.write(levels[0], subifds=len(levels) - 1, **options)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **options)


def whole(level):
    return level[: level.shape[0], : level.shape[1]]


COMPRESSIONS = [None, "zlib", "lzma"]
if find_spec("imagecodecs"):
    COMPRESSIONS += ["lzw", "packbits", "zstd"]


@st.composite
def tifs(draw):
    """How an image is stored, and the image as (y, x, c)."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.float32, ">u2"]))
    layout = draw(st.sampled_from(["grey", "rgb", "rgba", "separate", "pages"]))
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    compression = draw(st.sampled_from(COMPRESSIONS))
    options = {"compression": compression, "photometric": "minisblack" if layout in {"grey", "pages"} else "rgb"}
    if compression and draw(st.booleans()):
        options["predictor"] = 3 if np.dtype(dtype).kind == "f" else 2
    if "predictor" in options and not tiffs._decodes(8, options["predictor"]):
        del options["predictor"]
    if draw(st.booleans()):
        options["tile"] = (16 * draw(st.integers(1, 3)), 16 * draw(st.integers(1, 3)))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 100))
    n_channels = {"grey": 1, "rgba": 4}.get(layout, 3)
    image = pixels(height, width, n_channels, dtype=np.dtype(dtype).newbyteorder("="))
    stored = image[..., 0] if layout == "grey" else image
    if layout == "separate":
        options["planarconfig"] = "separate"
    if layout == "rgba":
        options["extrasamples"] = ["unassalpha"]
    if layout in {"separate", "pages"}:
        stored = np.moveaxis(image, -1, 0)
    if layout == "pages":
        options["metadata"] = {"axes": "CYX"}
    return stored, options, image, ">" if dtype == ">u2" else "<"


@settings(deadline=None, max_examples=120)
@given(tifs(), st.data())
def test_windows_are_those_of_the_whole(tmp_path_factory, tif, data):
    stored, options, image, order = tif
    path = tmp_path_factory.mktemp("tif") / "a.tif"
    ome = stored.ndim == 3 and options.get("metadata") is not None
    with tifffile.TiffWriter(path, byteorder=order, ome=ome) as file:
        file.write(stored, **options)
    level = open_image(path).levels[0]
    assert level.shape == image.shape
    assert level.dtype == image.dtype
    y, x = data.draw(st.integers(0, image.shape[0] - 1)), data.draw(st.integers(0, image.shape[1] - 1))
    key = slice(y, data.draw(st.integers(y + 1, 99))), slice(x, data.draw(st.integers(x + 1, 99)))
    np.testing.assert_array_equal(level[key], image[key])


@pytest.mark.parametrize("kind", ["sub-levels", "pages", "ome"])
def test_all_resolutions_are_found(tmp_path, kind):
    full = pixels(256, 192, 3)
    levels = [full, full[::2, ::2], full[::4, ::4]]
    path = tmp_path / "a.tif"
    options = {"tile": (32, 32), "photometric": "rgb", "compression": "zlib"}
    if kind == "pages":
        with tifffile.TiffWriter(path, bigtiff=True) as tif:
            for i, level in enumerate(levels):
                tif.write(level, subfiletype=int(i > 0), **options)
    else:
        write_pyramid(path, levels, ome=kind == "ome", bigtiff=True, **options)
    opened = open_image(path)
    assert opened.factors == ((1, 1), (2, 2), (4, 4))
    for found, level in zip(opened.levels, levels, strict=True):
        np.testing.assert_array_equal(whole(found), level)


def test_the_largest_image_counts_and_overviews_that_come_first_do_not(tmp_path):
    full = pixels(128, 96, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(full[:20, :30], photometric="rgb")  # a label, of other proportions
        tif.write(full, photometric="rgb")
    np.testing.assert_array_equal(whole(open_image(tmp_path / "a.tif").levels[0]), full)


def test_rows_that_lie_in_one_piece_are_read_where_they_lie(tmp_path):
    image = pixels(150, 97, 3)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", rowsperstrip=150)
    level = open_image(tmp_path / "a.tif").levels[0]
    assert isinstance(level, ContiguousLevel)
    np.testing.assert_array_equal(level[13:77, 5:96], image[13:77, 5:96])


def test_large_strips_are_decoded_once(tmp_path):
    image = pixels(150, 97, 3)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", rowsperstrip=150, compression="zlib")
    level = open_image(tmp_path / "a.tif", config=FileConfig(large_chunk=1000)).levels[0]
    assert isinstance(level, np.ndarray)
    np.testing.assert_array_equal(level, image)


def test_tiles_that_windows_share_are_decoded_once(tmp_path, monkeypatch):
    image = pixels(64, 64, 3)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(32, 32), compression="zlib")
    level = open_image(tmp_path / "a.tif").levels[0]
    assert isinstance(level, TiffLevel)
    decoded = []
    true_decode = level._decode
    monkeypatch.setattr(
        level, "_decode", lambda data, index, **tables: decoded.append(index) or true_decode(data, index)
    )
    for y in range(0, 60, 4):
        np.testing.assert_array_equal(level[y : y + 8, 10:50], image[y : y + 8, 10:50])
    assert sorted(decoded) == [0, 1, 2, 3]


def test_tiles_that_the_file_leaves_out_are_filled(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tiles = (None if i == 1 else np.full((32, 32, 3), 7, np.uint8) for i in range(4))
        tif.write(tiles, shape=(64, 64, 3), dtype=np.uint8, tile=(32, 32), photometric="rgb", compression="zlib")
    level = whole(open_image(tmp_path / "a.tif").levels[0])
    assert (level[:32, 32:] == 0).all()
    assert (level[32:] == 7).all()


# --- what can go wrong ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiled(tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels(96, 96, 3), photometric="rgb", tile=(32, 32), compression="zlib")
    return path


def lazy_picture(path):
    opened = open_image(path, config=FileConfig(kept_tiles=0))
    return replace(opened, config=PyramidConfig(kept=0, block=32)).rgb()


def test_a_file_that_vanishes_midway(tiled):
    picture = lazy_picture(tiled)
    read_window(picture, Window(0, 0, 8, 8))
    tiled.unlink()
    with pytest.raises(FileNotFoundError, match=r"slide.tif' was there and can no longer be read .* `resume=True`"):
        read_window(picture, Window(40, 40, 48, 48))


def test_a_file_that_is_changed_midway(tiled):
    picture = lazy_picture(tiled)
    read_window(picture, Window(0, 0, 8, 8))
    tiled.write_bytes(tiled.read_bytes()[:9000])
    with pytest.raises(
        ValueError, match=r"slide.tif' was changed while it was read: expected [\d,]+ bytes, found 9,000"
    ):
        read_window(picture, Window(40, 40, 48, 48))


@pytest.mark.parametrize(
    "options", [{"tile": (32, 32)}, {"rowsperstrip": 96}, {"rowsperstrip": 7, "compression": "zlib"}]
)
def test_truncated_files(tmp_path, options):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, pixels(96, 96, 3), photometric="rgb", **options)
    path.write_bytes(path.read_bytes()[:15000])
    with pytest.raises(
        ValueError, match=r"slide.tif' is truncated: its tiles reach to byte [\d,]+, the file has 15,000"
    ):
        open_image(path)


@pytest.mark.parametrize("damage", ["noise", "short"])
def test_a_damaged_tile_is_named_and_the_others_are_read(tiled, damage):
    with tifffile.TiffFile(tiled) as tif:
        offset, count = tif.pages.first.dataoffsets[4], tif.pages.first.databytecounts[4]
    content = bytearray(tiled.read_bytes())
    instead = pixels(count).tobytes() if damage == "noise" else zlib.compress(b"\0" * 100)
    content[offset : offset + len(instead)] = instead
    tiled.write_bytes(content)
    picture = lazy_picture(tiled)
    assert (read_window(picture, Window(0, 0, 32, 96)) == np.moveaxis(pixels(96, 96, 3)[:32], -1, 0)).all()
    with pytest.raises(
        ValueError, match=r"slide.tif' is damaged: the 32 x 32 px from y = 32, x = 32 on, .* 96 x 96 px, cannot"
    ):
        read_window(picture, Window(0, 0, 96, 96))


def test_files_that_are_no_tif(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"II*\0broken")
    with pytest.raises(ValueError, match=r"broken.tif' is not a tif image that can be read"):
        open_image(tmp_path / "broken.tif")
    (tmp_path / "empty.tif").write_bytes(
        b"II*\0" + bytes([255, 255, 0, 0]) + bytes(100)
    )  # its pages lie beyond its end
    with pytest.raises(ValueError, match=r"empty.tif' is not a tif image that can be read \(it holds no image\)"):
        open_image(tmp_path / "empty.tif")


@pytest.mark.parametrize(("shape", "axes"), [((7, 8, 9), "ZYX"), ((2, 8, 9, 3), "TYXS"), ((5, 8, 9), "CYX")])
def test_stacks_are_refused(tmp_path, shape, axes):
    photometric = "rgb" if axes[-1] == "S" else "minisblack"
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros(shape, np.uint8), metadata={"axes": axes}, photometric=photometric
    )
    with pytest.raises(
        ValueError, match=rf"stack.tif' has shape \({', '.join(map(str, shape))}\) along axes {axes}; exp"
    ):
        open_image(tmp_path / "stack.tif")


def test_files_that_declare_far_more_than_they_hold(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["ImageWidth"].overwrite(60000)
        tif.pages.first.tags["ImageLength"].overwrite(60000)
    with pytest.raises(ValueError, match=r"bomb.tif' declares 60000 x 60000 values, 3.6 GB, in a file of [\d,]+ bytes"):
        open_image(path)


# --- whole slides -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A pyramid of 16384 x 16384 px, written tile by tile: red tells the row of tiles, green the column, blue the level."""
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    tile = 512

    def tiles(n, level):
        for row in range(n):
            for column in range(n):
                yield np.broadcast_to(np.array([row * 7, column * 7, level], np.uint8), (tile, tile, 3))

    options = {"tile": (tile, tile), "photometric": "rgb", "compression": "zlib", "dtype": np.uint8}
    options["compressionargs"] = {"level": 1}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(tiles(32, 0), shape=(16384, 16384, 3), subifds=2, **options)
        tif.write(tiles(8, 1), shape=(4096, 4096, 3), subfiletype=1, **options)
        tif.write(tiles(2, 2), shape=(1024, 1024, 3), subfiletype=1, **options)
    return path


def test_levels_of_a_whole_slide_are_taken_by_scale(slide):
    opened = replace(open_image(slide), config=PyramidConfig(kept=0))
    assert opened.shape == (16384, 16384)
    assert opened.factors == ((1, 1), (4, 4), (16, 16))
    assert [int(read_window(opened.rgb(factor), Window(0, 0, 1, 1))[2, 0, 0]) for factor in (1, 3, 4, 9, 16)] == [
        0,
        0,
        1,
        1,
        2,
    ]
    lazy = opened.rgb(1)
    window = read_window(lazy, Window(5110, 10230, 5130, 10250))
    assert np.unique(window[0]).tolist() == [9 * 7, 10 * 7]
    assert np.unique(window[1]).tolist() == [19 * 7, 20 * 7]


MEASURE = """
import sys
from dataclasses import replace
from pathlib import Path
import dask.array, numpy as np, scipy.sparse, tifffile
from sphisto.core.tiles import Window, plan_tiles, read_window
from sphisto.io.image.config import PyramidConfig
from sphisto.io.image.open import open_image
def peak():
    # getrusage would count what the process that started this one took
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
base = peak()
config = PyramidConfig(kept=2**24, kept_blocks=2**24)
picture = replace(open_image(sys.argv[1]), config=config).rgb(int(sys.argv[2]))
for tile in plan_tiles(picture.shape[1:], size=1024)[:int(sys.argv[3])]:
    read_window(picture, tile.view)
print(peak() - base)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are told elsewhere")
@pytest.mark.parametrize(("factor", "n_windows", "most"), [(1, 4, 200), (3, 2, 200)])
def test_reading_windows_of_a_whole_slide_takes_little_memory(slide, factor, n_windows, most):
    """The slide takes 805 MB; a window 3 MB, the tiles and blocks that are kept 80 MB, a strip that is averaged 60 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(slide), str(factor), str(n_windows)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < most


def test_a_window_of_a_whole_slide_is_read_at_once(slide):
    picture = open_image(slide).rgb(1)
    started = time.perf_counter()
    read_window(picture, Window(8000, 8000, 8256, 8256))
    first = time.perf_counter() - started
    assert first < 2
