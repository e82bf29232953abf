"""Lay one section upon another by the outline of the tissue and its stain.

Sections are compared at some 40 um per pixel, in um, so that their scales may differ. A place (pose) is a (3, 3) matrix
from (y, x, 1) in um of the moving section to those of the fixed one. The search starts from many angles, as outlines
are often nearly symmetric, and also mirrored: whatever fits nearly as well somewhere else is no registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.slide.config import RegistrationConfig

Floats = NDArray[np.float64]
Model = Literal["rigid", "affine"]


@dataclass(frozen=True, eq=False)
class TissueMap:
    """Tissue of a section in coarse pixels."""

    tissue: Floats  # (h, w) share of each pixel on tissue
    stain: Floats  # (h, w) optical density without its slow drift, in units of its spread over the tissue; 0 outside
    um_per_px: float  # side of a pixel in um

    @cached_property
    def pixels(self) -> tuple[NDArray[np.intp], ...]:
        """Rows and columns of the pixels that are tissue."""
        return np.nonzero(self.tissue > 0.5)

    @cached_property
    def points(self) -> Floats:
        """(n, 2) middles (y, x) of these pixels in um."""
        return (np.stack(self.pixels, axis=1).astype(np.float64) + 0.5) * self.um_per_px

    @cached_property
    def middle(self) -> Floats:
        """Centroid (y, x) of the tissue in um."""
        return np.asarray(self.points.mean(axis=0))

    @property
    def fills_image(self) -> bool:
        """Whether the image shows hardly anything but tissue, so that it has no outline to go by."""
        return bool(self.tissue.mean() > 0.95)

    def at(self, image: Floats, points: Floats) -> Floats:
        """(n,) values of an image of this grid at (n, 2) points in um; 0 beyond it."""
        places = (points / self.um_per_px - 0.5).T
        found: Floats = ndimage.map_coordinates(image, places, order=1, mode="constant")
        return found


def tissue_map(
    image: Any, tissue: Any, um_per_px: float, config: RegistrationConfig = RegistrationConfig()
) -> TissueMap:
    """Make the coarse map of a section.

    From its (3, y, x) uint8 image and (y, x) bool tissue, in pixels of ``um_per_px``.
    """
    block = max(1, round(config.um_per_px / um_per_px))
    share = _means(np.asarray(tissue, dtype=np.float64), block)
    px = um_per_px * block
    if not (share > 0.5).any():
        msg = "Found no tissue in the image; expected some to register. Give its mask by `tissue` to `sphisto.io.section`."
        raise ValueError(msg)
    rgb = np.stack([_means(np.asarray(channel, dtype=np.float64), block) for channel in image])
    density = -np.log((rgb + 1) / 256).mean(axis=0)
    smooth = _mean_within(density, share, config.smooth_um / px)
    detail = smooth - _mean_within(density, share, config.flatten_um / px)
    inside = detail[share > 0.5]
    spread = inside.std() or 1.0
    stain = np.clip((detail - inside.mean()) / spread, -3, 3) * share
    return TissueMap(share, stain, px)


def _means(image: Floats, block: int) -> Floats:
    """Means of (y, x) blocks; what fills no block at the far edges is left out."""
    rows, columns = image.shape[0] // block, image.shape[1] // block
    if min(rows, columns) < 1:
        return np.full((1, 1), image.mean())
    found: Floats = image[: rows * block, : columns * block].reshape(rows, block, columns, block).mean(axis=(1, 3))
    return found


def _mean_within(values: Floats, weight: Floats, sigma: float) -> Floats:
    """Gaussian mean of values over the tissue around each pixel."""
    total = ndimage.gaussian_filter(weight, sigma)
    found: Floats = ndimage.gaussian_filter(values * weight, sigma) / np.maximum(total, 1e-3)
    return found


class Fit(NamedTuple):
    """How well two sections lie upon each other."""

    overlap: float  # Dice of the two outlines, 0 to 1
    stain: float  # Pearson correlation of stain where both have tissue

    def score(self, config: RegistrationConfig) -> float:
        """What is sought to be highest."""
        return self.overlap + config.stain_weight * self.stain


def fit_of(pose: Floats, moving: TissueMap, fixed: TissueMap, step: int = 1) -> Fit:
    """Compare two sections, by every ``step``-th pixel of the moving one."""
    points = moved(pose, moving.points[::step])
    there = fixed.at(fixed.tissue, points)
    growth = abs(np.linalg.det(pose[:2, :2]))
    area, both = growth * moving.um_per_px**2, there.sum() * step
    overlap = 2 * both * area / (moving.tissue.sum() * area + fixed.tissue.sum() * fixed.um_per_px**2)
    known = there > 0.5
    if known.sum() < 20:
        return Fit(float(overlap), 0.0)
    own = moving.stain[moving.pixels][::step][known]
    return Fit(float(min(overlap, 1)), _correlation(own, fixed.at(fixed.stain, points)[known]))


def _correlation(a: Floats, b: Floats) -> float:
    spread = a.std() * b.std()
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0


def moved(pose: Floats, points: Floats) -> Floats:
    """Bring (n, 2) points by a (3, 3) matrix to where they lie."""
    found: Floats = points @ pose[:2, :2].T + pose[:2, 2]
    return found


def distance(pose: Floats, other: Floats, moving: TissueMap) -> float:
    """Root mean square distance in um between where two poses put the tissue."""
    step = moved(pose, moving.points) - moved(other, moving.points)
    return float(np.sqrt((step**2).sum(axis=1).mean()))


def find_poses(
    moving: TissueMap, fixed: TissueMap, *, mirrored: bool, config: RegistrationConfig = RegistrationConfig()
) -> list[Floats]:
    """Return the rigid pose that fits best, then poses found on the way, which fit best around themselves."""
    step = max(1, len(moving.points) // config.most_points)
    flip = np.diag([1.0, -1.0]) if mirrored else np.eye(2)

    def pose(values: Floats) -> Floats:
        return _about_middles(_rotation(values[0]) @ flip, values[1:3], moving, fixed)

    def loss(values: Floats, step: int) -> float:
        return -fit_of(pose(values), moving, fixed, step).score(config)

    angles = np.arange(config.starts) * 2 * np.pi / config.starts
    starts = sorted((np.array([angle, 0, 0]) for angle in angles), key=lambda values: loss(values, step))
    near = [_minimised(loss, start, np.array([0.12, 150, 150]), step) for start in starts[: config.refined]]
    near.sort(key=lambda values: loss(values, step))
    best = _minimised(loss, _minimised(loss, near[0], np.array([0.03, 40, 40]), 1), np.array([0.01, 15, 15]), 1)
    return [pose(values) for values in (best, *near)]


def refined(
    pose: Floats, moving: TissueMap, fixed: TissueMap, model: Model, config: RegistrationConfig = RegistrationConfig()
) -> Floats:
    """Follow a pose to the place near by that fits best: turned and shifted, or also stretched and sheared."""
    at = moved(pose, moving.middle[None])[0] - fixed.middle

    def changed(values: Floats) -> Floats:
        shift, rest = values[:2], values[2:]
        change = _rotation(rest[0]) if model == "rigid" else np.eye(2) + rest.reshape(2, 2)
        return _about_middles(change @ pose[:2, :2], at + shift, moving, fixed)

    def loss(values: Floats, step: int) -> float:
        now = changed(values)
        stretch = np.linalg.svd(now[:2, :2], compute_uv=False)
        if model == "affine" and not (1 / config.stretch <= stretch.min() and stretch.max() <= config.stretch):
            return 1.0
        return -fit_of(now, moving, fixed, step).score(config)

    steps = np.array([40, 40, *[0.03] * (1 if model == "rigid" else 4)])
    values = _minimised(loss, np.zeros(len(steps)), steps, 1)
    return changed(_minimised(loss, values, steps / 3, 1))


def pose_of_landmarks(moving: Floats, fixed: Floats, model: Model, *, allow_reflection: bool) -> Floats:
    """(3, 3) pose that brings (n, 2) landmarks nearest to those of the fixed section, by least squares."""
    if model == "affine":
        design = np.column_stack([moving, np.ones(len(moving))])
        rows = np.linalg.lstsq(design, fixed, rcond=None)[0].T
        return np.vstack([rows, [0, 0, 1]])
    middle, target = moving.mean(axis=0), fixed.mean(axis=0)
    u, _, v = np.linalg.svd((fixed - target).T @ (moving - middle))
    sign = 1.0 if allow_reflection else np.sign(np.linalg.det(u @ v))
    turn = u @ np.diag([1.0, sign]) @ v
    return _matrix(turn, target - turn @ middle)


def _about_middles(turn: Floats, shift: Floats, moving: TissueMap, fixed: TissueMap) -> Floats:
    """Pose that turns about the middle of the tissue and brings it to that of the other, and further by a shift."""
    return _matrix(turn, fixed.middle + shift - turn @ moving.middle)


def _rotation(angle: float) -> Floats:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _matrix(turn: Floats, shift: Floats) -> Floats:
    return np.vstack([np.column_stack([turn, shift]), [0, 0, 1]])


def _minimised(loss: Any, start: Floats, steps: Floats, step: int) -> Floats:
    """Follow a loss downhill from a start by simplices of given size."""
    from scipy.optimize import minimize

    simplex = np.vstack([start, start + np.diag(steps)])
    options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-5, "maxiter": 400}
    found: Floats = minimize(loss, start, args=(step,), method="Nelder-Mead", options=options).x
    return found


class AtSpots(NamedTuple):
    """How well expression agrees at spots that lie upon each other: means over genes of Spearman's correlation.

    By ranks, as a single pair of spots of very few counts, which differ from all others in every gene, can carry Pearson's.
    """

    agreement: float  # as registered; NaN if too few spots lie upon each other
    elsewhere: float  # the best of eight places two pitches away
    mean_elsewhere: float  # mean over these places


def agreement_at_spots(
    moving: Sequence[Floats], fixed: Sequence[Floats], pitch: float, config: RegistrationConfig = RegistrationConfig()
) -> AtSpots:
    """Compare expression of spots that lie upon each other with that of spots two pitches away.

    Of each section (n, 2) places (y, x) in um of the fixed section, and (n, G) log-normalised counts of common genes;
    ``pitch`` is the larger distance of neighbouring spots in um.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import rankdata

    (places, values), (others, there) = moving, fixed
    tree = cKDTree(others)

    def agreement(shift: Floats) -> float:
        away, nearest = tree.query(places + shift)
        near = away < config.near_pitches * pitch
        if near.sum() < config.least_spots:
            return float("nan")
        a, b = (rankdata(part, axis=0) for part in (values[near], there[nearest[near]]))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        spread = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
        varies = spread > 0
        return float(((a * b).sum(axis=0)[varies] / spread[varies]).mean()) if varies.any() else float("nan")

    angles = np.arange(8) * np.pi / 4
    shifts = config.probe_pitches * pitch * np.column_stack([np.sin(angles), np.cos(angles)])
    probes = np.array([agreement(shift) for shift in shifts])
    known = probes[np.isfinite(probes)]
    if not len(known):
        return AtSpots(agreement(np.zeros(2)), float("nan"), float("nan"))
    return AtSpots(agreement(np.zeros(2)), float(known.max()), float(known.mean()))
