"""Names of everything sphisto writes, in one place."""

from __future__ import annotations

MARK = "sphisto"  # attribute of a store's root that marks it as ours
TABLE = "table"
SPOT_ID = "spot_id"
REGION = "region"
GLOBAL = "global"  # coordinate system of a store's elements, but of sections that were fitted together
FORMAT = 2  # of stores; docs/store.md says what each holds
UNIT = "counts per spot area"  # also that of stores that do not state it
VALUE = "value per spot"  # of what are no counts


def unit(spot_shape: str, *, is_counts: bool) -> str:
    """Name the unit of a projection's genes: per area of what was measured, whose size the store states."""
    if not is_counts:
        return VALUE
    return "counts per bin area" if spot_shape == "square" else UNIT


def system(library_id: str, joint: str | None) -> str:
    """Name the coordinate system of a library: its own if it was fitted together with others under a ``joint`` name."""
    return GLOBAL if joint is None else library_id


def image(library_id: str) -> str:
    """Name the image that the network was given."""
    return f"{library_id}_image"


def spots(library_id: str) -> str:
    """Name the circles or squares of the spots."""
    return f"{library_id}_spots"


def tissue(name: str) -> str:
    """Name the tissue mask of a library, or of a projection: on the grid of its rasters."""
    return f"{name}_tissue"


def of_library(library_id: str) -> tuple[str, str, str]:
    """Name the elements of a library but its table: image, tissue, spots."""
    return image(library_id), tissue(library_id), spots(library_id)


def library_table(library_id: str) -> str:
    """Name the table of a library that is not the first of its store."""
    return f"{library_id}_table"


def factors(key: str) -> str:
    """Name the factor maps of a projection."""
    return f"{key}_factors"


def reconstruction(key: str) -> str:
    """Name the redrawn tissue image of a projection."""
    return f"{key}_reconstruction"


def sd(key: str) -> str:
    """Name the standard deviations of a projection's genes."""
    return f"{key}_sd"


def rasters(key: str) -> tuple[str, str, str, str]:
    """Name all rasters of a projection: factor maps, genes, their standard deviations, the redrawn image."""
    return factors(key), key, sd(key), reconstruction(key)


def within_tissue(key: str) -> tuple[str, str, str]:
    """Name the rasters of a projection that hold 0 outside its tissue: factor maps, genes, standard deviations."""
    return rasters(key)[:3]


def shift(key: str) -> str:
    """Name how far the features of places are from all that a projection of several sections has seen."""
    return f"{key}_shift"


def masked(key: str) -> tuple[str, ...]:
    """Name all rasters of a projection that hold 0 outside its tissue, also those that not every projection has."""
    return *within_tissue(key), shift(key)


def elements(key: str) -> tuple[str, ...]:
    """Name all elements that a projection can have: its rasters, its tissue, and how strange places are."""
    return *rasters(key), tissue(key), shift(key)


def of_section(key: str, library_id: str) -> str:
    """Name the projection, or the evaluation, of one of several sections: in the store, and in the section's table."""
    return f"{key}_{library_id}"


def dispersion(key: str) -> str:
    """Name the column of the scatter that no projection foresees, by gene."""
    return f"{key}_dispersion"


def loadings(key: str) -> str:
    """Name the (genes, K) loadings in ``varm``."""
    return f"{key}_loadings"


def fitted(key: str) -> str:
    """Name the (spots, K) fitted factor values in ``obsm``."""
    return f"{key}_fitted"


def skill(key: str) -> str:
    """Name the genes' Pearson correlation at held-out spots in ``var``, as a fit or an evaluation found it."""
    return f"{key}_pearson"


def deviance_explained(key: str) -> str:
    """Name the share of the genes' deviance at held-out spots that is explained, in ``var``."""
    return f"{key}_deviance_explained"


def ceiling(key: str) -> str:
    """Name the genes' noise ceiling in ``var``."""
    return f"{key}_ceiling"


def coverage(key: str) -> str:
    """Name, in ``var``, the share of the genes' held-out counts inside their predictive intervals."""
    return f"{key}_coverage"


def held_out(key: str) -> str:
    """Name the mark of the held-out spots in ``obs``."""
    return f"{key}_held_out"


def by_method(key: str) -> str:
    """Name the (genes, methods) Pearson correlations of an evaluation in ``varm``."""
    return f"{key}_by_method"


def skills(key: str) -> tuple[str, str, str]:
    """Name the columns of ``var`` that a fit writes."""
    return skill(key), deviance_explained(key), dispersion(key)


def in_var(key: str) -> tuple[str, ...]:
    """Name all columns of ``var`` that belong to a projection."""
    return *skills(key), ceiling(key), coverage(key)
