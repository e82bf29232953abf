"""Loadings that a user gives to a fit, checked against its sections before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sphisto._facts import some
from sphisto._settings import logger
from sphisto.genes.loadings import Loadings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from sphisto.io.understood import Section
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
    for section in sections:
        _warn_of_unknown(found, section)
    common = set.intersection(*map(set, genes.values()))
    named, others = len(found.genes), len(common) - len(found.genes)
    logger.info(
        "%d programmes are given, of %s.",
        len(found.programmes),
        f"{named} genes; loadings of the {others} other genes are learned from the spots" if others else "all genes",
    )
    return replace(recipe, loadings=found)


def _warn_of_unknown(loadings: Loadings, section: Section) -> None:
    """Warn of programmes none of whose genes was counted in a section."""
    assert section.measured is not None
    unknown = loadings.without_counts(section.measured.genes, np.asarray(section.measured.values.sum(axis=0)).ravel())
    if unknown:
        logger.warning(
            "%s: no gene of the programme(s) %s has counts there, so that nothing is known of them. Leave them out of `loadings`, or "
            "give genes that were counted.", section.library_id, some([repr(name) for name in unknown]),
        )  # fmt: skip
