"""Where sections lie upon each other: frames that registrations join."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sphisto._settings import logger
from sphisto.core.grid import Grid
from sphisto.slide.poses import moved
from sphisto.slide.registration import Registration

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a section lies among those that lie upon each other."""

    group: str  # name of the section whose own frame is the common one
    matrix: Floats  # (3, 3) from (y, x, 1) in um of the section to um of the common frame
    step: int  # place of the section in the order in which sections were given: that in which they were cut
    # sections between it and the one at its step: 0, or 1 of a section that was laid upon that one later
    apart: int = 0

    def steps_to(self, other: Frame) -> int:
        """Sections from this one to another, at least one."""
        return max(abs(self.step - other.step) + self.apart + other.apart, 1)

    def common(self, grid: Grid, points: Floats) -> Floats:
        """Bring (n, 2) y, x in px of a grid over the section to um of the common frame."""
        return moved(self.matrix, grid.to_fullres(points) * grid.fullres_um_per_px)

    def on_top(self, registration: Registration) -> Frame:
        """Return the frame of a section that ``registration`` lays upon this one."""
        return Frame(self.group, self.matrix @ in_um(registration), self.step, self.apart + 1)


@dataclass(frozen=True, eq=False)
class GridInFrame:
    """A section's grid where it lies among others."""

    frame: Frame  # of the section
    grid: Grid  # over it

    def common(self, points: Floats) -> Floats:
        """Bring (m, 2) y, x in px of the grid to um of the common frame."""
        return self.frame.common(self.grid, points)


def in_um(registration: Registration) -> Floats:
    """(3, 3) from (y, x, 1) in um of the moving section to those of the fixed one."""
    (moving, fixed), swap = registration.um_per_px, np.eye(3)[[1, 0, 2]]
    return np.asarray(
        np.diag([fixed, fixed, 1]) @ swap @ registration.matrix @ swap @ np.diag([1 / moving, 1 / moving, 1])
    )


def frames_of(registrations: Mapping[str, Registration | None]) -> dict[str, Frame]:
    """Join sections by their registrations, as far as these are trusted: each gets a frame.

    ``registrations`` are by name, in the order in which sections were cut; ``None`` of one that was not laid upon
    another.
    """
    names = list(registrations)
    links: dict[str, list[tuple[str, Floats]]] = {name: [] for name in names}
    for name, registration in registrations.items():
        if registration is None:
            continue
        require_fixed(registration, links)
        if not registration.trusted:
            logger.info("%s: its registration is not trusted and is not used: %s.", name, registration.why)
            continue
        there = in_um(registration)
        links[name].append((registration.fixed, there))
        links[registration.fixed].append((name, np.asarray(np.linalg.inv(there), dtype=np.float64)))
    frames: dict[str, Frame] = {}
    for group in names:
        if group in frames:
            continue
        frames[group], waiting = Frame(group, np.eye(3), names.index(group)), [group]
        for name in waiting:  # it grows
            for other, there in links[name]:
                if other not in frames:
                    frames[other] = Frame(group, frames[name].matrix @ np.linalg.inv(there), names.index(other))
                    waiting.append(other)
    return frames


def require_fixed(registration: Registration, known: Mapping[str, object]) -> None:
    """Refuse a registration to a section that is not among the known ones."""
    if registration.fixed not in known:
        msg = (
            f"Found {registration.moving!r} registered to {registration.fixed!r}, which is not among the sections "
            f"{', '.join(map(repr, known))}; expected one of them. Register it to one with `sphisto.pp.register`, or give "
            "it as it is, without `registered`."
        )
        raise ValueError(msg)
