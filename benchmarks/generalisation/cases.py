"""A case: sections of one tissue, of one of which a fifth of the spots is hidden and only a share of the others is known."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from benchmarks.fidelity.held_out_spots import LEAST_SEEN, SHARE
from benchmarks.fidelity.shared import hold_out
from numpy.typing import NDArray
from scipy import sparse

from sphisto.config import FitConfig
from sphisto.features.maps import SectionFeatures
from sphisto.features.texture import Texture
from sphisto.genes.observations import informative
from sphisto.io import read_visium, section
from sphisto.io.slides import make_slide
from sphisto.pp import register
from sphisto.predict.conditioning import features_of
from sphisto.predict.sections import of_common_genes
from sphisto.scoring import metrics
from sphisto.slide.frames import frames_of
from sphisto.slide.slide import Slide

GROUPS = (("her2st_C2", "her2st_C3", "her2st_C4", "her2st_C5"), ("mob_st_1", "mob_st_2"))
TARGETS = {name: group for group in GROUPS for name in group}
SHARES = {"0%": 0.0, "5%": 0.05, "20%": 0.2, "40%": 0.4, "80%": 0.8}
OFTEN_SEEN = 0.1  # share of all known spots in which a gene is seen, of which each count says more


@dataclass(frozen=True, eq=False)
class Case:
    """Sections, which of them is the target (its place ``at``), the ``known`` (n,) of its spots, and those ``hidden`` (m,)."""

    slides: tuple[Slide, ...]
    at: int
    known: NDArray[np.bool_]
    hidden: NDArray[np.int64]
    seed: int

    @property
    def slide(self) -> Slide:
        return self.slides[self.at]

    @cached_property
    def kept(self) -> list[NDArray[np.bool_]]:
        """Of each section the spots that are known."""
        return [self.known if i == self.at else informative(slide) for i, slide in enumerate(self.slides)]

    @property
    def others(self) -> list[int]:
        return [i for i in range(len(self.slides)) if i != self.at]

    @cached_property
    def truth(self) -> NDArray[np.float64]:
        """(m, G) counts of the hidden spots."""
        return self.slide.spots.values[self.hidden].toarray().astype(np.float64)

    @cached_property
    def seen(self) -> NDArray[np.float64]:
        """(G,) share of the known spots of all sections in which a gene is seen."""
        every = sparse.vstack([slide.spots.values[kept] for slide, kept in zip(self.slides, self.kept, strict=True)])
        return np.asarray((every > 0).mean(axis=0)).ravel()

    @property
    def scored(self) -> NDArray[np.bool_]:
        return self.seen > LEAST_SEEN


def make_case(target: str, share: str, seed: int, data: Path) -> Case:
    """Hide the spots that the benchmark of single sections hides; of the others the first in a random order are known.

    So the same spots are scored whatever is known, and those that are known of a smaller share are among those of a larger.
    """
    slides = _slides(TARGETS[target], data)
    at = TARGETS[target].index(target)
    spots, rng = slides[at].spots, np.random.default_rng(seed)
    hidden = hold_out(spots, "random", SHARE, rng)
    known = np.zeros_like(hidden)
    known[rng.permutation(np.flatnonzero(~hidden))[: round(SHARES[share] * len(hidden))]] = True
    return Case(slides, at, known, np.flatnonzero(hidden), seed)


@cache
def _slides(group, data) -> tuple[Slide, ...]:
    """Sections in the order in which they were cut, each laid upon the one before."""
    sections = [section(read_visium(data / name)) for name in group]
    images = [replace(each, measured=None) for each in sections]  # spots of a target must not be seen
    found = [None, *(register(moving, fixed) for fixed, moving in pairwise(images))]
    frames = frames_of({each.library_id: one for each, one in zip(sections, found, strict=True)})
    slides = [replace(make_slide(each), frame=frames[each.library_id]) for each in sections]
    return tuple(of_common_genes([replace(each, name=name) for each, name in zip(slides, group, strict=True)]))


@cache
def texture_of(slide) -> SectionFeatures:
    """Texture as sphisto describes it for a section alone, computed once."""
    return features_of(slide, [Texture()], FitConfig())


def score(case: Case, values: NDArray[np.float64], variance: NDArray[np.float64] | None) -> dict[str, float]:
    """Scores of (m, G) expected counts at the hidden spots, and of the variances of their rates if there are any.

    Deviance explained is that of all scored genes together, against the hidden spots' own mean: a constant that no method
    knows without them.
    """
    scored, often, truth = case.seen > LEAST_SEEN, case.seen > OFTEN_SEEN, case.truth
    by_gene = metrics.pearson(metrics.expected_log_normalised(values), metrics.log_normalised(truth))
    values, truth = values[:, scored], truth[:, scored]
    flat = metrics.poisson_deviance(np.broadcast_to(truth.mean(axis=0), truth.shape), truth)
    found = {
        "pearson": np.nanmean(by_gene[scored]), "pearson_often": np.nanmean(by_gene[often]),
        "deviance": 1 - metrics.poisson_deviance(values, truth).sum() / flat.sum(),
        "genes": scored.sum(), "genes_often": often.sum(), "spots": len(truth),
    }  # fmt: skip
    if variance is not None:
        found["coverage"] = metrics.inside(truth, values, variance[:, scored]).mean()
    return {name: float(value) for name, value in found.items()}
