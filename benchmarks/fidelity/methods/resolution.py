"""sphisto on a coarser picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from benchmarks.fidelity.cases import picture
from benchmarks.fidelity.methods.network_ablations import network as usual_network
from benchmarks.fidelity.methods.networks import prior as usual_prior

if TYPE_CHECKING:
    from typing import Any

    from benchmarks.fidelity.cases import Case, Prediction


def prior(case: Case, *, times: int) -> Prediction:
    """The prior, with pixels of so many times the side."""
    return usual_prior(coarser(case, times))


def network(case: Case, *, times: int, **options: Any) -> Prediction:
    """Prior and network, with pixels of so many times the side; crops measure as many pixels as ever."""
    return usual_network(coarser(case, times), **options)


def coarser(case: Case, times: int) -> Case:
    """Average the picture over blocks of pixels, as the package does for ``um_per_px``; all places stay where they are."""
    from sphisto.io.pyramid import as_pyramid
    from sphisto.io.working_picture import working_picture

    slide, spots = case.slide, case.slide.spots
    whole = as_pyramid(np.moveaxis(picture(case), 0, -1))
    coarse, grid, _ = working_picture(whole, slide.grid, times * slide.grid.um_per_px)
    cut = slide.tissue[: grid.height * times, : grid.width * times]
    tissue = cut.reshape(grid.height, times, grid.width, times).mean(axis=(1, 3)) >= 0.5
    measured = replace(spots, centers=spots.centers / times, pitch=spots.pitch / times)
    return replace(
        case,
        slide=replace(slide, image=coarse, grid=grid, tissue=tissue, measured=measured),
        regions=replace(case.regions, centers=case.regions.centers / times),
    )
