"""Which figures of a registration separate neighbouring sections from others: the source of its limits.

    python -m benchmarks.registration

All pairs of the real sections of SPHISTO_DATA are registered as they are, with the moving section mirrored, by landmarks
of the registration found that are shifted by two pitches, and with a part of the moving tissue cut off. Neighbours are
sections of one tissue (her2st C2 to C5; mob_st_1 and mob_st_2), and halves of the molecules of drawn sections.

Limits that are read off some pairs say nothing of these. So they are chosen anew on the breast tumour alone and judged on
the other tissues, and the other way round. The last lines say how far three registrations in a circle miss their start: a
measure of error without a truth.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import sphisto as sp
from sphisto.io.image.pyramid import as_pyramid
from sphisto.io.registration import image_and_tissue, map_of
from sphisto.pp import _register as insides
from sphisto.slide.config import RegistrationConfig
from sphisto.slide.registration import doubts, place

if TYPE_CHECKING:
    from sphisto.io.understood import Section
    from sphisto.slide.poses import AtSpots
    from sphisto.slide.registration import Placed

NAMES = ("her2st_C2", "her2st_C3", "her2st_C4", "her2st_C5", "mob_st_1", "mob_st_2", "mouse_brain_coronal")
CONFIG = RegistrationConfig()
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


def turned(section):
    """The same section a quarter turn counter-clockwise."""
    image = np.ascontiguousarray(np.rot90(np.asarray(section.image.rgb(1)), axes=(1, 2)).transpose(1, 2, 0))
    y, x = section.measured.centers.T
    centers = np.column_stack([section.grid.width * section.grid.fullres_per_px[1] - x, y])
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


@dataclass(frozen=True)
class Row:
    """A registration: of which sections, in which case, whether it is right; how well it fits, also at spots."""

    pair: tuple[str, str]
    case: str
    right: bool
    placed: Placed
    spots: AtSpots | None
    found: sp.pp.Registration

    @property
    def figures(self) -> dict[str, float]:
        """What limits are set to, under the names of the limits."""
        gain = np.nan if self.spots is None else self.spots.agreement - self.spots.mean_elsewhere
        figures = {"least_overlap": self.placed.fit.overlap, "least_margin": self.placed.margin(CONFIG)}
        return figures | {"most_off_um": self.placed.off_um, "expression_gain": gain}


def row_of(moving, fixed, case: str, *, model="rigid", landmarks=None, allow_reflection=False) -> Row:
    """Register as `sp.pp.register` does, without its refusals, and print the figures."""
    marks = None if landmarks is None else insides._landmarks(landmarks, model, allow_reflection, moving, fixed)
    placed = place(map_of(moving), map_of(fixed), model, marks, allow_reflection=allow_reflection)
    spots = insides._at_spots(moving, fixed, placed, CONFIG)
    against = doubts(placed, spots, CONFIG)
    found = insides._registration(moving, fixed, model, placed, spots, against, CONFIG)
    values = (found.overlap, found.stain, found.margin, found.off_um, found.agreement, found.elsewhere)
    text = [f"{v:.0f}" if name == "off um" else f"{v:.3f}" for name, v in zip(HEAD[3:], values, strict=False)]
    weight = "refused" if against and spots is None else f"{found.weight:g}"
    print("| " + " | ".join([moving.library_id, fixed.library_id, case, *text, weight]) + " |", flush=True)
    right = case in ("neighbours", "affine", "mirrored, allowed") or "cut off" in case
    return Row((moving.library_id, fixed.library_id), case, right, placed, spots, found)


def half_of(row: Row) -> str:
    """Tissue of a pair: limits are chosen on one and judged on the other; empty for pairs of both."""
    first = [name.startswith("her2st") for name in row.pair]
    return "her2st" if first[0] or (first[1] and "mouse_brain_coronal" in row.pair) else "" if first[1] else "others"


def chosen(rows: list[Row]) -> dict[str, float]:
    """Limits half-way between the worst right registration and the best wrong one, of those that each limit is for."""
    whole = [row for row in rows if row.case in ("neighbours",)]
    shifted = [row for row in rows if "two pitches" in row.case]
    wrong = [row for row in rows if not row.right and row not in shifted]
    limits = {}
    for name, others in {
        "least_overlap": wrong,
        "least_margin": wrong,
        "expression_gain": wrong,
        "most_off_um": shifted,
    }.items():
        right, false = ([row.figures[name] for row in some] for some in (whole, others))
        worst, best = (max(right), min(false)) if name.startswith("most") else (np.nanmin(right), np.nanmax(false))
        limits[name] = float((worst + best) / 2)
    lost = [row.placed.fit.overlap for row in rows if "cut off" in row.case]
    return limits | {"least_overlap_with_spots": float(np.floor(100 * min(lost)) / 100)}


def judge(rows: list[Row], limits: dict[str, float]) -> None:
    """Print how many registrations are trusted under some limits, with spots and by outlines and stain alone."""
    config = replace(CONFIG, **limits)
    for case in dict.fromkeys(row.case.split(",")[0] for row in rows):
        some = [row for row in rows if row.case.split(",")[0] == case]
        spots = [not doubts(row.placed, row.spots, config) for row in some if row.spots is not None]
        alone = [not doubts(row.placed, None, config) for row in some]
        kind = "right" if some[0].right else "wrong"
        print(
            f"  {case} ({kind}): trusted {sum(spots)} of {len(spots)} with spots, {sum(alone)} of {len(alone)} without"
        )


def are_neighbours(a: str, b: str) -> bool:
    return a != b and a.split("_")[0] == b.split("_")[0]


def toys() -> dict[str, Section]:
    """Two drawn sections, each twice: with half of its molecules, and with the others and a quarter turn."""
    out = {}
    for number in (1, 2):
        adata = sp.datasets.toy(256, 256, um_per_px=8.0, rng=number)
        counts = adata.X.toarray().astype(int)
        first, second = adata.copy(), adata.copy()
        first.X = np.random.default_rng(0).binomial(counts, 0.5).astype(np.float32)
        second.X = (counts - first.X).astype(np.float32)
        for name, half in ((f"toy{number}_1", first), (f"toy{number}_2", second)):
            out[name] = replace(sp.io.section(half, check=False), library_id=name)
        out[name] = turned(out[name])
    return out


def main() -> None:
    sections = {name: section_of(name) for name in NAMES} | toys()
    flipped = {name: mirrored(section) for name, section in sections.items()}
    print("| " + " | ".join(HEAD) + " |")
    print("|---" * len(HEAD) + "|")
    rows, found = [], {}
    for a, b in itertools.permutations(sections, 2):
        near = are_neighbours(a, b)
        if near or (a < b and a.startswith("toy") == b.startswith("toy")):
            rows.append(row_of(sections[a], sections[b], "neighbours" if near else "others"))
            found[a, b] = rows[-1].found
            rows.append(row_of(flipped[a], sections[b], "mirrored"))
        if near and a < b:
            row_of(flipped[a], sections[b], "mirrored, allowed", allow_reflection=True)
            row_of(sections[a], sections[b], "affine", model="affine")
            rows += [row_of(cut(sections[a], share), sections[b], f"{share:.0%} cut off") for share in (0.1, 0.2, 0.3)]
            for angle in (0, 90, 180, 270):
                marks = shifted_landmarks(found[a, b], sections[a], np.deg2rad(angle))
                rows.append(row_of(sections[a], sections[b], f"two pitches, {angle} degrees", landmarks=marks))
    halves = {half: [row for row in rows if half_of(row) == half] for half in ("her2st", "others")}
    for (half, some), (other, rest) in (list(halves.items()), list(halves.items())[::-1]):
        limits = chosen(some)
        said = ", ".join(f"{name} {value:.3g}" for name, value in limits.items())
        print(f"Limits chosen on {half}: {said}. Judged on {other}:")
        judge(rest, limits)
    print("The limits of RegistrationConfig, on all:")
    judge(rows, {})
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
