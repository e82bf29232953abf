"""Which place of one section lies upon which of another, how well that is known, and whether it is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sphisto._facts import as_html, as_text
from sphisto.slide.config import RegistrationConfig
from sphisto.slide.poses import (
    AtSpots,
    Fit,
    Floats,
    Model,
    TissueMap,
    distance,
    find_poses,
    fit_of,
    moved,
    pose_of_landmarks,
    refined,
)


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """One section laid upon another: what :func:`sphisto.pp.register` found. Do not construct one yourself.

    Parameters
    ----------
    moving, fixed
        Names (library ids) of the two sections.
    matrix
        (3, 3) from (x, y, 1) in full-resolution px of the moving section to those of the fixed one, the frames of their
        ``obsm["spatial"]``.
    um_per_px
        Um per full-resolution px of the moving and of the fixed section.
    model
        ``"rigid"`` or ``"affine"``.
    by_landmarks
        Whether the user's landmarks decided it.
    overlap
        Overlap (Dice) of the outlines of the tissue, 0 to 1.
    stain
        Pearson correlation of smoothed stain where both have tissue.
    margin
        Lead of overlap + stain / 2 over any other place, turned or mirrored, where the moving section fits.
    off_um
        Um to the place near by where outlines and stain fit best: 0 unless landmarks decided.
    agreement, elsewhere
        Mean rank correlation over genes of log-normalised counts at spots that lie upon each other; and the highest of eight
        registrations two pitches away. NaN if a section has no spots.
    weight
        1 if the registration is trusted, 0 if not: then nothing should be carried over from one section to the other by
        it.
    why
        Why it is trusted or not, in words.
    """

    moving: str
    fixed: str
    matrix: NDArray[np.float64]
    um_per_px: tuple[float, float]
    model: Model
    by_landmarks: bool
    overlap: float
    stain: float
    margin: float
    off_um: float
    agreement: float
    elsewhere: float
    weight: float
    why: str

    def __repr__(self) -> str:
        return as_text(self._title, self._facts())

    def _repr_html_(self) -> str:
        return as_html(self._title, self._facts())

    @property
    def trusted(self) -> bool:
        """Whether the weight is above 0."""
        return self.weight > 0

    @property
    def reflected(self) -> bool:
        """Whether the moving section is mirrored."""
        return bool(np.linalg.det(self.matrix[:2, :2]) < 0)

    @property
    def turn(self) -> float:
        """Degrees, -180 to 180, by which the moving section is turned, from the x axis towards the y axis."""
        return float(np.rad2deg(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    def to_fixed(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Bring (n, 2) x, y in full-resolution px of the moving section to those of the fixed one."""
        return moved(self.matrix, np.asarray(points, dtype=np.float64))

    def to_moving(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Bring (n, 2) x, y in full-resolution px of the fixed section to those of the moving one."""
        inverse: NDArray[np.float64] = np.linalg.inv(self.matrix).astype(np.float64)
        return moved(inverse, np.asarray(points, dtype=np.float64))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as they are written into ``uns``."""
        return asdict(self) | {"um_per_px": np.asarray(self.um_per_px)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Registration:
        """Return the registration of which ``uns`` holds the plain values."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        moving_um, fixed_um = np.asarray(values["um_per_px"], dtype=np.float64).tolist()
        known |= {"matrix": np.asarray(values["matrix"], dtype=np.float64), "um_per_px": (moving_um, fixed_um)}
        return cls(**known | {"by_landmarks": bool(values["by_landmarks"]), "weight": float(values["weight"])})

    @property
    def _title(self) -> str:
        return f"Registration of {self.moving!r} to {self.fixed!r}"

    def _facts(self) -> dict[str, str]:
        x, y = (self.to_fixed(np.zeros((1, 2)))[0] * self.um_per_px[1]).round()
        mirrored = "mirrored and " if self.reflected else ""
        how = "by landmarks" if self.by_landmarks else "by outline and stain"
        spots = "not compared: a section has no spots, or too few lie upon each other"
        if np.isfinite(self.agreement):
            spots = f"correlation {self.agreement:.3f}; two pitches away at most {self.elsewhere:.3f}"
        return {
            "place": f"{self.model}, {mirrored}turned by {self.turn:.1f} degrees, origin at ({x:g}, {y:g}) um (x, y), {how}",
            "outlines": f"overlap {self.overlap:.3f} (Dice), {self.margin:.3f} ahead of any other place",
            "stain": f"correlation {self.stain:.3f}",
            "spots": spots,
            "weight": f"{self.weight:g}: {self.why}",
        }


@dataclass(frozen=True, eq=False)
class Placed:
    """A pose and how well it fits, before it is judged."""

    pose: Floats  # (3, 3) from (y, x, 1) in um of the moving section to those of the fixed one
    fit: Fit  # overlap and stain
    # rival_score, rival: score of the best other place, and that place in words
    rival_score: float
    rival: str
    off_um: float  # um to the place near by that fits best
    by_landmarks: bool  # whether landmarks decided the pose
    has_outlines: bool  # whether both images show where the tissue ends

    def margin(self, config: RegistrationConfig) -> float:
        """Lead over any other place."""
        return self.fit.score(config) - self.rival_score


def place(
    moving: TissueMap,
    fixed: TissueMap,
    model: Model,
    landmarks: tuple[Floats, Floats] | None,
    *,
    allow_reflection: bool,
    config: RegistrationConfig = RegistrationConfig(),
) -> Placed:
    """Find where a section lies upon another, by outline and stain or by landmarks ((n, 2) y, x in um of each)."""
    upright = find_poses(moving, fixed, mirrored=False, config=config)
    mirrored = find_poses(moving, fixed, mirrored=True, config=config)

    def score(pose: Floats) -> float:
        return fit_of(pose, moving, fixed).score(config)

    if landmarks is None:
        pose = max([upright[0], *([mirrored[0]] if allow_reflection else [])], key=score)
        if model == "affine":
            pose = refined(pose, moving, fixed, model, config)
        off_um = 0.0
    else:
        pose = pose_of_landmarks(*landmarks, model, allow_reflection=allow_reflection)
        off_um = distance(pose, refined(pose, moving, fixed, "rigid", config), moving)
    others = [other for other in upright + mirrored if distance(pose, other, moving) > config.other_place_um]
    rival = max(others, key=score, default=None)
    return Placed(
        pose,
        fit_of(pose, moving, fixed),
        -np.inf if rival is None else score(rival),
        "" if rival is None else _difference(rival, pose, moving),
        off_um,
        landmarks is not None,
        not (moving.fills_image or fixed.fills_image),
    )


def _difference(other: Floats, pose: Floats, moving: TissueMap) -> str:
    """Say how one place differs from another."""
    turn = other[:2, :2] @ np.linalg.inv(pose[:2, :2])
    if np.linalg.det(turn) < 0:
        return "mirrored"
    angle = abs(np.rad2deg(np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])))
    turned = f"turned by {angle:.0f} degrees, " if angle >= 1 else ""
    return f"{turned}{distance(other, pose, moving):.0f} um away on average"


def doubts(placed: Placed, at_spots: AtSpots | None, config: RegistrationConfig = RegistrationConfig()) -> list[str]:
    """List the reasons against a registration; nothing if it is trusted."""
    found = []
    if placed.has_outlines:
        least = config.least_overlap if at_spots is None else config.least_overlap_with_spots
        found = _doubts_of_images(placed, least, config)
    elif not placed.by_landmarks or at_spots is None:
        found.append("an image shows hardly anything but tissue, so that there is no outline to go by")
    if at_spots is None:
        return found
    here, best, mean = at_spots
    if not np.isfinite(here):
        found.append("too few spots lie upon each other")
    elif best >= here:
        found.append(f"expression agrees better at spots two pitches away (correlation {best:.3f} against {here:.3f})")
    elif here - mean < config.expression_gain:
        found.append(f"expression agrees as well at spots two pitches away (correlation {mean:.3f} against {here:.3f})")
    return found


def _doubts_of_images(placed: Placed, least_overlap: float, config: RegistrationConfig) -> list[str]:
    found = []
    if placed.fit.overlap < least_overlap:
        found.append(f"the outlines overlap by {placed.fit.overlap:.3f} (Dice), expected at least {least_overlap:g}")
    if (margin := placed.margin(config)) < config.least_margin:
        how = "better than here" if margin < 0 else "nearly as well as here"
        found.append(
            f"{placed.rival} it fits {how} (overlap + stain / 2 is {placed.rival_score:.3f} there and "
            f"{placed.fit.score(config):.3f} here, expected a lead of at least {config.least_margin:g})"
        )
    if placed.off_um > config.most_off_um:
        found.append(
            f"outlines and stain fit best {placed.off_um:.0f} um away from where the landmarks put it, expected at most "
            f"{config.most_off_um:g} um"
        )
    return found
