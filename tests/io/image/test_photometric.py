from __future__ import annotations

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from sphisto.io.image import pyramid
from sphisto.io.image.colours import Recoloured
from sphisto.io.image.open import open_image, read_image

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
    return np.moveaxis(np.asarray(opened.rgb()), 0, -1), opened.conversion.note or ""


def on_white(rgb, alpha):
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def grey3(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def in_lab(rgb):
    """A picture of 8 bits in steps of L*a*b* as a tif holds them, by LittleCMS: a*, b* are signed."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.fromarray(np.asarray(rgb, np.uint8)), *profiles, outputMode="LAB")


def steps_of(lab):
    """Its values as (y, x, 3) numbers."""
    values = np.asarray(lab)
    return np.dstack([values[..., :1].astype(int), np.ascontiguousarray(values[..., 1:]).view(np.int8)])


def off(found, expected):
    """Largest difference of a value."""
    return float(np.abs(found.astype(float) - expected).max())


# --- any format, mode, depth, compression, arrangement and alpha ------------------------------------------------------

LOSSLESS = [None, "zlib", "lzma"] + (["lzw", "packbits", "zstd"] if HAS_IMAGECODECS else [])


@st.composite
def tifs(draw, rgb):
    """A function that saves a picture in a tif, what must be read, the loss that is allowed, whether it holds L*a*b*."""
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
        stored = np.asarray(in_lab(rgb))
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
        if with_alpha != "zero":  # which stays so everywhere, and is no alpha therefore
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

    return save, expected, loss, kind == "cielab"


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
        picture = in_lab(rgb)
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

    return save, expected, loss, mode == "LAB"


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_picture_in_any_format_has_the_same_pixels(tmp_path_factory, data):
    rgb = smooth(data.draw(st.integers(17, 50)), data.draw(st.integers(17, 50)), data.draw(st.integers(0, 99)))
    save, expected, loss, is_lab = data.draw(st.one_of(tifs(rgb), pillows(rgb)))
    path = tmp_path_factory.mktemp("any") / "picture"
    save(path)
    found, _ = read(path)
    # what goes into a table must be read the same when it comes back
    again = np.moveaxis(pyramid.as_pyramid(read_image(path)).rgb(), 0, -1)
    assert found.dtype == np.uint8
    for picture in (found, again):
        if is_lab:  # half a step is up to 17 of 255 in saturated colours: compared in steps
            assert off(steps_of(in_lab(picture)), steps_of(in_lab(rgb))) <= 1
        else:
            assert off(picture, expected) <= loss


# --- each photometric interpretation ----------------------------------------------------------------------------------


def tif(path, stored, **options):
    tifffile.imwrite(path, stored, metadata=None, **options)
    return path


def raw_tif(path, samples, height, width, *tags):
    """A tif of one uncompressed strip with any tags, (code, type, values)."""
    formats = {3: "H", 4: "L", 5: "L"}
    entries = sorted([(256, 4, [width]), (257, 4, [height]), (259, 3, [1]), (278, 4, [height]),
                      (279, 4, [len(samples)]), (273, 4, [8]), *tags])  # fmt: skip
    end = 8 + len(samples) + len(samples) % 2
    long, body = end + 2 + 12 * len(entries) + 4, b""
    table = struct.pack("<H", len(entries))
    for code, kind, values in entries:
        value = struct.pack(f"<{len(values)}{formats[kind]}", *values)
        if len(value) > 4:
            value, body = struct.pack("<L", long + len(body)), body + value
        n = len(values) // 2 if kind == 5 else len(values)
        table += struct.pack("<HHL", code, kind, n) + value.ljust(4, b"\0")
    path.write_bytes(b"II*\0" + struct.pack("<L", end) + samples.ljust(end - 8, b"\0") + table + bytes(4) + body)
    return path


def ycbcr_tags(subsampling):
    return (258, 3, [8, 8, 8]), (262, 3, [6]), (277, 3, [3]), (530, 3, subsampling)


def test_white_is_zero(tmp_path):
    for bits, grey in ((8, GREY), (16, GREY.astype(np.uint16) * 257)):
        found, note = read(tif(tmp_path / f"{bits}.tif", (2**bits - 1) - grey, photometric="miniswhite"))
        assert off(found, grey3(GREY)) == 0
        assert "grey was inverted, as its lowest value is white" in note
    found, _ = read(tif(tmp_path / "1.tif", GREY < 99, photometric="miniswhite"))
    assert off(found, grey3((GREY >= 99) * 255)) == 0


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_odd_numbers_of_bits_are_spread(tmp_path, bits):
    grey = np.random.default_rng(0).integers(0, 2**bits, (8, 16), dtype=np.uint16)
    flat = (grey.reshape(-1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    samples = np.packbits(flat.astype(np.uint8)).tobytes()
    path = raw_tif(tmp_path / "a.tif", samples, 8, 16, (258, 3, [bits]), (262, 3, [1]), (277, 3, [1]))
    found, note = read(path)
    assert off(found, grey3(np.rint(grey / (2**bits - 1) * 255))) <= 1
    if HAS_IMAGECODECS:
        assert f"{bits} bits were spread over {8 if bits < 8 else 16}" in note


@pytest.mark.parametrize("factor", [256, 257, 1])
def test_palettes_of_16_and_of_8_bits(tmp_path, factor):
    table = np.random.default_rng(0).integers(0, 256, (3, 256), dtype=np.uint16)
    found, note = read(tif(tmp_path / "a.tif", GREY, photometric="palette", colormap=table * factor, tile=(16, 16)))
    assert off(found, np.moveaxis(table[:, GREY], 0, -1)) == 0
    assert "indexed colours were looked up in its palette" in note
    assert isinstance(open_image(tmp_path / "a.tif").levels[0], Recoloured)


def test_four_inks_are_no_alpha(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    for name, stored in (("8", inks), ("16", inks.astype(np.uint16) * 257)):
        found, note = read(tif(tmp_path / f"{name}.tif", stored, photometric="separated"))
        assert off(found, expected) <= 1
        assert "converted from CMYK to RGB" in note


def test_other_inks_are_refused(tmp_path):
    inks = np.zeros((20, 30, 4), np.uint8)
    path = tif(tmp_path / "a.tif", inks, photometric="separated", extratags=[(332, 3, 1, 2, True)])
    with pytest.raises(ValueError, match=r"a.tif' has photometric interpretation SEPARATED .* Save it as RGB"):
        open_image(path)


def test_brightness_and_colour_apart(tmp_path):
    ycbcr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    found, note = read(raw_tif(tmp_path / "a.tif", ycbcr.tobytes(), *RGB.shape[:2], *ycbcr_tags([1, 1])))
    assert off(found, RGB) <= 3
    assert "converted from YCbCr to RGB" in note
    narrow = (532, 5, [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1])
    path = raw_tif(tmp_path / "b.tif", ycbcr.tobytes(), *RGB.shape[:2], *ycbcr_tags([1, 1]), narrow)
    with pytest.raises(ValueError, match="has photometric interpretation YCBCR"):
        open_image(path)


def test_colours_that_are_subsampled_but_not_compressed(tmp_path):
    """Refused by name: no decoder knows them."""
    samples = bytes(20 * 30 + 2 * 10 * 15)
    with pytest.raises(ValueError, match=r"a.tif' .* YCBCR with subsampled colours"):
        read(raw_tif(tmp_path / "a.tif", samples, 20, 30, *ycbcr_tags([2, 2])))


@pytest.mark.parametrize(("subsampling", "loss"), [((1, 1), 4), ((2, 2), 40)])
def test_jpeg_in_a_tif(tmp_path, subsampling, loss):
    """Decoded to RGB by whatever decodes it; the rest is the loss of the subsampled colours."""
    path = tmp_path / "a.tif"
    if HAS_IMAGECODECS:
        arguments = {"level": 98, "outcolorspace": "ycbcr"}
        options = {"compression": "jpeg", "compressionargs": arguments, "subsampling": subsampling}
        tif(path, RGB, photometric="rgb", tile=(16, 16), **options)
    else:
        Image.fromarray(RGB).save(path, compression="jpeg", quality=98)
        loss = 40
    found, _ = read(path)
    assert off(found, RGB) <= loss
    with Image.open(path) as picture:
        assert off(found, np.asarray(picture.convert("RGB"))) <= 3


def test_uniform_colour_by_human_eyes(tmp_path):
    """Of 8 and 16 bits, with signs and without, as colour management has it."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    signed = np.asarray(ImageCms.profileToProfile(Image.fromarray(RGB), *profiles, outputMode="LAB"))
    deep = np.stack([signed[..., 0] * np.uint16(257), *(signed[..., i] * np.uint16(256) for i in (1, 2))], axis=-1)
    for name, stored in (("8", signed), ("16", deep)):
        found, note = read(tif(tmp_path / f"{name}.tif", stored, photometric="cielab"))
        assert off(found, RGB) <= 6
        assert "converted from CIE L*a*b* to RGB" in note
        half = 2 ** (stored.dtype.itemsize * 8 - 1)
        unsigned = np.dstack([stored[..., :1], stored[..., 1:] ^ stored.dtype.type(half)])
        assert off(read(tif(tmp_path / f"icc{name}.tif", unsigned, photometric="icclab"))[0], found) == 0


@pytest.mark.parametrize("kind", ["cfa", "logluv", "linear_raw"])
def test_other_interpretations_are_refused_by_name(tmp_path, kind):
    path = tif(tmp_path / "a.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[262].overwrite(int(tifffile.PHOTOMETRIC[kind.upper()]))
    with pytest.raises(ValueError, match=rf"a.tif' has photometric interpretation {kind.upper()} .* expected grey"):
        open_image(path)


def test_grey_with_alpha(tmp_path):
    alpha = RGB[..., 1]
    stored = np.dstack([GREY, alpha])
    found, note = read(tif(tmp_path / "a.tif", stored, photometric="minisblack", extrasamples=["unassalpha"]))
    assert off(found, on_white(grey3(GREY), alpha)) <= 1
    assert "the alpha channel was put on white" in note


def test_alpha_among_other_extra_samples(tmp_path):
    alpha = RGB[..., 1]
    stored = np.dstack([RGB, 255 - alpha, alpha])
    options = {"photometric": "rgb", "extrasamples": ["unspecified", "unassalpha"]}
    found, note = read(tif(tmp_path / "a.tif", stored, **options))
    assert off(found, on_white(RGB, alpha)) <= 1
    assert "1 extra sample without meaning left out" in note


def test_inverted_grey_and_palettes_in_all_levels(tmp_path):
    full = smooth(128, 128)[..., 0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        options = {"tile": (32, 32), "photometric": "miniswhite", "metadata": None}
        file.write(255 - full, subifds=1, **options)
        file.write(255 - full[::2, ::2], subfiletype=1, **options)
    opened = open_image(tmp_path / "a.tif")
    assert off(opened.rgb(2)[0], full[::2, ::2]) == 0
    assert off(opened.levels[0][5:9, 60:70][..., 0], full[5:9, 60:70]) == 0


@pytest.mark.parametrize(("names", "message"), [
    (["DAPI", "FITC", "Cy5"], r"a.tif' has 3 channels \(DAPI, FITC, Cy5\). This seems to be a fluorescence"),
    (["DAPI", "GFP", "RFP", "Cy5"], r"a.tif' has 4 channels .* fluorescence"),
    (["u", "v", "w", "q"], r"a.tif' has 4 channels .* multi-channel"),
])  # fmt: skip
def test_channels_named_after_dyes(tmp_path, names, message):
    stored = np.zeros((len(names), 20, 30), np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(tmp_path / "a.tif", stored, ome=True, metadata=metadata, photometric="minisblack")
    with pytest.raises(ValueError, match=message):
        open_image(tmp_path / "a.tif")


def test_channels_named_after_colours_are_ordered(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["Blue", "Green", "Red"]}}
    stored = np.moveaxis(RGB[..., ::-1], -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, ome=True, metadata=metadata, photometric="minisblack")
    found, note = read(tmp_path / "a.tif")
    assert off(found, RGB) == 0
    assert "channels Blue, Green, Red were brought to the order red, green, blue" in note


def test_four_channels_of_16_bits_without_a_name(tmp_path):
    stored = np.random.default_rng(0).integers(0, 65536, (4, 20, 30), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")
    with pytest.raises(ValueError, match="Found four channels of uint16 .* fluorescence"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(("shades", "order"), [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0)), ("cmy", None)])
def test_composites_of_imagej(tmp_path, shades, order):
    shown = {"r": (1, 0, 0), "g": (0, 1, 0), "b": (0, 0, 1), "c": (0, 1, 1), "m": (1, 0, 1), "y": (1, 1, 0)}
    tables = [np.outer(shown[shade], np.arange(256)).astype(np.uint8) for shade in shades]
    metadata = {"axes": "CYX", "mode": "composite", "LUTs": tables}
    stored = np.moveaxis(RGB[..., list(order or (0, 1, 2))], -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata=metadata)
    if order is None:
        with pytest.raises(ValueError, match=r"shown as \(0, 255, 255\), .* multi-channel"):
            read(tmp_path / "a.tif")
    else:
        assert off(read(tmp_path / "a.tif")[0], RGB) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reader", ["tifffile", "pillow"])
def test_orientation_is_told_and_not_applied(tmp_path, monkeypatch, orientation, reader):
    if reader == "pillow":
        monkeypatch.setattr("sphisto.io.image.tiff._decodes", lambda *_: False)
    path = tif(tmp_path / "a.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    found, note = read(path)
    assert off(found, RGB) == 0
    assert (f"orientation tag ({orientation}) was not applied" in note) == (orientation > 1)
