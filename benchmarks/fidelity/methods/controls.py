"""What must not tell anything: counts of other spots, and other colours of the same tissue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import Prediction, picture
from benchmarks.fidelity.methods.networks import expected, kriged, prior, scored_of

if TYPE_CHECKING:
    from benchmarks.fidelity.cases import Case
    from numpy.typing import NDArray

BRIGHTER = 0.05  # optical density taken from all pixels
MORE = np.array([0.9, 1.0, 1.1])  # times the optical densities of red, green and blue, as between two stainings


def shuffled_genes(case: Case) -> Prediction:
    """The prior, each gene's counts shuffled among the training spots."""
    from scipy import sparse

    spots = case.slide.spots
    values = np.random.default_rng(case.seed).permuted(spots.values.toarray(), axis=0)
    measured = replace(spots, values=sparse.csr_array(values))
    return replace(prior(replace(case, slide=replace(case.slide, measured=measured))), inside=None, skill=None)


def other_colours(case: Case) -> Prediction:
    """The prior from a picture of other colours; inside is what changes by less than its standard deviation."""
    from sphisto.tl._held_out import variance_at

    field, factors = kriged(case)
    posterior = field.given("all")
    counts = expected(case, posterior, factors)
    other = replace(case, slide=replace(case.slide, image=recoloured(picture(case))))
    changed = expected(other, kriged(other, factors)[0].given("all"), factors)
    # the kriged part alone, without the genes' own scatter: a picture has no part in that
    sd = np.sqrt(
        variance_at(posterior, case.regions.centers, scored_of(case, factors), counts, np.zeros(counts.shape[1]))
    )
    ratio = np.abs(changed - counts) / sd
    return Prediction(changed, inside=ratio < 1, note=f"median change {np.median(ratio):.2f} standard deviations")


def recoloured(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stain (3, y, x) pixels more in one colour and less in another, and light them more."""
    density = -np.log((image.astype(np.float32) + 1) / 256)
    lit = 256 * np.exp(BRIGHTER - density * MORE[:, None, None].astype(np.float32)) - 1
    return np.clip(lit, 0, 255).astype(np.uint8)
