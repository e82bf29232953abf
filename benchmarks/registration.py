"""Which figures of a registration separate neighbouring sections from others: the source of its limits.

    python -m benchmarks.registration

All pairs of the real sections of SPHISTO_DATA are registered as they are, with the moving section mirrored, and by landmarks
of the registration found that are shifted by two pitches, and with a part of the moving tissue cut off. Neighbours are sections of one tissue (her2st C2 to C5; mob_st_1 and
mob_st_2). The last lines say how far three registrations in a circle miss their start: a measure of error without a truth.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

import sphisto as sp
from sphisto.io.image.pyramid import as_pyramid
from sphisto.io.registration import image_and_tissue, map_of
from sphisto.slide.config import RegistrationConfig
from sphisto.slide.registration import place

NAMES = ("her2st_C2", "her2st_C3", "her2st_C4", "her2st_C5", "mob_st_1", "mob_st_2", "mouse_brain_coronal")
HEAD = ("moving", "fixed", "case", "overlap", "stain", "margin", "off um", "spots", "2 pitches", "weight")


def section_of(name: str):
    """A section under its folder's name, so that all names differ."""
    found = sp.io.section(sp.io.read_visium(Path(os.environ["SPHISTO_DATA"]) / name), check=False)
    return replace(found, library_id=name)


def mirrored(section):
    """The same section as if the image had been flipped left-right."""
    image = np.ascontiguousarray(np.asarray(section.image.rgb(1))[:, :, ::-1].transpose(1, 2, 0))
    centers = section.measured.centers.copy()
    centers[:, 1] = section.grid.width * section.grid.fullres_per_px[1] - centers[:, 1]
    return replace(section, image=as_pyramid(image), measured=replace(section.measured, centers=centers))


def cut(section, share: float):
    """The same section with a share of its tissue, at the right, left out of its mask."""
    tissue = np.asarray(image_and_tissue(section)[1])
    tissue[:, np.cumsum(tissue.sum(axis=0)) > (1 - share) * tissue.sum()] = False
    rows, columns = (np.arange(n) * side // n for n, side in zip(section.grid.shape, tissue.shape, strict=True))
    return replace(section, tissue=tissue[np.ix_(rows, columns)])


def shifted_landmarks(found, moving, angle: float):
    """Spots of the moving section, and where the registration found puts them, two pitches away."""
    points = moving.measured.centers[:: max(len(moving.rows) // 20, 1), ::-1]
    step = 2 * moving.measured.pitch * found.um_per_px[0] / found.um_per_px[1]
    return points, found.to_fixed(points) + step * np.array([np.cos(angle), np.sin(angle)])


def row_of(moving, fixed, case: str, **how):
    """Register, and print the figures; those of a registration that is refused are measured again."""
    try:
        found = sp.pp.register(moving, fixed, **how)
    except ValueError:
        found, placed = None, place(map_of(moving), map_of(fixed), "rigid", None, allow_reflection=False)
        values = (*placed.fit, placed.margin(RegistrationConfig()), placed.off_um, np.nan, np.nan)
    else:
        values = (found.overlap, found.stain, found.margin, found.off_um, found.agreement, found.elsewhere)
    text = [f"{v:.0f}" if name == "off um" else f"{v:.3f}" for name, v in zip(HEAD[3:], values, strict=False)]
    weight = "refused" if found is None else f"{found.weight:g}"
    print("| " + " | ".join([moving.library_id, fixed.library_id, case, *text, weight]) + " |", flush=True)
    return found


def are_neighbours(a: str, b: str) -> bool:
    return a != b and a[:3] == b[:3]


def main() -> None:
    sections = {name: section_of(name) for name in NAMES}
    flipped = {name: mirrored(section) for name, section in sections.items()}
    print("| " + " | ".join(HEAD) + " |")
    print("|---" * len(HEAD) + "|")
    found = {}
    for a, b in itertools.permutations(NAMES, 2):
        near = are_neighbours(a, b)
        if near or a < b:
            found[a, b] = row_of(sections[a], sections[b], "neighbours" if near else "others")
            row_of(flipped[a], sections[b], "mirrored")
        if near and a < b:
            row_of(flipped[a], sections[b], "mirrored, allowed", allow_reflection=True)
            row_of(sections[a], sections[b], "affine", model="affine")
            for share in (0.1, 0.2, 0.3):
                row_of(cut(sections[a], share), sections[b], f"{share:.0%} cut off")
            for angle in (0, 90, 180, 270):
                marks = shifted_landmarks(found[a, b], sections[a], np.deg2rad(angle))
                row_of(sections[a], sections[b], f"two pitches, {angle} degrees", landmarks=marks)
    for a, b in itertools.combinations(NAMES, 2):
        if are_neighbours(a, b):
            there = found[a, b].to_fixed(sections[a].measured.centers[:, ::-1])
            back = found[b, a].to_fixed(there) - sections[a].measured.centers[:, ::-1]
            print(f"{a} to {b} and back: {np.sqrt((back**2).sum(1).mean()) * found[a, b].um_per_px[0]:.0f} um")
    for a, b, c in itertools.combinations(NAMES[:4], 3):
        points = sections[a].measured.centers[:, ::-1]
        away = found[b, c].to_fixed(found[a, b].to_fixed(points)) - found[a, c].to_fixed(points)
        print(f"{a}, {b}, {c}: {np.sqrt((away**2).sum(1).mean()) * found[a, c].um_per_px[1]:.0f} um")


if __name__ == "__main__":
    with sp.settings.override(verbosity="error"):
        main()
