from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sphisto.slide.misplacement import explain, explain_scale, explain_shift
from sphisto.slide.placement import AS_GIVEN, TURNS, Alignment, check_alignment

PITCH = 8.0
DONE_TO_THE_PICTURE = {
    "flipped left-right": lambda a: a[:, ::-1],
    "flipped up-down": lambda a: a[::-1],
    "rotated 180 degrees": lambda a: np.rot90(a, 2),
    "transposed (x and y swapped)": lambda a: a.swapaxes(0, 1),
    "rotated 90 degrees clockwise": lambda a: np.rot90(a, -1),
    "rotated 90 degrees counter-clockwise": lambda a: np.rot90(a, 1),
    "transposed and rotated 180 degrees": lambda a: np.rot90(a.swapaxes(0, 1), 2),
}


def section(height=300, width=360):
    """An asymmetric piece of tissue: a quarter ellipse with a bite."""
    y, x = np.mgrid[:height, :width]
    mask = (((y - 60) / 180) ** 2 + ((x - 50) / 130) ** 2 < 1) & (y > 60) & (x > 50)
    return mask & ~((y - 100) ** 2 + (x - 160) ** 2 < 30**2)


def spots(mask, pitch=PITCH):
    """Centres (n, 2) of a hexagonal array, those on the mask."""
    rows = np.arange(pitch / 2, mask.shape[0], pitch * np.sqrt(3) / 2)
    centres = [(y, x) for i, y in enumerate(rows) for x in np.arange(pitch * (1 + i % 2) / 2, mask.shape[1], pitch)]
    return np.array([c for c in centres if mask[int(c[0]), int(c[1])]])


def brute_force_fit(centers, mask, pitch):
    """The same overlap, by the distance of every pixel to every spot."""
    at = np.floor(centers)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    nearest = np.min([(y - a) ** 2 + (x - b) ** 2 for a, b in at], axis=0)
    cells = nearest <= (0.6 * pitch) ** 2
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return (cells & mask)[box].sum() / (cells | mask)[box].sum()


def test_spots_on_their_tissue_fit_and_nothing_is_said():
    mask = section()
    centers = spots(mask)
    found = check_alignment(centers, mask, PITCH)
    assert found.n_spots == len(centers)
    assert found.inside == found.on_tissue == 1.0
    assert found.fit == found.best_fit > 0.9
    assert found.best == AS_GIVEN
    assert explain(found, centers, mask.shape) is None


def test_fit_is_the_overlap_of_cells_and_tissue():
    mask = section()
    centers = spots(mask)[::3]
    assert check_alignment(centers, mask, PITCH).fit == pytest.approx(brute_force_fit(centers, mask, PITCH))


@pytest.mark.parametrize("turn", DONE_TO_THE_PICTURE)
def test_a_turned_picture_is_named_and_its_mending_mends_it(turn):
    mask = section()
    centers = spots(mask)
    turned = np.ascontiguousarray(DONE_TO_THE_PICTURE[turn](mask))

    found = check_alignment(centers, turned, PITCH)

    assert found.best == turn
    assert found.best_fit > 0.9 > found.fit + 0.1
    message = explain(found, centers, turned.shape)
    assert turn in message
    mend = re.search(r"`([^`]*image[^`]*)`", message).group(1)
    assert mend == TURNS[turn].mend
    assert np.array_equal(eval(mend, {"image": turned, "np": np}), mask)


@pytest.mark.parametrize("turn", DONE_TO_THE_PICTURE)
def test_the_command_for_a_shell_mends_a_turned_picture(turn, tmp_path):
    mask = section()
    turned = np.ascontiguousarray(DONE_TO_THE_PICTURE[turn](mask))
    Image.fromarray(turned).save(tmp_path / "IMAGE.png")
    message = explain(check_alignment(spots(mask), turned, PITCH), spots(mask), turned.shape, image_scale=0.25)
    command = re.search(r'`python -c "([^"]*)"`', message).group(1).replace("'IMAGE'", "'IMAGE.png'")
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "mended.png")), mask)
    assert "`--image mended.png --image-scale 0.25`" in message


def test_swapped_coordinates_are_told_from_the_columns():
    mask = section()
    centers = spots(mask)[:, ::-1]
    found = check_alignment(centers, mask, PITCH)
    assert found.best == "transposed (x and y swapped)"
    assert 'swap the columns of `adata.obsm["spatial"]`' in explain(found, centers, mask.shape)


def test_symmetric_tissue_is_no_error():
    y, x = np.mgrid[:200, :200]
    mask = ((y - 100) / 70) ** 2 + ((x - 103) / 72) ** 2 < 1
    centers = spots(mask)
    for flipped in (mask, mask[:, ::-1], mask[::-1], mask.T):
        assert explain(check_alignment(centers, flipped.copy(), PITCH), centers, flipped.shape) is None


def test_tissue_beyond_the_array_is_not_counted():
    mask = np.ones((200, 200), bool)
    mask[:, 150:] = False
    centers = spots(mask)
    centers = centers[(centers > 50).all(1) & (centers < 110).all(1)]  # a capture area inside a large section
    found = check_alignment(centers, mask, PITCH)
    assert found.fit > 0.9
    assert explain(found, centers, mask.shape) is None


def test_tissue_everywhere_cannot_tell_flips_but_tells_what_lies_outside():
    mask = np.ones((100, 180), bool)
    centers = spots(mask)
    assert explain(check_alignment(centers, mask[:, ::-1], PITCH), centers, mask.shape) is None
    found = check_alignment(centers, mask.T.copy(), PITCH)
    assert "transposed (x and y swapped)" in found.ties + (found.best,)
    assert "cannot decide which" in explain(found, centers, (180, 100))


@pytest.mark.parametrize("scale", [0.3, 3.3])
def test_a_wrong_scale_is_told_with_numbers(scale):
    mask = np.zeros((300, 360), bool)
    mask[100:250, 120:330] = True
    centers = spots(mask) * scale
    message = explain(check_alignment(centers, mask, PITCH * scale), centers, mask.shape)
    assert message.startswith(f"{len(centers)} of {len(centers)} spots lie" if scale < 1 else "")
    assert ("off the tissue" if scale < 1 else "outside the image") in message
    assert f"x {centers[:, 1].min():.0f} to {centers[:, 1].max():.0f} px" in message
    assert "300 x 360 px (y, x)" in message
    assert "scale factor" in message


@pytest.mark.parametrize("scale", [1 / 6, 0.5, 0.9, 1.1, 2, 20])
def test_the_outline_of_the_tissue_tells_the_scale(scale):
    mask = section()
    centers = spots(mask) * scale
    found = check_alignment(centers, mask, PITCH * scale)
    assert found.scale * scale == pytest.approx(1, abs=0.03)
    assert found.scale_fit > 0.9 > found.fit + 0.08
    own = 0.2 * scale
    if 0.8 < scale < 1.2:  # most spots lie on the tissue all the same
        assert f"A scale factor of about {own * found.scale:.3g} would fit instead of {own:.4g}" in explain_scale(
            found, own, {}
        )
        return
    message = explain(found, centers, mask.shape, image_scale=own, factors={"tissue_hires_scalef": 0.2})
    assert "tissue_hires_scalef = 0.2 would fit (`image_scale=0.2`, in a shell `--image-scale 0.2`)" in message
    assert "flipped" not in message


@pytest.mark.parametrize("scale", [0.97, 1.0, 1.03])
def test_a_scale_that_fits_is_left_alone(scale):
    mask = section()
    assert check_alignment(spots(mask) * scale, mask, PITCH * scale).scale == 1
    assert explain_scale(check_alignment(spots(mask), mask, PITCH), 0.2, {}) == ""


def test_tissue_that_fills_the_image_tells_no_scale():
    mask = np.ones((100, 180), bool)
    for scale in (0.5, 1.0, 2.0):
        assert check_alignment(spots(mask) * scale, mask, PITCH * scale).scale == 1


def test_a_part_of_the_spots_is_no_wrong_scale(rng):
    mask = section()
    centers = spots(mask)
    for kept in (rng.random(len(centers)) < 0.5, centers[:, 0] < 120, centers[:, 1] > 110):
        assert check_alignment(centers[kept], mask, PITCH).scale == 1


def test_positions_in_pixels_of_a_smaller_image_are_named():
    mask = section()
    found = check_alignment(spots(mask) / 5, mask, PITCH / 5)
    said = explain_scale(found, 1.0, {})
    assert "The positions seem to be pixels of a smaller image" in said
    assert "State that (`image_scale=4.97`, in a shell `--image-scale 4.97`), multiply" in said
    full = check_alignment(spots(mask) / 5, mask, PITCH / 5)
    assert "about 1, that of the full-resolution image, would fit" in explain_scale(full, 0.2, {})


def test_small_bins_are_taken_together_to_compare_scales():
    mask = section(600, 720).repeat(2, 0).repeat(2, 1)
    bins = np.argwhere(mask[1::3, 1::3]) * 3 + 1.5
    assert len(bins) > 5000
    assert check_alignment(bins * 0.9, mask, 3 * 0.9).scale * 0.9 == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("pitches", [(2, 0), (0, -3), (4, 5), (-6, 2)])
def test_a_cropped_image_is_told_by_the_outline_of_the_tissue(pitches):
    """The spots are moved, as if so much had been cut off the image, or added to it, at its upper left."""
    mask = np.pad(section(), 60)
    moved = np.multiply(pitches, PITCH)
    centers = spots(mask) + moved
    found = check_alignment(centers, mask, PITCH)
    np.testing.assert_allclose(found.shift, -moved, atol=PITCH / 3)
    assert found.shift_fit > 0.9 > found.fit + 0.1
    message = explain(found, centers, mask.shape, fullres_per_px=(4.0, 4.0))
    (x, y) = (int(word) for word in re.search(r'obsm\["spatial"\] \+= \((-?\d+), (-?\d+)\)', message).groups())
    np.testing.assert_allclose((y, x), -4 * moved, atol=4 * PITCH / 3)
    assert check_alignment(centers + np.array([y, x]) / 4, mask, PITCH).shift == (0, 0)
    assert "flipped" not in message


def test_a_small_shift_is_said_and_not_refused():
    mask = np.pad(section(), 60)
    centers = spots(mask) + (0.0, PITCH)
    found = check_alignment(centers, mask, PITCH)
    assert explain(found, centers, mask.shape) is None
    assert re.search(r"with the spots -\d full-resolution px along x", explain_shift(found, (1.0, 1.0)))


def test_spots_that_lie_right_or_are_some_of_a_sections_are_not_shifted(rng):
    mask = section()
    centers = spots(mask)
    for kept in (centers[:, 0] > 0, rng.random(len(centers)) < 0.5, centers[:, 0] < 120, centers[:, 1] > 110):
        assert check_alignment(centers[kept], mask, PITCH).shift == (0, 0)
    full = np.ones((100, 180), bool)  # without any outline
    assert check_alignment(spots(full), full, PITCH).shift == (0, 0)
    far = np.concatenate([centers, [[1e7, 1e7]]])  # of which nothing is drawn
    assert check_alignment(far, mask, PITCH).shift == (0, 0)


def test_bins_of_a_few_pixels_of_which_many_are_missing_are_not_shifted(rng):
    """Where the empty ones were left out: a px to and fro changes how such small cells are drawn."""
    mask = section()
    bins = np.argwhere(mask[1::2, 1::2]) * 2 + 1.0
    for share in (0.3, 0.5, 0.8):
        assert check_alignment(bins[rng.random(len(bins)) < share], mask, 2.0).shift == (0, 0)


def test_the_scale_factor_in_use_is_not_recommended():
    mask = section()
    found = check_alignment(spots(mask) * 0.9, mask, PITCH * 0.9)
    own = 1 / found.scale
    assert "image_scale=1`" not in explain_scale(found, 1.0, {"tissue_hires_scalef": 1.0 / 1.12})
    assert "tissue_hires_scalef" not in explain_scale(found, own, {"tissue_hires_scalef": own})


def test_shares_are_counted():
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True
    centers = np.array([[10.0, 10.0], [20.0, 29.9], [10.0, 30.0], [10.0, 60.0], [-0.1, 5.0]])
    found = check_alignment(centers, mask, 10.0)
    assert found.inside == pytest.approx(3 / 5)
    assert found.on_tissue == pytest.approx(2 / 5)
    assert "2 of 5 spots lie outside the image" in explain(found, centers, mask.shape)


def test_an_empty_mask_fits_nothing():
    mask = np.zeros((100, 100), bool)
    centers = spots(~mask)
    found = check_alignment(centers, mask, PITCH)
    assert (found.on_tissue, found.fit, found.best) == (0.0, 0.0, AS_GIVEN)
    assert "off the tissue" in explain(found, centers, mask.shape)


def test_scale_of_the_raster_does_not_matter():
    mask = section()
    centers = spots(mask)
    fine = mask.repeat(7, 0).repeat(7, 1)
    assert check_alignment(centers * 7, fine, PITCH * 7).fit == pytest.approx(
        check_alignment(centers, mask, PITCH).fit, abs=0.03
    )


def test_wrong_arguments_are_named():
    mask, centers = section(), spots(section())
    with pytest.raises(ValueError, match=r"spots have shape \(3,\), expected \(n, 2\)"):
        check_alignment(np.zeros(3), mask, PITCH)
    with pytest.raises(ValueError, match="at least one spot"):
        check_alignment(np.zeros((0, 2)), mask, PITCH)
    with pytest.raises(ValueError, match="finite"):
        check_alignment(np.full((1, 2), np.nan), mask, PITCH)
    with pytest.raises(ValueError, match="mask is an array of shape .* and dtype uint8, expected"):
        check_alignment(centers, mask.astype(np.uint8), PITCH)
    with pytest.raises(ValueError, match="pitch_px is 0, expected a positive number"):
        check_alignment(centers, mask, 0)


def test_the_result_is_frozen():
    with pytest.raises(AttributeError):
        Alignment(1, 1.0, 1.0, 1.0, AS_GIVEN, 1.0).fit = 0.0
