"""Settings of the field that co-krigs factors, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass

from sphisto._ranges import require_ranges


@dataclass(frozen=True)
class FieldConfig:
    """Settings of the field; the covariance was chosen on one split of five sections and confirmed on two others.

    Parameters
    ----------
    solver
        Name in ``sphisto.field.solvers.SOLVERS``: ``"kriging"`` (co-kriging in position and features, in closed
        form) or ``"gaussian"`` (weighted averages of the spots around, without features).
    least_spots
        Number of spots from which ``"kriging"`` is used: fewer do not determine a covariance, and ``"gaussian"`` takes
        its place.
    most_spots
        Spots that are solved together at most; more are solved window by window, in time that grows with their
        number and not with its cube, and give the same but for what is too far away to matter.
    core, halo, blend
        Pitches along the sides of a window, around it from which spots enter, and from the border of two windows within
        which both are blended. A wider halo changes nothing that was measured, one of half that size a little.
    sample
        Spots, those in windows drawn at random, to which the free numbers of the field are fitted at most.
    use_features
        Whether features of the image may enter the covariance; they do where that helps to predict left-out spots.
    use_stain
        Whether the stain of single pixels may enter the covariance of the total; it does where that helps to predict the
        totals of left-out spots.
    stain_um_per_px
        Largest pixels in um at which it may: a nucleus is as wide as three or four of these. Larger ones do not show
        nuclei.
    stain_weights
        Weights of the stain, of variance 1 within spots, in the covariance of the total, among which is chosen.
    stain_z
        Standard errors by which the stain must reduce the squared errors of left-out totals.
    far, near
        Distances in pitches at which the covariance of places that are near and alike, and that of places that are near,
        end. Raise ``far`` for tissue of large uniform areas.
    near_weight, alike_weight
        Weights of places that are near, and of places that are alike wherever they are, against 1 for both together.
    likeness
        Lengths over which likeness fades, of the usual difference of features between spots, among which is chosen. Small
        bins, whose features scatter more, want a longer one.
    nuggets
        Variances at a single spot that are averaged over, each by how well it predicts left-out spots; those that no
        component needs are dropped. The largest ones are for bins of few counts.
    trust
        Share of the likelihood of left-out spots by which nuggets are weighted, 0.5 being all of it: spots are not
        independent.
    choosing
        Spots of a compact piece of the section on which it is tried whether features help.
    left_out
        Most spots at which the genes' skill is estimated; more improve the estimate little.
    points_per_pitch
        The field is computed at this many points per pitch at least, and interpolated in between.
    least_sum
        Counts in the usual spot from which densities may be brought to a common sum; of fewer, what a spot is made of
        is noise.
    """

    solver: str = "kriging"
    least_spots: int = 20
    most_spots: int = 1_500
    core: float = 16.0
    halo: float = 8.0
    blend: float = 2.0
    sample: int = 20_000
    use_features: bool = True
    use_stain: bool = True
    stain_um_per_px: float = 2.5
    stain_weights: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    stain_z: float = 0.5
    far: float = 24.0
    near: float = 4.0
    near_weight: float = 0.3
    alike_weight: float = 0.3
    likeness: tuple[float, ...] = (1.0, 2.0)
    nuggets: tuple[float, ...] = (0.05, 0.15, 0.5, 1.5, 5.0, 15.0, 50.0, 500.0)
    trust: float = 0.05
    choosing: int = 1_000
    left_out: int = 500
    points_per_pitch: int = 4
    least_sum: float = 20.0

    def __post_init__(self) -> None:
        require_ranges(
            self,
            whole=("least_spots", "most_spots", "sample", "choosing", "left_out", "points_per_pitch"),
            positive=(
                "core",
                "halo",
                "blend",
                "far",
                "near",
                "likeness",
                "nuggets",
                "stain_weights",
                "stain_um_per_px",
            ),
            several=("nuggets", "stain_weights", "likeness"),
            switches=("use_features", "use_stain"),
            not_negative=("near_weight", "alike_weight", "trust", "least_sum", "stain_z"),
        )
