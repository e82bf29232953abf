"""Detail within spots: the total follows the stain of single pixels as it follows that of whole spots.

The root of the total is a Gaussian field of the covariance of all components plus a linear kernel in the stain, which is
pooled over footprints at spots and not pooled at pixels. Its slope has a normal prior whose variance is chosen by left-out
spots; at its posterior mean it is taken off before kriging and put back at pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sphisto.core.tiles import Window
from sphisto.features.stain import StainMaps
from sphisto.field.config import FieldConfig
from sphisto.field.equations import Equations
from sphisto.slide.slide import Slide

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Detail:
    """How the total varies within spots."""

    stain: StainMaps  # of the section
    slope: NDArray[np.float64]  # (2,) change of the root of the total with the stain
    n_plain: int  # number of factors that make up the total, the first ones
    offset: float  # that is added to a total before its root is taken
    # largest ratio of a pixel to its surroundings, and of these to a pixel: nuclei against cytoplasm differ less
    most: float = 20.0

    def on(self, slide: Slide) -> Detail:
        """Return the same detail, read from the image of another copy of the slide."""
        return replace(self, stain=replace(self.stain, stain=replace(self.stain.stain, slide=slide)))

    @property
    def at_spots(self) -> NDArray[np.float64]:
        """(n,) change of the root of the total at the spots of the slide."""
        return np.asarray(self.stain.at_spots @ self.slope)

    def ratio(self, window: Window, total: Floats) -> NDArray[np.float32]:
        """(h, w) total at the pixels of a window over the (h, w) total that is expected of usual stain."""
        change = np.einsum("p,pyx->yx", self.slope.astype(np.float32), self.stain.read(window))
        root = np.maximum(np.sqrt(np.maximum(total, 0) + self.offset) + change, 0)
        # squares of what varies are larger on average than the square of their mean: by the variance within spots
        fine = np.square(root) - self.offset - self.slope @ self.stain.within @ self.slope
        ratio = np.divide(fine, total, out=np.ones_like(fine), where=total > 0)
        return np.clip(ratio, 1 / self.most, self.most).astype(np.float32)


def choose_slope(
    equations: Equations, mixing: Floats, stain: Floats, shares: Floats, config: FieldConfig
) -> NDArray[np.float64] | None:
    """Return the (2,) slope of a kriged component in the stain of its spots, if it predicts left-out spots better.

    Errors at left-out spots have a closed form: the stain adds two columns to the covariance (Woodbury's identity).

    ``mixing`` (c,) and ``stain`` (c, 2) combine columns of the equations to the component and its stain; ``shares``
    (g,) are the weights of the nuggets.
    """
    values, at_spots = (equations.columns[equations.rows] @ some for some in (mixing, stain))
    alphas, knowns = equations.weights(mixing), equations.weights(stain)
    precisions = equations.precisions()

    def fitted(weight: float) -> tuple[Floats, Floats]:
        """(s,) squared errors at left-out spots, and the slope."""
        predicted, slope = np.zeros_like(values), np.zeros(stain.shape[1])
        for alpha, known, diagonal, share in zip(alphas, knowns, precisions, shares, strict=True):
            if weight > 0:
                spread = np.linalg.inv(np.eye(stain.shape[1]) / weight + at_spots.T @ known)
                own = spread @ (at_spots.T @ alpha)
                left = diagonal - np.einsum("np,pq,nq->n", known, spread, known)
                predicted += share * (values - (alpha - known @ own) / left)
                slope += share * own
            else:
                predicted += share * (values - alpha / diagonal)
        damped = np.clip(float(predicted @ values) / max(float(predicted @ predicted), np.finfo(np.float64).tiny), 0, 1)
        return np.square(values - damped * predicted), slope

    usual, _ = fitted(0.0)
    errors, slope = min((fitted(weight) for weight in config.stain_weights), key=lambda found: float(found[0].mean()))
    gain = usual - errors
    helps = bool(gain.mean() > config.stain_z * float(gain.std()) / math.sqrt(len(gain)))
    return np.asarray(slope, dtype=np.float64) if helps else None
