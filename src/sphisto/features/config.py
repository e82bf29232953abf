"""Settings of texture, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass

from sphisto._ranges import require_ranges


@dataclass(frozen=True)
class TextureConfig:
    """Settings of the texture around each place.

    Parameters
    ----------
    points_per_pitch
        Blocks per spot distance at least, unless pixels are coarser.
    scales
        Standard deviations of the surroundings that are described, in spot radii.
    grains
        Bounds of the widths of grain, in spot radii: grain lies between one of these and the next.
    finest_px
        Px of a spot's radius from twice of which the image is averaged over blocks: finer detail is finer than the finest
        grain.
    truncate
        Standard deviations at which Gaussians end.
    """

    points_per_pitch: int = 4
    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    grains: tuple[float, ...] = (0.0, 0.12, 0.25, 0.5, 1.0)
    finest_px: int = 14
    truncate: float = 3.0

    def __post_init__(self) -> None:
        require_ranges(
            self,
            whole=("points_per_pitch", "finest_px"),
            several=("scales", "grains"),
            positive=("scales", "truncate"),
            not_negative=("grains",),
        )
        if len(self.grains) < 2:
            msg = f"Found scales={self.scales!r} and grains={self.grains!r} in TextureConfig; expected one and two at least."
            raise ValueError(msg)


@dataclass(frozen=True)
class DriftConfig:
    """Settings of what several sections teach each other: the regression of factors on features of the image.

    Parameters
    ----------
    scales
        Standard deviations of the surroundings whose texture is described, in spot radii: wider than for one section, whose
        own spots tell where in the tissue a place lies.
    landmarks
        Sites to which likeness is measured. More follow the features more closely; time grows with their square.
    linear
        Weight of features themselves, against 1 for likeness to landmarks.
    ridges
        Variances of a spot against that of the regression, among which each component chooses by how well sections are
        predicted from the others.
    trust
        Share of the likelihood of predicted sections by which ridges are weighted, 0.5 being all of it.
    slopes
        Shares of the regression among which a section with spots of its own chooses; 1 unless another predicts its left-out
        spots better beyond chance.
    least_spots
        Spots of a section from which what the others tell is corrected place by place; fewer only change its mean.
    pseudo_spots
        Spots of usual levels that are added to those of a section of fewer.
    near, near_spots
        Standard deviation, in pitches, of the Gaussian by which observations of registered sections are averaged, and
        observations of nothing that are added to them.
    per_section
        Share of that which is left in the next section, and again in the one after that; 0 to use registrations not at all.
    keep_spots
        Whether factors at the spots are kept in the model though no section of the fit is registered to another: sections
        can be laid upon them later.
    known
        Sites that are kept, to tell how far other sections are from all of them.
    """

    scales: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    landmarks: int = 400
    linear: float = 0.3
    ridges: tuple[float, ...] = (0.5, 1.5, 5.0, 15.0, 50.0)
    trust: float = 0.2
    slopes: tuple[float, ...] = (0.0, 0.5, 1.0)
    least_spots: int = 20
    pseudo_spots: float = 5.0
    near: float = 1.0
    near_spots: float = 1.0
    per_section: float = 0.8
    keep_spots: bool = False
    known: int = 2_000

    def __post_init__(self) -> None:
        require_ranges(
            self,
            whole=("landmarks", "known", "least_spots"),
            several=("scales", "ridges", "slopes"),
            positive=("scales", "ridges", "pseudo_spots", "near", "near_spots"),
            not_negative=("linear", "trust", "slopes"),
            shares=("per_section",),
            switches=("keep_spots",),
        )
