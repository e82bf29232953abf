from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from sphisto.io import pyramid
from sphisto.io.images import open_image, read_image

HAS_IMAGECODECS = find_spec("imagecodecs") is not None


def smooth(height, width, seed=0):
    """A picture without sharp edges, which lossy formats keep."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 20
    waves = [np.sin(a * y + b * x + c) for a, b, c in rng.uniform(0.2, 1, (3, 3))]
    return np.asarray(127.5 + 110 * np.stack(waves, -1), dtype=np.uint8)


RGB = smooth(40, 56)
GREY = RGB[..., 0]


def read(path):
    """The picture as (y, x, 3), and what was said of it."""
    opened = open_image(path)
    return np.moveaxis(np.asarray(opened.picture()), 0, -1), opened.conversion.note or ""


def on_white(rgb, alpha):
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def grey3(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def off(found, expected):
    """Largest difference of a value."""
    return float(np.abs(found.astype(float) - expected).max())


# --- any format, mode, depth, compression, arrangement and alpha ------------------------------------------------------

LOSSLESS = [None, "zlib", "lzma"] + (["lzw", "packbits", "zstd"] if HAS_IMAGECODECS else [])


@st.composite
def tifs(draw, rgb):
    """A function that saves a picture in a tif, and the picture that must be read, with the loss that is allowed."""
    alpha = np.random.default_rng(1).integers(0, 256, rgb.shape[:2], dtype=np.uint8)
    kind = draw(st.sampled_from(["rgb", "minisblack", "miniswhite", "palette", "separated", "cielab"]))
    depth = draw(st.sampled_from({"palette": ["u1"], "separated": ["u1", "u2"], "cielab": ["u1"], "miniswhite": ["u1", "u2"]}
                                 .get(kind, ["u1", "u2", "u2 of 12", "f2", "f4", "f4 of 255", "f8"])))  # fmt: skip
    with_alpha = draw(st.sampled_from([None, "assocalpha", "unassalpha", "unspecified", "zero"]))
    options = {"compression": draw(st.sampled_from(LOSSLESS)), "photometric": kind}
    if kind in {"palette", "cielab"} or depth in {"f2", "u2 of 12"} or (kind == "minisblack" and with_alpha):
        with_alpha = None
    expected = {"minisblack": grey3(rgb[..., 0]), "miniswhite": grey3(rgb[..., 0])}.get(kind, rgb)
    loss = 1.0
    if kind == "palette":
        image = Image.fromarray(rgb).quantize(32)
        stored = np.asarray(image)[..., None]
        table = np.zeros((256, 3), np.uint16)
        table[: len(image.getpalette()) // 3] = np.reshape(image.getpalette(), (-1, 3))
        options["colormap"] = (table * 257).T
        expected, loss = np.asarray(image.convert("RGB")), 0
    elif kind == "separated":
        stored = np.dstack([255 - rgb, np.zeros_like(rgb[..., 0])])
        with_alpha = None
    elif kind == "cielab":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.profileToProfile(Image.fromarray(rgb), *profiles, outputMode="LAB")
        stored, loss = np.asarray(lab), 6  # of the steps of 1 that L*a*b* of 8 bits has
    else:
        stored = rgb[..., :1] if kind.startswith("minis") else rgb
        stored = 255 - stored if kind == "miniswhite" else stored
        if with_alpha:
            through = np.zeros_like(alpha) if with_alpha == "zero" else alpha
            if with_alpha in {"assocalpha", "unassalpha"} and kind == "rgb":
                if with_alpha == "assocalpha":
                    stored = np.asarray(np.rint(stored * (alpha[..., None] / 255)), np.uint8)
                expected, loss = on_white(expected, alpha), 1.5
            if kind == "rgb":
                stored = np.dstack([stored, through])
                options["extrasamples"] = ["unassalpha" if with_alpha == "zero" else with_alpha]
    if depth == "u2":
        stored = stored.astype(np.uint16) * 257
    elif depth == "u2 of 12":
        stored = np.rint(stored * (4095 / 255)).astype(np.uint16)
        stored[0, 0], expected = 4095, expected.copy()  # as bright as the glass
        expected[0, 0] = 255
    elif depth == "f4 of 255":
        stored, expected = stored.astype(np.float32), expected.copy()
        stored[0, 0, :3], expected[0, 0] = 255, 255
        if stored.shape[2] == 4:
            stored[0, 0] = 255
    elif depth[0] == "f":
        stored = (stored / 255).astype(depth)
    if stored.shape[2] > 1 and draw(st.booleans()):
        stored, options["planarconfig"] = np.moveaxis(stored, -1, 0), "separate"
    elif stored.shape[2] == 1:
        stored = stored[..., 0]
    if draw(st.booleans()):
        options["tile"] = (16, 32)
    byteorder = draw(st.sampled_from("<>"))
    if options["compression"] and depth[0] == "u" and draw(st.booleans()) and (HAS_IMAGECODECS or byteorder == "<"):
        options["predictor"] = 2

    def save(path):
        tifffile.imwrite(path, stored, byteorder=byteorder, metadata=None, **options)

    return save, expected, loss


@st.composite
def pillows(draw, rgb):
    """The same of a file that Pillow writes."""
    mode = draw(st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "LAB", "I;16"]))
    fits = {"png": {"RGB", "RGBA", "L", "LA", "P", "1", "I;16"}, "webp": {"RGB", "RGBA"}, "gif": {"P", "L", "1"},
            "jpg": {"RGB", "L", "CMYK", "YCbCr"}, "jp2": {"RGB", "RGBA", "L"}, "bmp": {"RGB", "L", "P", "1"},
            "tif": {"RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "LAB", "I;16"}}  # fmt: skip
    name = draw(st.sampled_from([name for name, modes in fits.items() if mode in modes]))
    picture = Image.fromarray(rgb)
    alpha = Image.fromarray(np.random.default_rng(1).integers(0, 256, rgb.shape[:2], dtype=np.uint8))
    expected = {"L": grey3(picture.convert("L")), "1": grey3(picture.convert("1").convert("L"))}.get(mode, rgb)
    loss = 12.0 if name == "jpg" else 1.5
    if mode in {"RGBA", "LA"}:
        picture = picture.convert(mode)
        picture.putalpha(alpha)
        base = rgb if mode == "RGBA" else grey3(Image.fromarray(rgb).convert("L"))
        expected = on_white(base, np.asarray(alpha))
    elif mode == "P":
        picture = picture.quantize(64)
        expected = np.asarray(picture.convert("RGB"))
    elif mode == "CMYK":
        picture = picture.convert("CMYK")
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture, loss = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB"), 6
    elif mode == "I;16":
        picture = Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
        expected = grey3(rgb[..., 0])
    else:
        picture = picture.convert(mode)
        loss += 2 * (mode == "YCbCr")
    options = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 98, "subsampling": 0}}.get(name, {})
    if name == "tif":
        options = {"compression": draw(st.sampled_from([None, "tiff_lzw", "tiff_adobe_deflate"]))}

    def save(path):
        picture.save(path, {"jp2": "JPEG2000", "jpg": "JPEG", "tif": "TIFF"}.get(name, name), **options)

    return save, expected, loss


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_picture_in_any_format_has_the_same_pixels(tmp_path_factory, data):
    rgb = smooth(data.draw(st.integers(17, 50)), data.draw(st.integers(17, 50)), data.draw(st.integers(0, 99)))
    save, expected, loss = data.draw(st.one_of(tifs(rgb), pillows(rgb)))
    path = tmp_path_factory.mktemp("any") / "picture"
    save(path)
    found, _ = read(path)
    # what goes into a table must be read the same when it comes back
    again = np.moveaxis(pyramid.as_pyramid(read_image(path)).picture(), 0, -1)
    assert found.dtype == np.uint8
    differences = off(found, expected), off(again, expected)
    assert max(differences) <= loss
