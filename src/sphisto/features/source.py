"""What a source of features of the image is: texture, an encoder's output, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.slide.slide import Slide


class PixelFeatures(Protocol):
    """Features of one section's image, read by window."""

    @property
    def stride(self) -> int:
        """Side of a block, in px of the section's grid; a block has one value of each feature."""

    @property
    def um_per_px(self) -> float:
        """Side of a block in um."""

    @property
    def channels(self) -> Sequence[str]:
        """Names of the c features."""

    def read(self, window: Window) -> NDArray[np.float32]:
        """(c, h / stride, w / stride) features of the blocks of a window, rounded up.

        The window, in px of the section's grid, begins where a block does and lies within the grid.
        """


@runtime_checkable
class FeatureSource(Protocol):
    """A source of features, which belongs to no section yet. It is never stored: a model records its name and hash."""

    @property
    def name(self) -> str:
        """By which messages and models call it."""

    @property
    def hash(self) -> str:
        """Of everything that decides the features beside the image: settings, weights, values."""

    def of(self, slide: Slide) -> PixelFeatures:
        """Return the features of a section's image; raise ValueError where there can be none."""
