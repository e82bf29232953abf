"""Sections that were moved by a known pose are found there; whatever is not unique is seen to be so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sphisto.slide.config import RegistrationConfig
from sphisto.slide.poses import (
    TissueMap,
    agreement_at_spots,
    distance,
    find_poses,
    fit_of,
    moved,
    pose_of_landmarks,
    refined,
    tissue_map,
)
from sphisto.slide.registration import doubts, place

UM = 60.0


def drawn(turn: float = 0.0, shift: tuple[float, float] = (0, 0), *, mirrored: bool = False, stretch: float = 1.0):
    """A pear with layers, turned about the middle of the image and shifted in um."""
    y, x = (np.mgrid[:80, :94] + 0.5) * UM
    y, x = y - 40 * UM - shift[0], x - 47 * UM - shift[1]
    if mirrored:
        x = -x
    angle = np.deg2rad(turn)
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x / stretch
    inside = (np.hypot(y, x) < 1400 + 350 * np.cos(np.arctan2(y, x)) + 150 * np.sin(2 * np.arctan2(y, x))).astype(float)
    stain = (np.sin(x / 260) + np.cos(y / 190 + x / 700)) * inside
    return TissueMap(inside, stain, UM)


def mean_error(pose, turn, shift, moving):
    """Distance in um from the true places of the moving tissue."""
    angle = np.deg2rad(turn)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([40 * UM, 47 * UM])
    true = (moving.points - middle) @ inverse.T + middle + shift
    return np.sqrt(((moved(pose, moving.points) - true) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("turn", [0, 35, 170, -100])
def test_a_section_is_found_where_it_was_moved_to(turn):
    moving, fixed = drawn(), drawn(turn, (300, -420))
    pose = find_poses(moving, fixed, mirrored=False)[0]
    assert mean_error(pose, turn, (300, -420), moving) < UM / 2
    assert np.linalg.det(pose[:2, :2]) == pytest.approx(1)
    fit = fit_of(pose, moving, fixed)
    assert fit.overlap > 0.97
    assert fit.stain > 0.95


def test_scales_may_differ():
    fine = drawn()
    coarse = TissueMap(ndimage.zoom(fine.tissue, 0.5, order=1), ndimage.zoom(fine.stain, 0.5, order=1), 2 * UM)
    pose = find_poses(coarse, fine, mirrored=False)[0]
    assert distance(pose, np.eye(3), coarse) < UM


def test_a_mirrored_section_is_doubted_unless_it_may_be_mirrored():
    moving, fixed = drawn(), drawn(20, mirrored=True)
    placed = place(moving, fixed, "rigid", None, allow_reflection=False)
    assert any("mirrored it fits better" in doubt for doubt in doubts(placed, None))
    allowed = place(moving, fixed, "rigid", None, allow_reflection=True)
    assert np.linalg.det(allowed.pose[:2, :2]) < 0
    assert doubts(allowed, None) == []


def test_a_round_section_without_texture_is_doubted():
    y, x = np.mgrid[:80, :80] - 39.5
    disc = (np.hypot(y, x) < 30).astype(float)
    placed = place(TissueMap(disc, 0 * disc, UM), TissueMap(disc, 0 * disc, UM), "rigid", None, allow_reflection=False)
    assert placed.fit.overlap > 0.97
    assert any("nearly as well" in doubt for doubt in doubts(placed, None))


def test_landmarks_that_lie_are_seen():
    moving = fixed = drawn()
    corners = np.array([[1500.0, 1500], [1500, 3500], [3200, 2500]])
    assert doubts(place(moving, fixed, "rigid", (corners, corners), allow_reflection=False), None) == []
    wrong = place(moving, fixed, "rigid", (corners, corners + [0, 400]), allow_reflection=False)
    assert wrong.off_um == pytest.approx(400, abs=20)
    assert any("where the landmarks put it" in doubt for doubt in doubts(wrong, None))


@pytest.mark.parametrize("model", ["rigid", "affine"])
def test_landmarks_give_the_pose_they_were_made_by(model, rng):
    points = rng.uniform(0, 3000, (6, 2))
    true = np.array([[0.8, -0.6, 100], [0.6, 0.8, -50], [0, 0, 1]])
    if model == "affine":
        true[0, 0] = 1.0
    found = pose_of_landmarks(points, moved(true, points), model, allow_reflection=False)
    np.testing.assert_allclose(found, true, atol=1e-9)


def test_rigid_landmarks_mirror_only_where_they_may(rng):
    points = rng.uniform(0, 3000, (5, 2))
    mirrored = points * [1, -1]
    assert np.linalg.det(pose_of_landmarks(points, mirrored, "rigid", allow_reflection=False)[:2, :2]) > 0
    found = pose_of_landmarks(points, mirrored, "rigid", allow_reflection=True)
    np.testing.assert_allclose(moved(found, points), mirrored, atol=1e-9)


def test_affine_follows_a_stretch():
    moving, fixed = drawn(), drawn(stretch=1.08)
    rigid = find_poses(moving, fixed, mirrored=False)[0]
    affine = refined(rigid, moving, fixed, "affine")
    assert fit_of(affine, moving, fixed).score(RegistrationConfig()) > fit_of(rigid, moving, fixed).score(
        RegistrationConfig()
    )
    assert np.linalg.svd(affine[:2, :2], compute_uv=False).max() == pytest.approx(1.08, abs=0.02)


def test_expression_tells_two_pitches(rng):
    y, x = (part.ravel() * 100.0 for part in np.mgrid[:12, :12])
    places = np.column_stack([y, x])
    waves = np.stack([np.sin(y / 150 + phase) + np.cos(x / 170 - phase) for phase in np.arange(20)], axis=1)
    noisy = [waves + rng.normal(0, 0.5, waves.shape) for _ in range(2)]
    right = agreement_at_spots((places, noisy[0]), (places, noisy[1]), 100)
    assert right.agreement > right.elsewhere + 0.1
    wrong = agreement_at_spots((places + [200, 0], noisy[0]), (places, noisy[1]), 100)
    assert wrong.elsewhere > wrong.agreement + 0.1
    far = agreement_at_spots((places + 5000, noisy[0]), (places, noisy[1]), 100)
    assert np.isnan(far.agreement)


def test_the_map_of_an_image_holds_stain_of_the_tissue_only(rng):
    image = np.full((3, 200, 200), 240, np.uint8)
    image[:, 50:150, 50:150] = rng.integers(60, 200, (100, 100))
    tissue = np.zeros((200, 200), bool)
    tissue[50:150, 50:150] = True
    found = tissue_map(image, tissue, 10.0)
    assert found.um_per_px == 40
    assert found.tissue.shape == (50, 50)
    assert not found.stain[found.tissue == 0].any()
    assert found.middle == pytest.approx([1000, 1000], abs=40)
    with pytest.raises(ValueError, match="no tissue in the image"):
        tissue_map(image, np.zeros_like(tissue), 10.0)
