from __future__ import annotations

import numpy as np
import pytest
import tifffile

from sphisto.io.image.open import open_image
from sphisto.io.image.openslide import VendorLevel, open_vendor

openslide = pytest.importorskip("openslide", reason="OpenSlide, of the extra sphisto[slides], is not installed")

FULL = np.random.default_rng(0).integers(0, 256, (512, 768, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)


@pytest.fixture
def svs(tmp_path):
    """A slide as Aperio's scanners write them, but not compressed."""
    path = tmp_path / "slide.svs"
    options = {
        "tile": (256, 256),
        "photometric": "rgb",
        "metadata": None,
        "compression": "jpeg",
        "compressionargs": {"level": 95},
    }
    pytest.importorskip("imagecodecs")
    with tifffile.TiffWriter(path, bigtiff=False) as tif:
        for step in (1, 4):
            tif.write(
                FULL[::step, ::step],
                description="Aperio Image Library v1\r\n1536x1024 |AppMag = 20|MPP = 0.5",
                **options,
            )
    return path


def test_slides_are_read_by_window(svs):
    opened = open_image(svs)
    assert all(isinstance(level, VendorLevel) for level in opened.levels)
    assert opened.shape == (1024, 1536)
    assert opened.factors == ((1, 1), (4, 4))
    with openslide.OpenSlide(svs) as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        small = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"))
    np.testing.assert_array_equal(np.moveaxis(opened.rgb(), 0, -1), whole)
    np.testing.assert_array_equal(np.moveaxis(opened.rgb(4), 0, -1), small)
    np.testing.assert_array_equal(
        opened.levels[0][
            100:300,
            700:900,
        ][..., :3],
        whole[100:300, 700:900],
    )
    np.testing.assert_array_equal(opened.levels[1][10:30, 70:90][..., :3], small[10:30, 70:90])


def test_damaged_slides_are_named(svs):
    with tifffile.TiffFile(svs) as tif:
        offset, count = tif.pages.first.dataoffsets[0], tif.pages.first.databytecounts[0]
    content = bytearray(svs.read_bytes())
    content[offset : offset + count] = bytes(count)
    svs.write_bytes(content)
    with pytest.raises(ValueError, match=r"OpenSlide cannot read the slide .*slide.svs"):
        open_image(svs).rgb()


def test_other_files_are_left_to_others(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"nothing")
    assert open_vendor(tmp_path / "a.svs") is None
