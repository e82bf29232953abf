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
        if not self.scales or len(self.grains) < 2:
            msg = f"Found scales={self.scales!r} and grains={self.grains!r} in TextureConfig; expected one and two at least."
            raise ValueError(msg)
