"""Where in the tissue a place lies: how far its edge is, and how much tissue there is around.

Between spots of its own a section needs no such features. Without any they tell layers of an organ apart that look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sphisto.core.tiles import Window
from sphisto.core.upsample import COARSEST
from sphisto.slide.fingerprint import fingerprint
from sphisto.slide.slide import Slide


@dataclass(frozen=True)
class Surroundings:
    """Distance to the tissue's edge, and share of tissue around, as a :class:`sphisto.features.source.FeatureSource`."""

    widths_um: tuple[float, ...] = (200.0, 500.0, 1000.0)  # standard deviations of the surroundings, in um
    name = "surroundings"

    @property
    def hash(self) -> str:
        """Of the widths."""
        return fingerprint(self.widths_um)

    def of(self, slide: Slide) -> SurroundingsOf:
        """Return the surroundings in a section's tissue, whose holes are filled."""
        return SurroundingsOf(slide, self.widths_um)


@dataclass(frozen=True, eq=False)
class SurroundingsOf:
    """Surroundings in the tissue of one section; parameters as of :class:`Surroundings`."""

    slide: Slide
    widths_um: tuple[float, ...]

    stride = COARSEST
    may_be_flat = True  # of an image that is all tissue

    @property
    def um_per_px(self) -> float:
        """Side of a block in um."""
        return self.slide.grid.um_per_px * self.stride

    @property
    def channels(self) -> list[str]:
        """Names of the features."""
        return ["distance to the edge", *(f"tissue within {um:g} um" for um in self.widths_um)]

    def read(self, window: Window) -> NDArray[np.float32]:
        """(c, h / stride, w / stride) features of the blocks of a window, rounded up."""
        y, x = (
            slice(begin // self.stride, -(-end // self.stride))
            for begin, end in ((window.y0, window.y1), (window.x0, window.x1))
        )
        return self._maps[:, y, x]

    @cached_property
    def _maps(self) -> NDArray[np.float32]:
        gaps = 2  # blocks over which gaps in the tissue are closed
        half = self.stride // 2
        height, width = self.slide.grid.shape
        rows, columns = (np.minimum(np.arange(half, side + half, self.stride), side - 1) for side in (height, width))
        tissue = np.asarray(self.slide.tissue[rows[:, None], columns])
        # beyond the image goes on what lies at its border: the edge of an image is no edge of the tissue
        padded = np.pad(tissue, gaps, mode="edge")
        closed = ndimage.binary_closing(padded, iterations=gaps)[gaps:-gaps, gaps:-gaps]
        whole = ndimage.binary_fill_holes(closed | tissue)
        distance = (
            ndimage.distance_transform_edt(whole) if not whole.all() else np.full(whole.shape, np.hypot(*whole.shape))
        )
        shares = [
            ndimage.gaussian_filter(whole.astype(np.float32), um / self.um_per_px, mode="nearest")
            for um in self.widths_um
        ]
        return np.stack([np.asarray(distance, dtype=np.float32) * np.float32(self.um_per_px), *shares])
