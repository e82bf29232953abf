"""Spots held out before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sphisto.core.splits import at_most, random_spots, spot_blocks
from sphisto.core.spot import Spot, median_pitch
from sphisto.genes.observations import informative
from sphisto.slide.slide import Slide

SPLITS = ("random", "blocks")


def check_split(split: str, share: float, *, known: Sequence[str] = SPLITS) -> None:
    """Refuse a way to split that is not among the ``known`` ones, or a share of the spots that makes no sense."""
    if split not in known:
        several = " Whole sections are left out of several: give a list of them." if split == "section" else ""
        msg = f"Found split={split!r}; expected one of {', '.join(map(repr, known))}.{several}"
        raise ValueError(msg)
    if not 0 < share < 1:
        msg = f"Found share={share:g}; expected a number between 0 and 1, for instance 0.2 to hold out a fifth."
        raise ValueError(msg)


def hold_out(
    slide: Slide, split: str, share: float, rng: np.random.Generator, *, least: int = 5, least_left: int = 10
) -> NDArray[np.bool_]:
    """Choose the (n,) spots to hold out, among those that measured something, be it nothing."""
    spots = slide.spots
    known = np.flatnonzero(informative(slide))
    drawn = (
        random_spots(len(known), share, rng)
        if split == "random"
        else spot_blocks(spots.centers[known], spots.pitch, share, rng)
    )
    n_out, n_left = int(drawn.sum()), int((~drawn).sum())
    if n_out < least or n_left < least_left:
        msg = (
            f"Found {len(known)} spots with counts, of which share={share:g} holds out {n_out} and leaves {n_left}; "
            f"expected at least {least} held out and {least_left} left. Change `share`, or evaluate a "
            f"section with more spots than {slide.name!r}."
        )
        raise ValueError(msg)
    held_out = np.zeros(len(spots.centers), dtype=bool)
    held_out[known[drawn]] = True
    return held_out


def some_of(held_out: NDArray[np.bool_], rng: np.random.Generator, *, most: int = 2_000) -> NDArray[np.int64]:
    """Positions of the held-out spots to score: all, or ``most`` of very many, whose genes would take long to score."""
    return at_most(np.flatnonzero(held_out), most, rng)


def without(slide: Slide, held_out: NDArray[np.bool_]) -> Slide:
    """Return the slide as if the held-out spots had not been measured."""
    spots, kept = slide.spots, np.flatnonzero(~held_out)
    centers = spots.centers[kept]
    return replace(
        slide, measured=replace(spots, centers=centers, values=spots.values[kept], pitch=median_pitch(centers))
    )


def mean_counts(slides: Sequence[Slide], spot: Spot) -> NDArray[np.float64]:
    """(G,) mean counts of each gene over the spots of some sections, per area of a spot."""
    sums = np.sum([np.asarray(slide.spots.values.sum(axis=0)).ravel() for slide in slides], axis=0, dtype=np.float64)
    area = sum(len(slide.spots.centers) * slide.spot.area_px(1.0) for slide in slides)
    return np.asarray(sums / area * spot.area_px(1.0))


def often_seen(slides: Sequence[Slide], names: Sequence[str] = (), *, least: float = 0.03) -> NDArray[np.bool_]:
    """(G,) genes that can be scored: among ``names``, or any if there are none, and seen in more than that share of spots."""
    seen = np.sum([np.asarray((slide.spots.values > 0).sum(axis=0)).ravel() for slide in slides], axis=0)
    asked = np.isin(slides[0].spots.genes, names) if names else True
    return np.asarray((seen > least * sum(len(slide.spots.centers) for slide in slides)) & asked)
