"""Settings of the gene model, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass

from sphisto._ranges import require_ranges


@dataclass(frozen=True)
class GeneModelConfig:
    """Settings of the factors and contrasts that carry all genes.

    Parameters
    ----------
    n_factors
        Most factor maps that carry all genes, and most contrasts that correct them. Time, memory and disk grow with it.
    least_factors, spots_per_factor, genes_per_factor
        A small section, or one of few genes, gets so many factors, or one for so many spots and genes if that is more:
        with fewer spots to a factor, factors hold their noise, and nearly as many factors as genes share nothing.
    iterations
        Passes of the factorisation. More fit a deep section better, but the noise of shallow ones.
    loading_shape
        Shape of the gamma prior of loadings, to which those of rare genes are shrunken: loadings vary over factors by a
        factor of two or so.
    loadings_strength
        How firmly ``loadings=`` of a fit hold; ``None``: each stays exactly as given. A number is the shape of a gamma prior
        around each given loading: it weighs as that many counts of the gene in that programme would, and is taken to be off
        by 1 / sqrt(strength) of itself; zeros stay. Genes of many counts then follow the spots, rare ones what was given.
        Without ``loadings=`` it plays no part.
    shrinking_passes
        Passes until loadings agree with their prior.
    least_certain
        Squared cosine of a contrast and what was estimated for it, from which it is kept. Set it to 1 for no contrasts.
    contrast_share
        Share of a contrast that is used: its values at the spots hold the noise that its loadings were estimated from.
    faint
        Counts in a spot that are added to a gene's level: a single count of a rarer gene would stand out as a contrast.
    sample
        Spots, drawn at random, from which factors are found; their loadings and the contrasts are then refitted to all
        spots. They predict held-out spots slightly better than factors of all spots do, and need less memory.
    pooled_counts
        Counts up to which neighbours are summed up before factors are looked for: single bins of a handful of counts do
        not show which genes go together. At least half a ``sample`` of sums are left. Bins are put into the factors one
        by one all the same.
    observed_counts
        Counts up to which neighbouring bins are summed up to the squares that the field is fitted to, as the counts of
        the usual bin demand. Lower it for finer squares: time and memory grow with their number.
    least_squares
        Such squares that are left at least.
    refits
        Passes of that refit, each of weights and loadings. More follow the spots beyond the sample more closely.
    scored_genes
        Genes by which spots are put into factors: those that distinguish factors most, with all others summed up as one,
        which keeps the Poisson likelihood. Of sections with 15,000 genes all of them took more time and predicted held-out
        spots slightly worse.
    most_spots
        Spots to which loadings and contrasts are refitted at most, and which are dense in memory at once.
    firm
        Counts by which a gene's level in one of several sections is drawn to its usual one: levels of rarer genes are noise.
    level_rounds, level_passes
        Rounds in which levels of several sections and loadings are adapted to each other, and passes of levels in each. With
        none, a difference in what sections are made of is taken for one of levels.
    level_shift
        Part of a difference in composition that goes to levels where it explains none of these: it may as well be one of
        how sections were measured. Set it to 0 where sections are known to differ in what they are made of.
    least_tissue
        Share of a spot on tissue below which its density is not scaled up further, for lying at the tissue's edge.
    """

    n_factors: int = 48
    least_factors: int = 12
    spots_per_factor: int = 6
    genes_per_factor: float = 1.5
    iterations: int = 60
    loading_shape: float = 1.0
    loadings_strength: float | None = None
    shrinking_passes: int = 10
    least_certain: float = 0.5
    contrast_share: float = 0.75
    faint: float = 0.1
    sample: int = 1_000
    pooled_counts: float = 50.0
    observed_counts: float = 20.0
    least_squares: int = 200
    refits: int = 3
    scored_genes: int = 2_000
    most_spots: int = 4_000
    firm: float = 20.0
    level_rounds: int = 1
    level_passes: int = 3
    level_shift: float = 1.0
    least_tissue: float = 0.25

    def __post_init__(self) -> None:
        require_ranges(
            self,
            whole=(
                "n_factors",
                "least_factors",
                "spots_per_factor",
                "iterations",
                "shrinking_passes",
                "sample",
                "refits",
                "least_squares",
                "scored_genes",
                "most_spots",
            ),
            positive=(
                *(("loadings_strength",) if self.loadings_strength is not None else ()),
                "firm",
                "pooled_counts",
                "observed_counts",
                "genes_per_factor",
                "loading_shape",
                "faint",
            ),
            whole_from_zero=("level_rounds", "level_passes"),
            shares=("least_certain", "contrast_share", "least_tissue", "level_shift"),
        )

    def n_factors_for(self, n_spots: int, n_genes: int) -> int:
        """Return how many factors a section of so many spots and genes may have."""
        supported = min(n_spots // self.spots_per_factor, int(n_genes / self.genes_per_factor))
        return min(self.n_factors, max(self.least_factors, supported))
