"""Several sections: what they share, what they teach each other, and the field of each."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sphisto.features.config import TextureConfig
from sphisto.features.maps import SectionFeatures
from sphisto.features.shared import BoundFeatures, Scaling, share_features
from sphisto.features.surroundings import Surroundings
from sphisto.features.texture import Texture
from sphisto.field.drift import Drift, Taught, teach
from sphisto.field.field import Field
from sphisto.genes.levels import SharedModel, fit_shared
from sphisto.genes.observations import observe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sphisto.config import FitConfig
    from sphisto.features.source import FeatureSource
    from sphisto.slide.slide import Slide

logger = logging.getLogger("sphisto")

_LEAST_SHARED = 0.5  # of a section's counts are of genes that all have, at least


@dataclass(frozen=True, eq=False)
class Shared:
    """What c sections share.

    Parameters
    ----------
    model
        Loadings, and each section's levels.
    taught
        By all of them.
    bound
        Features of each.
    """

    model: SharedModel
    taught: Taught
    bound: tuple[BoundFeatures, ...]

    def drift(self, section: int) -> Drift | None:
        """Return what the others tell about a section; ``None`` if there is no other with spots."""
        name = self.bound[section].name
        others = self.taught.without(name)
        return Drift(others, self.bound[section]) if others.sections else None


def fit_together(
    slides: Sequence[Slide],
    kept: Sequence[NDArray[np.bool_]],
    sources: Sequence[FeatureSource],
    config: FitConfig,
    scaling: Scaling,
    seed: int,
) -> Shared:
    """Fit what sections share to the ``kept`` (n,) spots of each, all of the same genes.

    Parameters
    ----------
    slides
        Sections with measured spots, of different names.
    kept
        Spots that may be used; none of a section that is to be predicted without spots.
    sources, config, seed
        As of a single section.
    scaling
        How features of sections are standardised.
    """
    model = fit_shared([slide.spots for slide in slides], kept, config.genes, seed)
    maps = [SectionFeatures(slide, wide_sources(sources, config)).maps for slide in slides]
    pitches = [slide.spots.pitch for slide in slides]
    teaching = [i for i, each in enumerate(kept) if each.any()]
    features = share_features(
        [slides[i] for i in teaching], [maps[i] for i in teaching], [pitches[i] for i in teaching], scaling,
        config.drift, seed,
    )  # fmt: skip
    bound = tuple(features.of(slide, each, pitch) for slide, each, pitch in zip(slides, maps, pitches, strict=True))
    sections = [(slides[i].name, observe(slides[i], model.of(i), kept[i], config.genes), bound[i]) for i in teaching]
    taught = teach(features, sections, config.drift, least_sum=config.field.least_sum)
    return Shared(model, taught, bound)


def wide_sources(sources: Sequence[FeatureSource], config: FitConfig) -> tuple[FeatureSource, ...]:
    """Return the sources of features by which sections teach each other: texture reaches farther than for one alone."""
    texture = Texture(replace(TextureConfig(), scales=config.drift.scales))
    return (texture, Surroundings(), *(source for source in sources if source.name != texture.name))


def field_of(
    slide: Slide,
    shared: Shared,
    section: int,
    known: NDArray[np.bool_],
    features: SectionFeatures | None,
    config: FitConfig,
) -> Field:
    """Fit the field of one of the sections to its ``known`` (n,) spots, with what the others tell."""
    observations = observe(slide, shared.model.of(section), known, config.genes)
    return Field.fit(observations, features, config.field, shared.drift(section))


def of_common_genes(slides: Sequence[Slide]) -> list[Slide]:
    """Bring sections to the genes that all of them have, in the order of the first; what is left out is said.

    Raises
    ------
    ValueError
        If they have too few in common; the message says what their names look like.
    """
    common = set(slides[0].spots.genes).intersection(*(slide.spots.genes for slide in slides[1:]))
    genes = tuple(gene for gene in slides[0].spots.genes if gene in common)
    out = []
    for slide in slides:
        spots = slide.spots
        position = {gene: i for i, gene in enumerate(spots.genes)}
        values = sparse.csr_array(spots.values[:, [position[gene] for gene in genes]]) if genes else spots.values[:, :0]
        share = float(values.sum()) / max(float(spots.values.sum()), 1e-12)
        if share < _LEAST_SHARED:
            msg = (
                f"The sections have {len(genes)} genes in common, which carry {share:.0%} of the counts of "
                f"{slide.name!r}; expected at least {_LEAST_SHARED:.0%}. Names of its genes look like "
                f"{', '.join(spots.genes[:3])}, those of {slides[0].name!r} like {', '.join(slides[0].spots.genes[:3])}: "
                "bring both to symbols or to ids (`adata.var_names = adata.var['gene_ids']`), of one species."
            )
            raise ValueError(msg)
        if len(genes) < len(spots.genes):
            logger.info(
                "%s: %d of %d genes are in all sections and are used; they carry %.1f %% of its counts.",
                slide.name, len(genes), len(spots.genes), 100 * share,
            )  # fmt: skip
        out.append(replace(slide, measured=replace(spots, values=values, genes=genes, others=None)))
    return out
