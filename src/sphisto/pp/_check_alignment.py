"""Do spots and image belong together as they are?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sphisto.io.sections import as_section
from sphisto.io.slides import make_slide, misfit
from sphisto.slide.placement import Alignment

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from spatialdata import SpatialData

    from sphisto.io.understood import Section


def check_alignment(
    data: Section | AnnData | SpatialData | str | Path, *, image: Any = None, library_id: str | None = None
) -> Alignment:
    """Compare the spots with the tissue in the image, as given and in the seven other orientations.

    The commonest errors are a wrong image, a flip, swapped axes and a wrong scale factor. An orientation is scored by
    the intersection over union of the spots' cells and the tissue between them. Tissue that fills the image, or that
    is symmetric, cannot distinguish orientations; ``ties`` names those.

    Parameters
    ----------
    data
        AnnData in the Visium layout, SpatialData, the folder of a Space Ranger run, or a :class:`sphisto.io.Section`.
    image, library_id
        As in :func:`sphisto.io.section`.

    Returns
    -------
    The comparison: ``inside`` and ``on_tissue`` (shares of spots), ``fit`` (0 to 1), ``best``, ``best_fit``, ``ties``,
    and ``scale``: the factor on the positions with which they would follow the outline of the tissue clearly better, 1 if
    there is none (such tissue as fills its image cannot tell). A scale factor 10 % off is warned of.

    Raises
    ------
    ValueError
        If spots and image cannot be right together; the message says what is wrong and what corrects it.

    Examples
    --------
    >>> import sphisto as sp
    >>> adata = sp.datasets.toy(128, 128, pitch_um=24)
    >>> sp.pp.check_alignment(adata).inside
    1.0
    """
    section = as_section(data, image=image, library_id=library_id)
    section.require_spots()
    slide = make_slide(replace(section, check=False), repair=False)
    found, problem = misfit(section, slide)
    if problem:
        raise ValueError(problem)
    return found
