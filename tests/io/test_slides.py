"""Every kind of input that cannot be right, and what is said of it."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import sphisto as sp
from sphisto.io.slides import make_slide


def slide_of(data, **options):
    making = {key: options.pop(key) for key in ("um_per_px", "repair") if key in options}
    return make_slide(sp.io.section(data, **options), **making)


def library(adata):
    return adata.uns["spatial"]["toy"]


def test_a_visium_anndata_becomes_arrays(small_toy):
    slide = slide_of(small_toy)
    assert slide.name == "toy"
    assert slide.grid.shape == (96, 112) == slide.tissue.shape
    np.testing.assert_array_equal(slide.image, np.moveaxis(library(small_toy)["images"]["hires"], -1, 0))
    np.testing.assert_allclose(slide.spots.centers[:, ::-1], small_toy.obsm["spatial"])
    np.testing.assert_array_equal(slide.spots.values.toarray(), small_toy.X.toarray())
    assert slide.spots.is_counts
    # the toy's array is drawn at 24 um pitch and read as Visium's 100 um
    assert slide.grid.um_per_px == pytest.approx(2 * 100 / 24)
    assert slide.spot_area == pytest.approx(np.pi * (24 * 0.55 / 2 / 2) ** 2)


def test_the_fitted_area_of_a_spot_is_its_disc(small_toy):
    slide = slide_of(small_toy)
    np.testing.assert_allclose(slide.footprint().area, slide.spot_area, rtol=1e-6)


def test_scaled_pictures_keep_spots_in_place(small_toy):
    library(small_toy)["scalefactors"]["tissue_hires_scalef"] = 0.5
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] * 2
    slide = slide_of(small_toy)
    np.testing.assert_allclose(slide.grid.fullres_per_px, (2, 2))
    np.testing.assert_allclose(slide.spots.centers[:, ::-1] * 2, small_toy.obsm["spatial"])


def test_a_coarser_grid_averages_blocks(small_toy):
    native = slide_of(small_toy)
    coarse = slide_of(small_toy, um_per_px=3 * native.grid.um_per_px)
    assert coarse.grid.shape == (32, 37)
    blocks = native.image[:, :96, :111].astype(float).reshape(3, 32, 3, 37, 3).mean(axis=(2, 4))
    assert np.abs(coarse.image - blocks).max() <= 0.5
    np.testing.assert_allclose(coarse.spots.centers * 3, native.spots.centers)


@pytest.mark.parametrize("shape", ["rgba", "grey", "sixteen_bit", "float"])
def test_pictures_of_other_kinds_are_converted_and_said(small_toy, caplog, shape):
    rgb = library(small_toy)["images"]["hires"]
    changed = {
        "rgba": np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        "grey": rgb.mean(axis=2).astype(np.uint8),
        "sixteen_bit": rgb.astype(np.uint16) * 257,
        "float": rgb.astype(np.float32) / 255,
    }[shape]
    library(small_toy)["images"]["hires"] = changed
    with caplog.at_level(logging.INFO, logger="sphisto"):
        slide = slide_of(small_toy)
    assert slide.image.shape == (3, 96, 112)
    assert slide.image.dtype == np.uint8
    if shape != "grey":
        np.testing.assert_array_equal(slide.image, np.moveaxis(rgb, -1, 0))
    assert any("toy:" in record.message for record in caplog.records)


def test_one_spot(small_toy):
    with pytest.raises(ValueError, match=r"Found 1 spot\(s\); a projection needs at least two"):
        sp.io.section(small_toy[:1].copy())


def test_spots_outside_the_picture(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + 60
    with pytest.raises(ValueError, match="toy: .*outside.*check=False"):
        slide_of(small_toy)


def test_the_lowres_picture_taken_for_full_resolution_names_the_scale_that_fits(small_toy):
    picture = library(small_toy)["images"]["hires"][::4, ::4]
    library(small_toy)["scalefactors"]["tissue_lowres_scalef"] = 0.25
    library(small_toy)["images"].pop("lowres", None)
    with pytest.raises(ValueError, match=r"tissue_lowres_scalef = 0.25 would fit \(`image_scale=0.25`, in a shell"):
        slide_of(small_toy, image=picture)
    assert slide_of(small_toy, image=picture, image_scale=0.25).grid.shape == (24, 28)


def test_spots_off_tissue(small_toy):
    mask = np.zeros((96, 112), dtype=bool)
    mask[:20, :20] = True
    with pytest.raises(ValueError, match="toy: .*tissue"):
        slide_of(small_toy, tissue=mask)


def test_a_flipped_picture_is_named():
    import sphisto as sp

    adata = sp.datasets.toy(160, 240, pitch_um=20, rng=3)
    mask = np.zeros((160, 240), dtype=bool)  # a wedge: no two orientations agree
    for y in range(160):
        mask[y, : 40 + y] = True
    inside = mask[tuple(adata.obsm["spatial"][:, ::-1].astype(int).T)]
    adata = adata[inside].copy()
    slide_of(adata, tissue=mask)
    with pytest.raises(ValueError, match="flipped left-right"):
        slide_of(adata, tissue=mask[:, ::-1])


def test_a_mask_of_other_proportions(small_toy):
    with pytest.raises(ValueError, match=r"tissue mask measures \(50, 50\) px.*proportions differ"):
        slide_of(small_toy, tissue=np.ones((50, 50), dtype=bool))


def test_missed_spots_are_added_to_the_tissue_and_said(small_toy, caplog):
    mask = np.ones((96, 112), dtype=bool)
    y, x = small_toy.obsm["spatial"][0, ::-1].astype(int)
    mask[y - 6 : y + 7, x - 6 : x + 7] = False
    with caplog.at_level(logging.WARNING, logger="sphisto"):
        slide = slide_of(small_toy, tissue=mask)
    assert slide.tissue[y, x]
    assert "1 of" in caplog.text
    assert "off the tissue" in caplog.text


@pytest.mark.parametrize("options", [{"um_per_px": -1}, {"um_per_px": "fine"}, {"um_per_px": np.nan}, {"spot_um": 0}])
def test_lengths_that_are_none(small_toy, options):
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=rf"Found {name}={value!r}; expected a finite number above 0"):
        slide_of(small_toy, **options)


def test_spots_of_an_unknown_shape(small_toy):
    with pytest.raises(ValueError, match="Found spot_shape='star'; expected 'disc' or 'square'"):
        slide_of(small_toy, spot_shape="star")


def test_spots_that_would_lie_on_each_other(small_toy):
    with pytest.raises(ValueError, match=r"spots of 5.5e\+04 um that lie 100 um apart.*in um \(not in pixels\)"):
        slide_of(small_toy, spot_um=55_000)


def test_positions_on_the_array_that_are_no_numbers_are_not_needed(small_toy):
    expected = slide_of(small_toy)
    small_toy.obs["array_row"] = "first"
    assert slide_of(small_toy).grid.um_per_px == pytest.approx(expected.grid.um_per_px, rel=0.02)


def test_no_spot_on_the_picture_is_refused_unasked(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"] + 1e12
    with pytest.raises(ValueError, match=r"None of the 44 spots lies on the image, which measures 96 x 112 px"):
        slide_of(small_toy, check=False)


def test_no_counts_on_the_picture(small_toy):
    small_toy.obsm["spatial"] = small_toy.obsm["spatial"].copy()
    small_toy.obsm["spatial"][3:] += 1000
    small_toy.X = np.asarray(small_toy.X.toarray()) * (np.arange(44) >= 3)[:, None]
    with pytest.raises(ValueError, match="The 3 of 44 spots that lie on the image hold no counts"):
        slide_of(small_toy, check=False)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((96, 112), np.nan), "mask of float64 with NaN; expected bool"),
        (np.full((96, 112), "tissue"), "mask of <U6 values; expected bool"),
        (np.zeros((0, 5), bool), r"mask of shape \(0, 5\)"),
    ],
)
def test_masks_that_are_none(small_toy, mask, message):
    with pytest.raises(ValueError, match=message):
        slide_of(small_toy, tissue=mask)


def test_a_mask_of_the_picture_fits_a_much_coarser_grid(small_toy):
    mask = np.zeros((96, 112), bool)
    mask[:, 40:] = True
    native = slide_of(small_toy, tissue=mask).grid
    coarse = slide_of(small_toy, tissue=mask, um_per_px=20 * native.um_per_px, check=False, repair=False)
    assert coarse.grid.shape == (4, 5)
    np.testing.assert_array_equal(coarse.tissue, np.broadcast_to(np.arange(5) >= 2, (4, 5)))


def test_pixels_larger_than_cells_are_said_to_be(small_toy, caplog):
    native = slide_of(small_toy)
    assert "shows no cells" not in caplog.text
    slide_of(small_toy, um_per_px=native.spot.um / 2)
    assert "shows no cells" in caplog.text
