"""Settings of the drawn section; all sections are drawn with the defaults, so that each can be drawn again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DrawingConfig:
    """Sizes of what is drawn, and how finely."""

    lattice_um: float = 9.0  # distance of the places that nuclei may take, in um: no two nuclei overlap much
    # size of a fat cell in um, at the lower end of real ones, so that small sections show several
    vacuole_um: float = 42.0
    chromatin: float = 1.05  # optical density of haematoxylin in a nucleus: darker than any cytoplasm
    # most samples per pixel and axis for the outline of a nucleus; at 1 um per px or less one is enough
    subsamples: int = 4
    batch: int = 4096  # nuclei that are drawn together: bounds memory
