"""Drawn slides whose tissue is known: each test puts one thing on the glass and asks whether it is in or out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from sphisto import datasets
from sphisto.slide import tissue as room
from sphisto.slide.config import TissueConfig

PINK = np.array([205.0, 120.0, 175.0])
UM = 8.0  # um per px of the drawn slides


def find_tissue(rgb, um_per_px):
    return np.asarray(room.find_tissue(rgb, um_per_px))


def glass(height=400, width=400, colour=(238, 236, 237), noise=1.0, rng=0):
    """A slide (y, x, 3) with nothing on it but scanner noise."""
    noisy = np.random.default_rng(rng).normal(colour, noise, (height, width, 3))
    return noisy.clip(0, 255).round().astype(np.uint8)


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def paint(slide, where, colour=PINK, rng=1):
    """Tissue: cells of one or two pixels, darker and lighter than the colour."""
    grain = ndimage.gaussian_filter(np.random.default_rng(rng).normal(0, 1, slide.shape[:2]), 1.0)
    tissue = colour + 60 * (grain / grain.std())[..., None] * [0.5, 0.8, 0.4]
    slide[where] = tissue.clip(0, 255).astype(np.uint8)[where]


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def frame_dots(shape, um, pitch_um=150.0, rows=3):
    """Printed marks (y, x) of 105 um along the border, in three rows."""
    away = np.ones(shape, bool)
    pitch = pitch_um / um
    for row in range(rows):
        near, far = pitch * (1.5 + row), [side - pitch * (1.5 + row) for side in shape]
        for along in np.arange(pitch * 1.5, min(shape) - pitch, pitch):
            for centre in ((near, along), (far[0], along), (along, near), (along, far[1])):
                away[tuple(np.round(centre).astype(int))] = False
    return ndimage.distance_transform_edt(away) <= 52.5 / um


@pytest.mark.parametrize("strip", [1, 2000])
def test_an_image_read_by_strips_has_the_same_tissue(strip):
    slide = glass(300, 300)
    paint(slide, disc(slide.shape, (150, 130), 90))
    by_strips = room.find_tissue(slide, 2.0, config=TissueConfig(strip=strip))
    np.testing.assert_array_equal(np.asarray(by_strips), find_tissue(slide, 2.0))


def test_the_least_piece_is_a_setting():
    slide = glass()
    paint(slide, disc(slide.shape, (150, 130), 90))
    assert find_tissue(slide, UM).any()
    large = TissueConfig(min_piece_mm2=5.0, sure_piece_mm2=5.0)  # the disc has 1.6 mm2
    assert not np.asarray(room.find_tissue(slide, UM, config=large)).any()


def test_two_pieces_and_a_hole_are_found_where_they_are():
    slide = glass()
    truth = disc(slide.shape, (150, 130), 90) | disc(slide.shape, (290, 300), 60)
    truth &= ~disc(slide.shape, (150, 130), 20)  # a hole of 0.08 mm2
    paint(slide, truth)

    mask = find_tissue(slide, UM)

    assert mask.dtype == bool
    assert mask.shape == slide.shape[:2]
    assert overlap(mask, truth) > 0.95
    assert not mask[150, 130]


def test_a_hole_smaller_than_a_duct_is_filled():
    slide = glass()
    body, lumen = disc(slide.shape, (200, 200), 100), disc(slide.shape, (200, 200), 8)  # 0.013 mm2
    paint(slide, body & ~lumen)
    assert find_tissue(slide, UM)[lumen].all()


def test_pale_fat_is_tissue():
    slide = glass(300, 300)
    truth = disc(slide.shape, (150, 150), 110)
    paint(slide, truth)
    fat = truth & (np.mgrid[:300, :300][1] > 150)
    seeds = np.random.default_rng(3).uniform(0, 300, (900, 2))  # cells of 80 um at 8 um per px
    near = cKDTree(seeds).query(np.indices((300, 300)).reshape(2, -1).T, 2)[0]
    lumen = (near[:, 1] - near[:, 0] > 1.0).reshape(300, 300)
    slide[fat & lumen] = glass(300, 300, rng=4)[fat & lumen]
    slide[fat & ~lumen] = (225, 190, 212)

    mask = find_tissue(slide, UM)

    assert mask[ndimage.binary_erosion(fat, iterations=6)].mean() > 0.98
    assert overlap(mask, truth) > 0.93


@pytest.mark.parametrize("grey", [False, True])
def test_printed_marks_dust_and_hairs_are_not_tissue(grey):
    slide = glass(700, 700)
    truth = disc(slide.shape, (350, 350), 180)
    paint(slide, truth)
    marks = frame_dots(slide.shape[:2], UM)
    slide[marks] = (150, 152, 150)
    specks = np.random.default_rng(0).random(truth.shape) < 2e-4
    slide[ndimage.binary_dilation(specks, iterations=3) & ~truth] = (90, 90, 100)
    slide[100:104, 200:500] = (60, 60, 60)  # a hair of 32 um
    if grey:
        slide = np.repeat(slide.mean(2, keepdims=True), 3, axis=2).astype(np.uint8)

    mask = find_tissue(slide, UM)

    assert overlap(mask, truth) > 0.95
    assert not mask[marks].any()


def test_a_smooth_stain_and_blurred_marks_are_not_tissue():
    slide = glass(600, 600).astype(float)
    y, x = np.mgrid[:600, :600]
    slide -= 50 * np.exp(-((y - 300) ** 2 + (x - 420) ** 2) / 2 / 60**2)[..., None] * [0.1, 1.0, 0.4]  # eosin
    blurred = ndimage.gaussian_filter((disc((600, 600), (520, 100), 50)).astype(float), 20)
    slide -= 70 * blurred[..., None]
    slide = slide.astype(np.uint8)
    truth = disc(slide.shape, (280, 260), 130)
    paint(slide, truth)

    mask = find_tissue(slide, UM)

    assert overlap(mask, truth) > 0.95
    assert not mask[520, 100]


@pytest.mark.parametrize("um", [0.5, 2.0, 8.0, 20.0])
def test_empty_glass_has_no_tissue_and_tissue_without_glass_is_all_tissue(um):
    slide = glass(300, 300)
    assert not find_tissue(slide, um).any()
    grain = max(1.0, 8.0 / um)
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, (300, 300)), grain)
    tissue = (PINK + 25 * (texture / texture.std())[..., None]).clip(0, 255).astype(np.uint8)
    assert find_tissue(tissue, um).all()


def test_glass_may_be_dark_and_the_picture_padded():
    for colour, padding in (((120, 122, 118), 0), ((238, 236, 237), 255), ((225, 224, 222), 0)):
        slide = glass(300, 300, colour)
        truth = disc(slide.shape, (150, 150), 80)
        paint(slide, truth, colour=np.array(colour) * [0.75, 0.45, 0.65])
        padded = np.pad(slide, ((40, 40), (60, 0), (0, 0)), constant_values=padding)
        truth = np.pad(truth, ((40, 40), (60, 0)))
        assert overlap(find_tissue(padded, UM), truth) > 0.95


@pytest.mark.parametrize(
    ("um", "size"), [(20.0, (129, 174)), (14.0, (300, 310)), (4.3, (900, 801)), (2.0, (1501, 1111))]
)
def test_the_mask_is_the_same_at_every_resolution(um, size):
    slide = glass(*size)
    centre = (size[0] / 2, size[1] / 2)
    truth = disc(slide.shape, centre, 0.35 * min(size))
    grain = max(1.0, 8.0 / um)
    texture = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, size), grain)
    tissue = PINK + 50 * (texture / texture.std())[..., None] * [0.5, 0.8, 0.4]
    slide[truth] = tissue.clip(0, 255).astype(np.uint8)[truth]
    mask = find_tissue(slide, um)
    assert mask.shape == size
    assert overlap(mask, truth) > 0.94


def test_turning_the_picture_turns_the_mask():
    slide = glass(320, 400)
    truth = disc(slide.shape, (150, 180), 90) & ~disc(slide.shape, (120, 240), 60)
    paint(slide, truth)
    mask = find_tissue(slide, UM)
    assert overlap(find_tissue(slide[::-1].copy(), UM)[::-1], mask) > 0.98
    assert overlap(find_tissue(slide.swapaxes(0, 1).copy(), UM).T, mask) > 0.98


def test_a_drawn_section_is_found():
    toy = datasets.toy(400, 400, um_per_px=4.0)
    truth = datasets.toy_truth(toy, "noise_a").values[0] > 0
    assert overlap(find_tissue(toy.uns["spatial"]["toy"]["images"]["hires"], 4.0), truth) > 0.97


def test_wrong_pictures_are_named():
    with pytest.raises(ValueError, match=r"shape \(4, 5\) and dtype uint8, expected \(y, x, 3\) uint8"):
        find_tissue(np.zeros((4, 5), np.uint8), 1.0)
    with pytest.raises(ValueError, match="dtype float64, expected"):
        find_tissue(np.zeros((4, 5, 3)), 1.0)
    for um in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="um_per_px is .*, expected a positive number"):
            find_tissue(np.zeros((4, 5, 3), np.uint8), um)
