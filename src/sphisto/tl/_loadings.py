"""Loadings that a user gives to a fit, checked against its sections before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sphisto._settings import logger
from sphisto.genes.loadings import Loadings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from sphisto.io.sections import Section
    from sphisto.train.recipe import Recipe


def with_loadings(recipe: Recipe, frame: pd.DataFrame | None, sections: Sequence[Section]) -> Recipe:
    """Return a recipe with the loadings of a table, if there is one; refuse those that cannot hold for the sections."""
    if frame is None:
        return recipe
    found = Loadings.from_frame(frame)
    if recipe.spec.one_map_per_gene:
        msg = (
            f"Found `loadings` together with network={recipe.network!r}, whose maps are single genes; expected one of factors, "
            "such as 'unet'."
        )
        raise ValueError(msg)
    genes = {}
    for section in sections:
        section.require_spots()
        if section.measured is None or not section.measured.is_counts:
            msg = (
                f"Found values of {section.library_id!r} that are no counts together with `loadings`, which say how counts "
                "divide into genes. Give the `layer` of raw counts to `sphisto.io.section`, or no loadings."
            )
            raise ValueError(msg)
        genes[section.library_id] = section.measured.genes
    found.require(genes)
    common = set.intersection(*map(set, genes.values()))
    named, others = len(found.genes), len(common) - len(found.genes)
    logger.info(
        "%d programmes are given, of %s.",
        len(found.programmes),
        f"{named} genes; loadings of the {others} other genes are learned from the spots" if others else "all genes",
    )
    return replace(recipe, loadings=found)
